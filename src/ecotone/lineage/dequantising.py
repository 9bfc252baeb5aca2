"""Values of GGUF's block types as float32, from the bytes of whole blocks. Source: the layouts in ggml's ggml-common.h
and the meaning of their fields in ggml-quants.c.

The IQ1, IQ2 and IQ3 types need code books of thousands of entries and are not read; see `NOT_READ`.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ecotone.lineage.sources import Values
from ecotone.lineage.values import Bytes

Array = npt.NDArray[Any]

NOT_READ: Final = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"})
_IQ4: Final = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
# E2M1, doubled, as ggml keeps it; the exponent below is halved for it.
_MXFP4: Final = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
_E8M0_HALF: Final = np.ldexp(np.float32(1), np.arange(256) - 128).astype(np.float32)


def _half(raw: Bytes, at: int) -> Values:
    """The 16-bit float at a byte of each block, shape (..., 1)."""
    return np.ascontiguousarray(raw[..., at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Array:
    """The low halves of bytes, then the high halves: (..., n) to (..., 2 n)."""
    return np.concatenate((packed & 15, packed >> 4), axis=-1)


def _fields(packed: Bytes, group: int, bits: int) -> Array:
    """Values of `bits` bits that share bytes: in each group of bytes all lowest fields first, then the next ones."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    grouped = packed.reshape(*packed.shape[:-1], -1, 1, group)
    found = (grouped >> shifts) & np.uint8((1 << bits) - 1)
    return found.reshape(*packed.shape[:-1], -1)


def _scaled(numbers: Array, scales: Array) -> Values:
    """Numbers times the scale of the group of equal length that they lie in."""
    grouped = numbers.reshape(*scales.shape, -1).astype(np.float32)
    found: Values = (grouped * scales[..., None].astype(np.float32)).reshape(numbers.shape)
    return found


def _fifth_bits(raw: Bytes, at: int) -> Array:
    """32 bits, one for each value, worth 16."""
    return np.unpackbits(raw[..., at : at + 4], axis=-1, bitorder="little") << 4


def _q4_0(raw: Bytes) -> Values:
    return _half(raw, 0) * (_nibbles(raw[..., 2:18]).astype(np.float32) - 8)


def _q4_1(raw: Bytes) -> Values:
    return _half(raw, 0) * _nibbles(raw[..., 4:20]) + _half(raw, 2)


def _q5_0(raw: Bytes) -> Values:
    numbers = _nibbles(raw[..., 6:22]) | _fifth_bits(raw, 2)
    return _half(raw, 0) * (numbers.astype(np.float32) - 16)


def _q5_1(raw: Bytes) -> Values:
    return _half(raw, 0) * (_nibbles(raw[..., 8:24]) | _fifth_bits(raw, 4)) + _half(raw, 2)


def _q8_0(raw: Bytes) -> Values:
    return _half(raw, 0) * raw[..., 2:34].view(np.int8)


def _q8_1(raw: Bytes) -> Values:
    return _half(raw, 0) * raw[..., 4:36].view(np.int8)


def _mxfp4(raw: Bytes) -> Values:
    return _E8M0_HALF[raw[..., :1]] * _MXFP4[_nibbles(raw[..., 1:17])]


def _iq4_nl(raw: Bytes) -> Values:
    return _half(raw, 0) * _IQ4[_nibbles(raw[..., 2:18])]


def _iq4_xs(raw: Bytes) -> Values:
    high = _fields(raw[..., 2:4], 1, 2)
    low = _fields(raw[..., 4:8], 1, 4)
    scales = _half(raw, 0) * ((low | (high << 4)).astype(np.float32) - 32)
    numbers = _IQ4[_fields(raw[..., 8:136], 16, 4)]
    return _scaled(numbers, scales)


def _q2_k(raw: Bytes) -> Values:
    scales, numbers = raw[..., :16], _fields(raw[..., 16:80], 32, 2)
    least: Values = np.repeat(_half(raw, 82) * (scales >> 4), 16, axis=-1)
    return _scaled(numbers, _half(raw, 80) * (scales & 15)) - least


def _q3_k(raw: Bytes) -> Values:
    packed = raw[..., 96:108]
    scales = _nibbles(packed[..., :8]) | (_fields(packed[..., 8:12], 4, 2) << 4)
    high = _fields(raw[..., :32], 32, 1)
    numbers = _fields(raw[..., 32:96], 32, 2) | (high << 2)
    return _scaled(numbers.astype(np.float32) - 4, _half(raw, 108) * (scales.astype(np.float32) - 32))


def _scales_and_least(packed: Bytes) -> tuple[Array, Array]:
    """Eight scales and eight minima of 6 bits in twelve bytes (Q4_K and Q5_K)."""
    first, second, last = packed[..., :4], packed[..., 4:8], packed[..., 8:12]
    scales = np.concatenate((first & 63, (last & 15) | ((first >> 6) << 4)), axis=-1)
    least = np.concatenate((second & 63, (last >> 4) | ((second >> 6) << 4)), axis=-1)
    return scales, least


def _q4_k(raw: Bytes) -> Values:
    scales, least = _scales_and_least(raw[..., 4:16])
    numbers = _fields(raw[..., 16:144], 32, 4)
    return _scaled(numbers, _half(raw, 0) * scales) - np.repeat(_half(raw, 2) * least, 32, axis=-1)


def _q5_k(raw: Bytes) -> Values:
    scales, least = _scales_and_least(raw[..., 4:16])
    numbers = _fields(raw[..., 48:176], 32, 4) | (_fields(raw[..., 16:48], 32, 1) << 4)
    return _scaled(numbers, _half(raw, 0) * scales) - np.repeat(_half(raw, 2) * least, 32, axis=-1)


def _q6_k(raw: Bytes) -> Values:
    numbers = _fields(raw[..., :128], 64, 4) | (_fields(raw[..., 128:192], 32, 2) << 4)
    return _scaled(numbers.astype(np.float32) - 32, _half(raw, 208) * raw[..., 192:208].view(np.int8))


def _q8_k(raw: Bytes) -> Values:
    return np.ascontiguousarray(raw[..., :4]).view("<f4") * raw[..., 4:260].view(np.int8)


def _tq2_0(raw: Bytes) -> Values:
    return _half(raw, 64) * (_fields(raw[..., :64], 32, 2).astype(np.float32) - 1)


def _tq1_0(raw: Bytes) -> Values:
    """Five numbers of base 3 in a byte: multiplied by a power of 3, the wanted one stands on top."""
    parts = [
        (part[..., None, :] * (3 ** np.arange(count)).astype(np.uint8)[:, None]).reshape(*part.shape[:-1], -1)
        for part, count in ((raw[..., :32], 5), (raw[..., 32:48], 5), (raw[..., 48:52], 4))
    ]
    numbers = (np.concatenate(parts, axis=-1).astype(np.uint16) * 3) >> 8
    return _half(raw, 52) * (numbers.astype(np.float32) - 1)


DEQUANTISERS: Final[dict[str, Callable[[Bytes], Values]]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0, "Q8_1": _q8_1,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "Q8_K": _q8_k,
    "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4, "TQ1_0": _tq1_0, "TQ2_0": _tq2_0,
}  # fmt: skip


def dequantise(dtype: str, raw: Bytes) -> Values:
    """Values of contiguous blocks: (..., bytes of a block) to (..., values of a block).

    A scale that is NaN or infinite gives values that are.
    """
    with np.errstate(all="ignore"):
        return DEQUANTISERS[dtype](raw).astype(np.float32, copy=False)
