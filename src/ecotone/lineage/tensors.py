"""What a weight file holds, whatever its format: names, types, shapes and places of tensors."""

from collections import Counter
from collections.abc import Iterable
from math import prod

import msgspec


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor of a file.

    Args:
        name: as the file has it.
        dtype: the format's word for it, `F32`, `BF16`, `Q4_K`.
        shape: outermost dimension first.
        begin, end: byte offsets from the start of the file's data; equal for an empty tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def count(self) -> int:
        """Number of values."""
        return prod(self.shape)


class Weights(msgspec.Struct, frozen=True):
    """The header of a weight file: tensors in the order of their data, and where that data starts in the file.

    Args:
        lists: those of a GGUF header that tell the heads of each layer.
    """

    format: str
    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str | int | float | bool]
    data_start: int
    lists: dict[str, tuple[int, ...]] = {}


class Parameters(msgspec.Struct, frozen=True):
    """Numbers of values, in total and by type, as the hub's `safetensors` field shows them."""

    total: int
    by_dtype: dict[str, int]


def parameters(files: Iterable[Weights]) -> Parameters:
    """Counts over all files of a model."""
    counts: Counter[str] = Counter()
    for weights in files:
        for tensor in weights.tensors:
            counts[tensor.dtype] += tensor.count
    return Parameters(sum(counts.values()), dict(sorted(counts.items())))
