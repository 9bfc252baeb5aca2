"""The units in which a type stores its values: one value of a plain type, one block of a quantised type."""

from collections.abc import Callable
from typing import NamedTuple

from ecotone.lineage import values
from ecotone.lineage.dequantising import DEQUANTISERS, dequantise
from ecotone.lineage.gguf import block
from ecotone.lineage.sources import Values
from ecotone.lineage.values import Bytes


class Unit(NamedTuple):
    """How to read a type.

    Args:
        size: values in a unit.
        width: its bytes.
        decode: turns contiguous bytes of shape (..., width) into float32 of shape (..., size).
    """

    size: int
    width: int
    decode: Callable[[Bytes], Values]


def unit(dtype: str) -> Unit | None:
    """The unit of a type; None for one whose values cannot be read here: it is hashed only."""
    if values.is_plain(dtype):
        decode = values.decoder(dtype)
        return Unit(1, values.width(dtype), lambda raw: decode(raw)[..., None])
    if dtype in DEQUANTISERS and (size := block(dtype)) is not None:
        return Unit(*size, lambda raw: dequantise(dtype, raw))
    return None
