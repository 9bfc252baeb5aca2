"""The child process of a LoRA run: parent's folder and rows in, adapter and figures out. Never opens the database.

    python -m ecotone.tuning.lora_child     (started by `jobs.child`)

Spec: `parent` (folder), `parent_id`, `parent_revision`, `data` (file), `out` (folder), `recipe`.
Result: figures for run record and card. Weights are read from safetensors alone, and no code from the model runs.
"""

import json
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from ecotone.jobs.child_side import receive
from ecotone.lineage import check_folder
from ecotone.tuning import data as rows_of
from ecotone.tuning.masking import BadRow, Encoder
from ecotone.tuning.recipes import Recipe

Report = Callable[[dict[str, Any]], None]

MOST_CONTEXT = 8192
_SMALL = 20_000_000  # parameters below which threads wait for each other longer than they work


class CannotTune(Exception):
    """The run ends here; the text says why and what to do."""


def main() -> int:
    spec, report = receive()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    report({"progress": 0.0, "text": "loading libraries"})
    try:
        import peft
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        report({"error": f'{error.name or error} is not installed; run: pip install "ecotone[tune]"'})
        return 1
    del peft
    from ecotone.tuning.training import Diverged

    torch.use_deterministic_algorithms(True)
    try:
        report({"result": run(spec, report)})
    except (CannotTune, Diverged) as error:
        report({"error": str(error)})
        return 1
    except torch.OutOfMemoryError:
        report({"error": "the device ran out of memory; shorten the rows or take a smaller parent"})
        return 1
    return 0


def run(spec: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train and write the adapter; returns the figures."""
    import torch

    from ecotone.tuning.training import SAMPLE, add_lora, train

    recipe = msgspec.convert(spec["recipe"], Recipe)
    folder = Path(spec["parent"])
    data = Path(spec["data"]).read_bytes()
    report({"progress": 0.02, "text": "loading the parent"})
    model, tokenizer = load(folder, str(spec["parent_id"]))
    if sum(p.numel() for p in model.parameters()) < _SMALL:
        torch.set_num_threads(1)
    context = context_of(model.config, tokenizer)
    encoder = Encoder(tokenizer, context)
    rows, silent = _encode(encoder, rows_of.read(data), stop_tokens(model, tokenizer))
    report({"log": f"{len(rows)} rows, {sum(len(ids) for ids, _ in rows)} tokens; the parent takes {context} tokens"})
    warnings = []
    if silent:
        warnings.append(f"{silent} of {len(rows)} rows do not end in a stop token, so that the model may not stop")
    adapted = add_lora(model, recipe)
    every = 1

    def watch(step: int, total: int, loss: float) -> None:
        nonlocal every
        every = max(1, total // 200)
        if step % every == 0 or step == total:
            report({"progress": 0.05 + 0.9 * step / total, "text": f"step {step} of {total}, loss {loss:.4f}"})

    trained = train(adapted, rows, recipe, watch)
    report({"progress": 0.96, "text": "writing the adapter"})
    save(adapted, Path(spec["out"]), str(spec["parent_id"]), str(spec["parent_revision"]))
    return {
        "steps": trained.steps,
        "trained_tokens": trained.trained_tokens,
        "losses": [round(loss, 6) for loss in trained.losses],
        "loss_before": round(trained.before, 6),
        "loss_after": round(trained.after, 6),
        "loss_rows": min(len(rows), SAMPLE),
        "trainable_parameters": trained.parameters,
        "parameters": sum(p.numel() for p in model.parameters()) - trained.parameters,
        "context": context,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "warnings": warnings,
    }


def load(folder: Path, parent_id: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, from safetensors and without running its code."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise CannotTune(f"{parent_id} is an adapter itself; tune the model that it adapts")
    on_gpu = torch.cuda.is_available()
    try:
        check_folder(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="auto" if on_gpu else torch.float32,
            attn_implementation="eager",
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a stranger's files make the libraries say
        raise CannotTune(f"{parent_id} cannot be loaded as a causal language model: {_said(error, folder)}") from None
    if not tokenizer.chat_template:
        raise CannotTune(f"{parent_id} has no chat template, so that rows of messages cannot be written for it")
    return model.to("cuda" if on_gpu else "cpu"), tokenizer


def _said(error: Exception, folder: Path) -> str:
    """What a library said, without the place of our files."""
    return str(error).replace(f"{folder}/", "").replace(str(folder), "its folder")[:400]


def context_of(config: Any, tokenizer: Any) -> int:
    """Tokens that a row may have."""
    told = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [n for n in (told, tokenizer.model_max_length) if isinstance(n, int) and 0 < n < 10**9]
    return min([*limits, MOST_CONTEXT])


def stop_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Tokens at which generation ends."""
    told = getattr(model.generation_config, "eos_token_id", None)
    found = set(told if isinstance(told, list) else [told]) | {tokenizer.eos_token_id}
    return {token for token in found if isinstance(token, int)}


def _encode(
    encoder: Encoder, rows: list[tuple[int, list[dict[str, Any]]]], stops: set[int]
) -> tuple[list[tuple[list[int], list[int]]], int]:
    """Tokens of all rows, and how many of them never show the model a stop token."""
    found, silent, broken = [], 0, []
    for line, messages in rows:
        try:
            ids, labels = encoder.encode(messages)
        except BadRow as error:
            broken.append(f"line {line}: {error}")
            continue
        silent += not encoder.ends(labels, stops)
        found.append((ids, labels))
    if broken:
        rest = f"; and {len(broken) - 20} more" if len(broken) > 20 else ""
        raise CannotTune(f"rows cannot be learned by this model. {'; '.join(broken[:20])}{rest}")
    return found, silent


def save(model: Any, out: Path, parent_id: str, parent_revision: str) -> None:
    """Write weights and configuration so that the same run gives the same bytes.

    PEFT writes a folder's path as the base and the target modules in the order of a set.
    """
    model.save_pretrained(out, safe_serialization=True)
    for file in out.iterdir():
        if file.name not in ("adapter_model.safetensors", "adapter_config.json"):
            file.unlink()
    place = out / "adapter_config.json"
    config = json.loads(place.read_text("utf-8"))
    config["base_model_name_or_path"] = parent_id
    config["revision"] = parent_revision
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)
    place.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def versions() -> dict[str, str]:
    """What computed it."""
    names = ("torch", "transformers", "peft", "tokenizers", "safetensors")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


if __name__ == "__main__":
    sys.exit(main())
