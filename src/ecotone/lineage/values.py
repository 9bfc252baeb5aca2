"""Values of safetensors' types as float32. Sources: the safetensors README; OCP 8-bit floating point (OFP8) 1.0 for
E4M3 and E5M2; Micikevicius et al., arXiv 2209.05433; FNUZ as in ml_dtypes (bias one more, no minus zero, one NaN)."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from ecotone.lineage.sources import Values

Bytes = npt.NDArray[np.uint8]

_NUMPY: Final = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1",
}  # fmt: skip


def _small_floats(exponent_bits: int, *, bias: int, finite: bool, unsigned_zero: bool) -> Values:
    """All 256 values of an 8-bit float: sign, exponent, mantissa."""
    mantissa_bits = 7 - exponent_bits
    code = np.arange(256)
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    size = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias))
    table = np.where(code & 128, -size, size)
    if unsigned_zero:
        table[128] = np.nan
    elif finite:
        table[[127, 255]] = np.nan
    else:
        top = exponent == (1 << exponent_bits) - 1
        table = np.where(top, np.where(mantissa == 0, np.copysign(np.inf, table), np.nan), table)
    return table.astype(np.float32)


_TABLES: Final = {
    "F8_E4M3": _small_floats(4, bias=7, finite=True, unsigned_zero=False),
    "F8_E5M2": _small_floats(5, bias=15, finite=False, unsigned_zero=False),
    "F8_E4M3FNUZ": _small_floats(4, bias=8, finite=True, unsigned_zero=True),
    "F8_E5M2FNUZ": _small_floats(5, bias=16, finite=True, unsigned_zero=True),
    "F8_E8M0": np.append(2.0 ** (np.arange(255) - 127.0), np.nan).astype(np.float32),
}


def is_plain(dtype: str) -> bool:
    """Whether each value of the type stands in whole bytes of its own and can be read as a number."""
    return dtype in _NUMPY or dtype in _TABLES or dtype == "BF16"


def width(dtype: str) -> int:
    """Bytes of a value of a plain type."""
    return 2 if dtype == "BF16" else 1 if dtype in _TABLES else np.dtype(_NUMPY[dtype]).itemsize


def decoder(dtype: str) -> Callable[[Bytes], Values]:
    """What turns contiguous bytes of shape (..., width) into float32 of shape (...)."""
    if dtype == "BF16":
        return lambda raw: (raw.view("<u2")[..., 0].astype(np.uint32) << 16).view(np.float32)
    if dtype in _TABLES:
        table = _TABLES[dtype]
        return lambda raw: table[raw[..., 0]]
    form = _NUMPY[dtype]
    return lambda raw: _narrowed(raw.view(form)[..., 0])


def _narrowed(numbers: npt.NDArray[np.generic]) -> Values:
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(np.float32)
