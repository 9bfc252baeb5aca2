"""Whether values lie on a grid, as those of a quantised tensor do, and of how many bits.

A row (or a group of its columns) of a quantised tensor takes few values, and their distances are multiples of one step.
Values of ordinary floating point do neither.
"""

import math
from typing import Final

import numpy as np

from ecotone.lineage.sources import Values

_GROUPS: Final = (256, 128, 64, 32)
_MOST_ROWS: Final = 64
_FIRST_ROWS: Final = 6  # that are looked at before the others
_MOST_BITS: Final = 8
_OFF: Final = 0.05  # of a step; rounding to float16 moves a value of a 4-bit grid by less
_STORED: Final = {
    "Q1_0": 1, "Q2_K": 2, "Q3_K": 3, "Q4_0": 4, "Q4_1": 4, "Q4_K": 4, "Q5_0": 5, "Q5_1": 5, "Q5_K": 5, "Q6_K": 6,
    "Q8_0": 8, "Q8_1": 8, "Q8_K": 8, "IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 2, "IQ3_XXS": 3, "IQ3_S": 3, "IQ1_S": 1,
    "IQ1_M": 1, "IQ4_NL": 4, "IQ4_XS": 4, "TQ1_0": 1, "TQ2_0": 2, "MXFP4": 4, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8,
}  # fmt: skip


def stored_bits(dtype: str) -> int | None:
    """Bits of a value in a quantised type; None for a type that is none."""
    return _STORED.get(dtype)


def grid_bits(rows: Values, share: float) -> int | None:
    """Bits of the grid that values lie on; None when they lie on none of at most 8 bits.

    Args:
        rows: whole rows of a tensor, finite.
        share: of the rows or groups that must show it.
    """
    rows = rows[:_MOST_ROWS]
    if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] < 16:
        return None
    few = rows[:: -(-len(rows) // _FIRST_ROWS)]
    return _bits(rows, share) if _bits(few, share - 0.2) is not None else None


def _bits(rows: Values, share: float) -> int | None:
    sizes = (rows.shape[1], *(g for g in _GROUPS if g < rows.shape[1]))
    tables = [_Groups(rows[:, : rows.shape[1] // size * size].reshape(-1, size)) for size in sizes]
    for table in tables:
        if (bits := table.even(share)) is not None:
            return bits
    for table in (*tables, _Groups(rows.reshape(1, -1))):
        if (bits := table.symmetric(share)) is not None:
            return bits
    return min((bits for table in tables if (bits := table.few(share)) is not None), default=None)


class _Groups:
    """Groups of values, sorted: how many differ, and whether by multiples of one step. Constant ones are left out."""

    def __init__(self, groups: Values) -> None:
        ordered = np.sort(groups.astype(np.float64), axis=1)
        reach = ordered[:, -1] - ordered[:, 0]
        self._reach = reach[reach > 0]
        self._gaps = np.diff(ordered, axis=1)[reach > 0]
        self._distinct = (self._gaps > 0).sum(axis=1) + 1
        self._ordered = ordered[reach > 0]
        self._size = groups.shape[1]

    def even(self, share: float) -> int | None:
        """Bits of an even grid."""
        if not len(self._gaps) or np.median(self._distinct) < 3:
            return None
        step = np.where(self._gaps > 0, self._gaps, np.inf).min(axis=1)
        multiples = self._gaps / step[:, None]
        off = np.abs(multiples - np.round(multiples)).max(axis=1)
        levels = self._reach / step + 1
        good = (off < _OFF) & (levels <= (1 << _MOST_BITS) + 0.5)
        return _power(float(np.quantile(levels[good], 0.9))) if good.mean() >= share else None

    def symmetric(self, share: float) -> int | None:
        """Bits of a grid whose largest level is the largest value, for values that were rounded to 16 bits again: only
        low levels, which that moves little, are looked at."""
        for bits in (4, 8):
            top = (1 << (bits - 1)) - 1
            levels = np.abs(self._ordered) / np.abs(self._ordered).max(axis=1, keepdims=True) * top
            low = (levels > 0.5) & (levels < 24.5)
            off = np.abs(levels - np.round(levels))
            enough = low.sum(axis=1) >= 8
            mean = (off * low).sum(axis=1) / np.maximum(low.sum(axis=1), 1)
            if len(mean) and (enough & (mean < _OFF)).mean() >= share:
                return bits
        return None

    def few(self, share: float) -> int | None:
        """Bits of a code book: few different values for so many."""
        if not len(self._gaps) or np.median(self._distinct) < 3:
            return None
        good = self._distinct <= min(self._size // 2, 1 << _MOST_BITS)
        return _power(float(np.quantile(self._distinct[good], 0.9))) if good.mean() >= share else None


def _power(levels: float) -> int:
    return min(_MOST_BITS, max(1, math.ceil(math.log2(max(2.0, levels - 0.5)))))
