"""Loads what `folders` planned, by transformers and PEFT: from local safetensors only, without running foreign code."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open

from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import Plan, Task

_FULL_PRECISION_BYTES = 4 << 30  # above this, a CPU keeps the stored precision rather than doubling the memory
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_MAY_BE_MISSING = ("pooler.",)
_CLASSES = {
    Task.FILL_MASK: "AutoModelForMaskedLM",
    Task.TEXT_CLASSIFICATION: "AutoModelForSequenceClassification",
    Task.ZERO_SHOT_CLASSIFICATION: "AutoModelForSequenceClassification",
    Task.TOKEN_CLASSIFICATION: "AutoModelForTokenClassification",
    Task.QUESTION_ANSWERING: "AutoModelForQuestionAnswering",
}
_LEARNED_FROM_PAD = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl", "xmod", "esm")


@dataclass(frozen=True)
class Loaded:
    model: Any
    tokenizer: Any
    task: Task
    context_length: int
    device: str
    dtype: str
    parameters: int


def load(plan: Plan, options: Mapping[str, Any] | None = None) -> Loaded:
    """Load a model, its tokenizer, and its adapter merged into it.

    Args:
        options: `threads` (a number; all cores when absent), `device` (cuda where there is one when absent), `dtype`
            (`float32` or `bfloat16`).

    Raises:
        Unloadable: naming what is wrong with the files, or an option that has no sense here.
    """
    options = options or {}
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(_threads(options.get("threads"), plan.task))
    tokenizer = _attempt("the tokenizer cannot be loaded", lambda: _tokenizer(plan))
    for folder in filter(None, (plan.weights, plan.adapter)):
        _attempt("the model cannot be loaded", partial(check_dtypes, folder, plan.config))
    model = _attempt("the model cannot be loaded", lambda: _model(plan, options))
    if plan.adapter is not None:
        model = _attempt("the adapter does not fit its base", lambda: _adapted(model, plan))
    model.eval().requires_grad_(False)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        task=plan.task,
        context_length=_context_length(model.config, tokenizer, plan.task),
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=sum(p.numel() for p in model.parameters()),
    )


def check_dtypes(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse weights stored as whole numbers: read as they are, the model would answer nonsense.

    Raises:
        Unloadable: naming the tensor.
    """
    if config.get("quantization_config"):
        return
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is no mapping
                if name.endswith((".weight", ".bias")) and (kind := opened.get_slice(name).get_dtype())[0] in "IUB":
                    if kind == "BF16":
                        continue
                    raise Unloadable(
                        f"{path.name} has {name} as {kind}, which are no floating-point numbers; save the model as "
                        "float32, bfloat16 or float16."
                    )


def _attempt(what: str, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Unloadable:
        raise
    except MemoryError:
        raise Unloadable(f"{what}: there is not enough memory.") from None
    except Exception as error:  # every library below has errors of its own for a broken file
        said = " ".join(str(error).split())[:600]
        raise Unloadable(f"{what}: {type(error).__name__}: {said}") from error


def _tokenizer(plan: Plan) -> Any:
    found = transformers.AutoTokenizer.from_pretrained(plan.tokens, **_LOCAL)
    if not len(found):
        raise Unloadable("the tokenizer is empty; upload tokenizer.json and tokenizer_config.json.")
    return found


def _model(plan: Plan, options: Mapping[str, Any]) -> Any:
    config = transformers.AutoConfig.from_pretrained(plan.weights, **_LOCAL)
    device = str(options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.partition(":")[0] not in ("cpu", "cuda") or (device != "cpu" and not torch.cuda.is_available()):
        raise Unloadable(f"the option device is {device!r}, which this machine has not; cpu is always there.")
    wanted = options.get("dtype")
    if wanted not in (None, "float32", "bfloat16"):
        raise Unloadable(f"the option dtype is {wanted!r}; float32 or bfloat16 is expected.")
    full = device == "cpu" and plan.weight_bytes <= _FULL_PRECISION_BYTES
    model, report = _class(plan, config).from_pretrained(
        plan.weights,
        config=config,
        use_safetensors=True,
        output_loading_info=True,
        dtype=getattr(torch, wanted) if wanted else torch.float32 if full else "auto",
        **_LOCAL,
    )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_MAY_BE_MISSING))
    if missing:
        raise Unloadable(
            f"the weights lack {len(missing)} tensors that the configuration asks for ({', '.join(missing[:3])}); "
            "upload the file whole."
        )
    return model.to(device)


def _class(plan: Plan, config: Any) -> Any:
    if plan.task == Task.GENERATION:
        return transformers.AutoModelForCausalLM
    if plan.task == Task.TEXT_TO_TEXT:
        return transformers.AutoModelForSeq2SeqLM
    if plan.task in _CLASSES:
        return getattr(transformers, _CLASSES[plan.task])
    encoder = next((n for n in config.architectures or () if n.endswith("EncoderModel")), None)
    return getattr(transformers, encoder) if encoder and hasattr(transformers, encoder) else transformers.AutoModel


def _adapted(model: Any, plan: Plan) -> Any:
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, str(plan.adapter), is_trainable=False, local_files_only=True)
    return adapted.merge_and_unload(safe_merge=True)


def _context_length(config: Any, tokenizer: Any, task: Task) -> int:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len")]
    limits = [n for n in found if isinstance(n, int) and n > 0]
    if limits and task.encodes and text.model_type in _LEARNED_FROM_PAD:
        limits = [limits[0] - (text.pad_token_id or 0) - 1]  # positions are counted from the padding's id on
    said = tokenizer.model_max_length
    if isinstance(said, int) and 0 < said < 1 << 24:
        limits.append(said)
    return min(limits) if limits else 2048


def _threads(wanted: Any, task: Task) -> int:
    if wanted is None:
        return _cores()
    if not isinstance(wanted, int) or not 1 <= wanted <= 1024:
        raise Unloadable(f"the option threads is {wanted!r}; a number from 1 to 1024 is expected.")
    return wanted


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
