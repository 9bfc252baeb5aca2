"""What a model's folder holds, told from its small files before anything heavy is imported.

Weights are taken from safetensors alone: a pickle runs code when it is opened.
"""

import enum
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ecotone.engines.server.errors import Unloadable
from ecotone.lineage import BrokenIndex, check_folder, is_plain

_LARGEST_CONFIG = 16 * 1024 * 1024
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
_PLAIN_WORD = re.compile(r"[a-z0-9_]{1,64}")
_MOST_LAYERS = 4096


class Task(enum.StrEnum):
    """What the engine does with a model, by the Hub's names."""

    GENERATION = "text-generation"
    TEXT_TO_TEXT = "text2text-generation"
    EMBEDDING = "feature-extraction"
    SIMILARITY = "sentence-similarity"
    FILL_MASK = "fill-mask"
    TEXT_CLASSIFICATION = "text-classification"
    ZERO_SHOT_CLASSIFICATION = "zero-shot-classification"
    TOKEN_CLASSIFICATION = "token-classification"
    QUESTION_ANSWERING = "question-answering"

    @property
    def encodes(self) -> bool:
        """Whether the model reads text and writes none."""
        return self not in (Task.GENERATION, Task.TEXT_TO_TEXT)


_HEADS = {
    "ForMaskedLM": Task.FILL_MASK,
    "ForSequenceClassification": Task.TEXT_CLASSIFICATION,
    "ForTokenClassification": Task.TOKEN_CLASSIFICATION,
    "ForQuestionAnswering": Task.QUESTION_ANSWERING,
}
_REFINED = {  # what a card's tag tells beyond the files
    (Task.TEXT_CLASSIFICATION, "zero-shot-classification"): Task.ZERO_SHOT_CLASSIFICATION,
    (Task.EMBEDDING, "sentence-similarity"): Task.SIMILARITY,
}


@dataclass(frozen=True)
class Plan:
    """How a model is loaded.

    `weights` holds the model, `adapter` a LoRA adapter over it, `tokens` the tokenizer and chat template.
    """

    task: Task
    weights: Path
    tokens: Path
    adapter: Path | None
    config: dict[str, Any]
    weight_bytes: int


def plan(folder: Path, base: Path | None = None, tag: str | None = None) -> Plan:
    """Decide from the files how to load a model; `base` holds the base model of an adapter.

    Args:
        tag: the `pipeline_tag` of its card, which tells apart what the files cannot.

    Raises:
        Unloadable: naming what is missing or refused, and what to do.
    """
    adapter = None
    weights = folder
    if (folder / "adapter_config.json").exists():
        adapter, weights = folder, base or _no_base(folder)
        check_adapter(folder)
        if (weights / "adapter_config.json").exists():
            raise Unloadable(
                f"its base {base_of(folder)!r} is an adapter itself; merge that one into its own base first."
            )
    config = _read(weights / "config.json")
    if config is None:
        raise Unloadable("there is no config.json; upload the whole folder that save_pretrained wrote.")
    size = _check_weights(weights, "*.safetensors")
    _check_names(weights, config)
    _check_config(config)
    if "auto_map" in config and not config.get("model_type"):
        raise Unloadable("the model needs code of its own, which is never run here; its architecture is not built in.")
    _check_token_names(folder)
    _check_token_names(weights)
    has_tokens = any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json"))
    return Plan(
        task=_refined(_task(weights, config), tag),
        weights=weights,
        tokens=folder if has_tokens else weights,
        adapter=adapter,
        config=config,
        weight_bytes=size,
    )


def _check_names(weights: Path, config: dict[str, Any]) -> None:
    """Weights come from the model's own folder: nothing that it says leads a loader to another's."""
    try:
        check_folder(weights)
    except BrokenIndex as error:
        raise Unloadable(error.message) from None
    named = config.get("transformers_weights")
    if named is not None and not is_plain(named):
        raise Unloadable(f"config.json names the weights {str(named)[:200]!r}; a plain file name is expected.")


