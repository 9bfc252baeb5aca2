"""What lies between two tensors: cosine, scale, zeros, rounding, grids and the rank of their difference.

Tensors are read in blocks of rows. Of a tensor of more than `MOST_VALUES` values, sixteen blocks spread over it are
looked at, so that memory and time are bounded whatever the model's size.
"""

from collections.abc import Iterator
from math import prod
from typing import Final

import msgspec
import numpy as np

from ecotone.lineage.comparing.grids import grid_bits
from ecotone.lineage.comparing.spectrum import MOST, Spectrum, spectrum
from ecotone.lineage.sources import Source, Values

MOST_VALUES: Final = 1 << 20
_BLOCKS: Final = 16
_WIDEST: Final = 1 << 22
_NEAR: Final = 0.01  # relative; rounding to 16 bits moves values by less


class Difference(msgspec.Struct, frozen=True):
    """Two tensors of a pair, cropped to the shape that they share.

    Args:
        count: values that the two have in common, also where only some were looked at.
        cosine: after each mean is taken away (of norms and other tensors of one dimension: of the plain values).
        scale: the child's L2 as a multiple of the parent's.
        slope: the multiple of the parent's that lies nearest to the child's.
        relative: L2 of child - parent, divided by the parent's.
        unexplained: L2 of child - slope x parent, divided by the parent's.
        equal: share of values that are the same.
        child_zeros, parent_zeros: share of exact zeros.
        child_rounded, parent_rounded: share of values that are the other's, rounded to bfloat16 or float16.
        child_bits, parent_bits: of the grid that its values lie on.
        odd: values that are NaN or infinite; they count as 0.
        constant: whether one of the two holds a single value.
    """

    count: int
    cosine: float
    scale: float
    slope: float
    relative: float
    unexplained: float
    equal: float
    child_zeros: float
    parent_zeros: float
    child_rounded: float
    parent_rounded: float
    child_bits: int | None
    parent_bits: int | None
    odd: int
    constant: bool


def blocks(child: Source, child_name: str, parent: Source, parent_name: str) -> Iterator[tuple[Values, Values]]:
    """Blocks of rows of two tensors, cropped to their common shape, each as a table of two dimensions."""
    first, second = child.tensors[child_name].shape, parent.tensors[parent_name].shape
    shape = tuple(min(a, b) for a, b in zip(first, second, strict=True))
    if not shape or prod(shape) == 0:
        return
    inside = tuple(slice(0, n) for n in shape[1:])
    for begin, end in _places(shape[0], max(1, prod(max(first, second)[1:]))):
        a = child.rows(child_name, begin, end)[(slice(None), *inside)].reshape(end - begin, -1)
        b = parent.rows(parent_name, begin, end)[(slice(None), *inside)].reshape(end - begin, -1)
        yield (a.T, b.T) if len(shape) == 1 else (a[:, :_WIDEST], b[:, :_WIDEST])


