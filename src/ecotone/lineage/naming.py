"""Canonical names of tensors: Hugging Face's as they are, with the prefixes folded that only tell how a model was
saved; GGUF's translated to them, and the row order of llama.cpp's q and k undone."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from ecotone.lineage.gguf_names import parts
from ecotone.lineage.tensors import TensorInfo, Weights

Indices = npt.NDArray[np.int64]

# Wrappers that put a word before every name: PEFT, PyTorch's DDP and compile.
_WRAPPERS: Final = re.compile(r"^(?:base_model\.model\.|module\.|_orig_mod\.)+")
# A model saved without its head leaves its own name away.
_BARE_DECODER: Final = re.compile(r"^(?:layers\.\d+\.|embed_tokens\.|norm\.)")
_BARE_GPT2: Final = re.compile(r"^(?:h\.\d+\.|wte\.|wpe\.|ln_f\.)")
_ENCODER: Final = re.compile(
    r"^(?:bert|roberta|distilbert|electra|camembert|xlm_roberta)\.(?=(?:embeddings|encoder|pooler|transformer)\.)"
)
_TEXT_TOWER: Final = re.compile(r"^(?:language_model\.model\.|model\.language_model\.)")


def canonical(names: Iterable[str]) -> dict[str, str]:
    """Canonical names by the file's names. Where two would fold into one, both keep their own."""
    folded = {name: _folded(name) for name in names}
    counts: dict[str, int] = {}
    for name in folded.values():
        counts[name] = counts.get(name, 0) + 1
    return {name: to if to == name or (counts[to] == 1 and to not in folded) else name for name, to in folded.items()}


def _folded(name: str) -> str:
    if name.startswith("model.layers."):
        return name
    name = _WRAPPERS.sub("", name)
    if _BARE_DECODER.match(name):
        return "model." + name
    if _BARE_GPT2.match(name):
        return "transformer." + name
    if name.startswith("language_model.lm_head."):
        return name.removeprefix("language_model.")
    return _TEXT_TOWER.sub("model.", _ENCODER.sub("", name))


class Named(msgspec.Struct, frozen=True):
    """A tensor of a file under its canonical name.

    Args:
        tensor: it, by the name that the file has.
        heads: heads whose rows llama.cpp's converter reordered; 0 where it did not.
    """

    tensor: TensorInfo
    heads: int = 0


def named(weights: Weights, names: Mapping[str, str] | None = None) -> dict[str, Named]:
    """The tensors of a file by canonical name, in the order of their data; stacked experts one by one.

    Args:
        weights: the file's header.
        names: canonical names by the files' names, where they were chosen for several safetensors files together.
    """
    if weights.format == "gguf":
        found = parts(weights)
        counts = Counter(p.name for p in found) + Counter(p.tensor.name for p in found if p.name != p.tensor.name)
        return {p.name if counts[p.name] == 1 else p.tensor.name: Named(p.tensor, p.heads) for p in found}
    names = names or canonical(t.name for t in weights.tensors)
    return {names[t.name]: Named(t) for t in weights.tensors}


def led(weights: Weights, first: Weights) -> Weights:
    """A file of a split GGUF model with what only the first file's header tells."""
    return msgspec.structs.replace(
        weights, metadata=first.metadata | weights.metadata, lists=first.lists | weights.lists
    )


def file_rows(rows: Indices, count: int, heads: int) -> Indices:
    """Where rows of the canonical order lie in the file.

    llama.cpp's converter puts the two halves of each head in turns (row h*D + half*D/2 + i goes to h*D + 2*i + half),
    since its rotary embedding pairs neighbours where Hugging Face's pairs halves.

    Args:
        rows: row numbers.
        count: rows of the tensor.
        heads: its heads; 0 where the order is the same.
    """
    if not heads:
        return rows
    size = count // heads
    head, inner = np.divmod(rows, size)
    half, pair = np.divmod(inner, size // 2)
    placed: Indices = head * size + 2 * pair + half
    return placed