def _check_config(config: dict[str, Any]) -> None:
    """Refuse what would make a loader run code that is fetched by its name, or build a model for hours."""
    for name in _KERNELS:
        value = config.get(name)
        for wanted in value.values() if isinstance(value, dict) else (value,):
            if wanted is not None and not (isinstance(wanted, str) and _PLAIN_WORD.fullmatch(wanted)):
                raise Unloadable(
                    f"config.json asks for code of its own by {name} ({str(wanted)[:100]!r}), which is never run here; "
                    "remove it."
                )
    for name, value in config.items():
        if isinstance(value, int) and name.endswith(("layers", "n_layer")) and value > _MOST_LAYERS:
            raise Unloadable(f"config.json has {name}={str(value)[:40]}; at most {_MOST_LAYERS} are expected.")


def _check_token_names(folder: Path) -> None:
    config = json_file(folder / "tokenizer_config.json")
    several = config.get("fast_tokenizer_files") or ()
    if not isinstance(several, list | tuple) or not all(is_plain(name) for name in several):
        raise Unloadable("tokenizer_config.json has fast_tokenizer_files that are no plain file names.")
    for field, value in config.items():
        if field.endswith("_file") and isinstance(value, str) and ".." in PurePath(value).parts:
            raise Unloadable(
                f"tokenizer_config.json names {value[:200]!r} as {field}, outside of the model's folder; remove it."
            )


def base_of(folder: Path) -> str | None:
    """The model that an adapter's configuration names as its base; None when the folder is no adapter."""
    config = _read(folder / "adapter_config.json")
    return None if config is None else str(config.get("base_model_name_or_path") or "")


def json_file(path: Path) -> dict[str, Any]:
    """A small JSON object beside the weights; empty when there is none."""
    return _read(path) or {}


def _task(folder: Path, config: dict[str, Any]) -> Task:
    if (folder / "modules.json").exists():
        return Task.EMBEDDING
    names = [str(name) for name in config.get("architectures") or ()]
    headed = next((task for end, task in _HEADS.items() if any(name.endswith(end) for name in names)), None)
    if headed is not None:
        return headed
    if config.get("is_encoder_decoder") and not any(name.endswith("EncoderModel") for name in names):
        return Task.TEXT_TO_TEXT
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return Task.GENERATION
    return Task.EMBEDDING


def _refined(task: Task, tag: str | None) -> Task:
    return _REFINED.get((task, tag or ""), task)


def _no_base(folder: Path) -> Path:
    raise Unloadable(f"it is an adapter of {base_of(folder)!r}, and that base was not found in the hub; publish it.")


def check_adapter(folder: Path) -> None:
    """Raises Unloadable when a folder holds no LoRA adapter in safetensors."""
    config = json_file(folder / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise Unloadable(f"adapters of type {config.get('peft_type')!r} are not served; LORA is.")
    if config.get("megatron_config"):
        raise Unloadable("adapter_config.json asks for Megatron, which is not loaded here; remove megatron_config.")
    _check_weights(folder, "adapter_model*.safetensors")


def _check_weights(folder: Path, pattern: str) -> int:
    found = list(folder.glob(pattern))
    if found:
        return sum(path.stat().st_size for path in found)
    pickles = sorted(path.name for kind in _PICKLES for path in folder.glob(kind))
    if pickles:
        raise Unloadable(
            f"the weights are only there as {pickles[0]}, a format that can run code when it is opened. Only "
            "safetensors is loaded: convert with model.save_pretrained(folder), which writes model.safetensors, and "
            "upload that."
        )
    raise Unloadable("there are no weights (*.safetensors); upload them.")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    if path.stat().st_size > _LARGEST_CONFIG:
        raise Unloadable(f"{path.name} is larger than {_LARGEST_CONFIG} bytes.")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unloadable(f"{path.name} is not JSON: {str(error)[:200]}.") from None
    if not isinstance(found, dict):
        raise Unloadable(f"{path.name} holds no JSON object.")
    return found