def _places(rows: int, width: int) -> list[tuple[int, int]]:
    if rows * width <= MOST_VALUES:
        return [(0, rows)]
    height = max(1, MOST_VALUES // (width * _BLOCKS))
    count = min(_BLOCKS, rows // height)
    starts = np.linspace(0, rows - height, count).astype(int)
    return [(int(s), int(s) + height) for s in starts]


def difference(
    child: Source, child_name: str, parent: Source, parent_name: str, *, grid: float | None
) -> Difference | None:
    """What lies between two tensors; None when they have no common shape or no values in it.

    Args:
        grid: share of rows that must lie on a grid, see `grid_bits`; None leaves grids out.
    """
    first, second = child.tensors[child_name].shape, parent.tensors[parent_name].shape
    if len(first) != len(second) or not first or 0 in first or 0 in second:
        return None
    sums = _Sums(plain=len(first) == 1, whole=prod(min(a, b) for a, b in zip(first, second, strict=True)))
    for a, b in blocks(child, child_name, parent, parent_name):
        sums.add(a, b)
    return sums.result(grid)


def rank(child: Source, child_name: str, parent: Source, parent_name: str) -> Spectrum | None:
    """The singular values of the difference of two tensors, of a part of it where they are large."""
    parts = []
    for a, b in blocks(child, child_name, parent, parent_name):
        x, y = _finite(a)[0], _finite(b)[0]
        parts.append(_spread(x - y))
    return spectrum(_spread(np.concatenate(parts))) if parts else None


class _Sums:
    """Running sums over blocks, in double precision."""

    def __init__(self, plain: bool, whole: int) -> None:
        self.plain, self.whole = plain, whole
        self.count = self.odd = 0
        self.a = self.b = self.aa = self.bb = self.ab = self.dd = 0.0
        self.equal = self.zeros_a = self.zeros_b = self.rounded_a = self.rounded_b = 0
        self.low_a = self.low_b = np.inf
        self.high_a = self.high_b = -np.inf
        self.first: list[tuple[Values, Values]] = []

    def add(self, a: Values, b: Values) -> None:
        a, odd_a = _finite(a)
        b, odd_b = _finite(b)
        self.odd += odd_a + odd_b
        self.count += a.size
        self.first.append((a[: MOST // _BLOCKS + 1], b[: MOST // _BLOCKS + 1]) if self.first else (a[:MOST], b[:MOST]))
        x, y = a.ravel(), b.ravel()
        self.equal += int((x == y).sum())
        self.zeros_a += int((x == 0).sum())
        self.zeros_b += int((y == 0).sum())
        self.low_a, self.high_a = min(self.low_a, x.min()), max(self.high_a, x.max())
        self.low_b, self.high_b = min(self.low_b, y.min()), max(self.high_b, y.max())
        u, v = x.astype(np.float64), y.astype(np.float64)
        self.a += float(u.sum())
        self.b += float(v.sum())
        self.aa += float(u @ u)
        self.bb += (square := float(v @ v))
        self.ab += float(u @ v)
        u -= v
        self.dd += (gap := float(u @ u))
        if gap <= _NEAR**2 * square:
            self.rounded_a += _rounded(x, y)
            self.rounded_b += _rounded(y, x)

    def result(self, grid: float | None) -> Difference | None:
        if not self.count:
            return None
        n = self.count
        mean_a, mean_b = (0.0, 0.0) if self.plain else (self.a / n, self.b / n)
        spread_a, spread_b = self.aa - n * mean_a**2, self.bb - n * mean_b**2
        constant = self.low_a == self.high_a or self.low_b == self.high_b
        scale = np.sqrt(max(spread_a, 0.0)) * np.sqrt(max(spread_b, 0.0))
        cosine = (self.ab - n * mean_a * mean_b) / scale if scale > 0 and (self.plain or not constant) else 0.0
        slope = self.ab / self.bb if self.bb > 0 else 0.0
        rest = max(self.aa - slope * self.ab, 0.0)
        a, b = (np.concatenate([pair[i] for pair in self.first]) for i in (0, 1))
        return Difference(
            self.whole,
            float(np.clip(cosine, -1.0, 1.0)),
            _ratio(self.aa, self.bb),
            float(slope),
            _ratio(self.dd, self.bb),
            _ratio(rest, self.bb),
            self.equal / n,
            self.zeros_a / n,
            self.zeros_b / n,
            self.rounded_a / n,
            self.rounded_b / n,
            None if self.plain or grid is None else grid_bits(a, grid),
            None if self.plain or grid is None else grid_bits(b, grid),
            self.odd,
            bool(constant),
        )


def _ratio(above: float, below: float) -> float:
    if below > 0:
        return float(np.sqrt(max(above, 0.0)) / np.sqrt(below))
    return 0.0 if above == 0 else float("inf")


def _finite(values: Values) -> tuple[Values, int]:
    """The values with 0 for what is NaN, infinite or too large to be squared, and how many those are."""
    good = np.abs(values) < 1e18
    odd = int(values.size - np.count_nonzero(good))
    return (np.where(good, values, np.float32(0)), odd) if odd else (values, 0)


def _rounded(narrow: Values, wide: Values) -> int:
    """How many of the first are the second, rounded to bfloat16 (to nearest or towards zero) or to float16."""
    bits = np.ascontiguousarray(wide, dtype=np.float32).view(np.uint32)
    nearest = ((bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)).view(np.float32)
    cut = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        half = wide.astype(np.float16).astype(np.float32)
    return max(int((narrow == nearest).sum()), int((narrow == cut).sum()), int((narrow == half).sum()))


def _spread(table: Values) -> Values:
    """At most `MOST` rows and columns, spread over all."""
    rows, columns = table.shape
    return table[:: max(1, rows // MOST)][:MOST, :: max(1, columns // MOST)][:, :MOST]
