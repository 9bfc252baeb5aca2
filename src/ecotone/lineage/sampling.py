"""Which cells of a tensor stand in its fingerprint, and which of them two fingerprints share.

Rows and columns are thinned by powers of two. At level k every aligned block of 2**k indices keeps the one that a hash
picks among the two that its halves kept at level k - 1: levels nest, and an index is kept or not whatever the length of
the axis. So the cells of a cropped, extended or coarser sampled tensor are among those of the other. About 1 % of the
values are kept, at least 1,024 and at most about 16,384; three and more dimensions count as (first, rest).
"""

from collections.abc import Iterable
from functools import lru_cache
from math import prod
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ecotone.lineage.fingerprint import Fingerprint, TensorPrint
from ecotone.lineage.sources import Values

LEAST: Final = 1024
MOST: Final = 16384
SHARE: Final = 0.01
# Where a model has so many tensors that its fingerprint would be large, each keeps less, down to this.
FEWEST: Final = 64
BUDGET: Final = 4 << 20
# Axes are thinned in turn, rows a little sooner: fewer rows to read and to dequantise.
_ROWS_FIRST: Final = 1.4
_CELL_LIMIT: Final = 1 << 60

Indices = npt.NDArray[np.int64]


class Cells(NamedTuple):
    """The rows and columns whose crossings are sampled, ascending."""

    rows: Indices
    columns: Indices

    @property
    def number(self) -> int:
        return len(self.rows) * len(self.columns)


@lru_cache(maxsize=128)
def kept(length: int, level: int) -> Indices:
    """The indices below `length` that are kept at a level, one in each block of 2**level (the last may be left out)."""
    blocks = -(-length // (1 << level))
    index = np.arange(blocks, dtype=np.uint64)
    for below in range(level - 1, -1, -1):
        index = 2 * index + _coin(index, below)
    found = index[index < length].astype(np.int64)
    found.flags.writeable = False
    return found


def _coin(index: npt.NDArray[np.uint64], level: int) -> npt.NDArray[np.uint64]:
    """0 or 1 for each block, by the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    salt = (level + 1) * 0xD1B54A32D192ED03 % (1 << 64)
    x = (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) & np.uint64(1)


def flat(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of a tensor; None for one that is not sampled: fewer than two dimensions, or no values."""
    if len(shape) < 2:
        return None
    rows, columns = shape[0], prod(shape[1:])
    return (rows, columns) if 0 < rows * columns < _CELL_LIMIT else None


@lru_cache(maxsize=128)
def cells(shape: tuple[int, ...], tensors: int = 1) -> Cells | None:
    """The cells to sample of a tensor of this shape in a file that has so many tensors to sample."""
    size = flat(shape)
    if size is None:
        return None
    least = max(LEAST, min(int(size[0] * size[1] * SHARE), MOST // 2))
    least = max(FEWEST, min(least, BUDGET // tensors // 2))
    return _at(*size, _levels(*size, least))


@lru_cache(maxsize=128)
def cells_of(shape: tuple[int, ...], count: int) -> Cells | None:
    """The cells of a sample of so many values of a tensor of this shape; None where no sample has that number."""
    size = flat(shape)
    if size is None or not count:
        return None
    found = _at(*size, _levels(*size, count))
    return found if found.number == count else None


def sampled(shapes: Iterable[tuple[int, ...]]) -> int:
    """How many tensors of these shapes have cells to sample; at least 1."""
    return max(1, sum(flat(shape) is not None for shape in shapes))


def thinned(whole: Fingerprint) -> Fingerprint:
    """The fingerprint of a model that came in several files, as small as if it had come in one."""
    count = sampled(t.shape for t in whole.tensors.values())
    return msgspec.structs.replace(whole, tensors={name: _thinned(t, count) for name, t in whole.tensors.items()})


def _thinned(tensor: TensorPrint, count: int) -> TensorPrint:
    have, wanted = cells_of(tensor.shape, len(tensor.sample) // 4), cells(tensor.shape, count)
    if have is None or wanted is None or wanted.number >= have.number:
        return tensor
    grid = values(tensor).reshape(len(have.rows), -1)
    kept_values = grid[np.ix_(np.isin(have.rows, wanted.rows), np.isin(have.columns, wanted.columns))]
    return msgspec.structs.replace(tensor, sample=kept_values.tobytes())


def _at(rows: int, columns: int, levels: tuple[int, int]) -> Cells:
    return Cells(kept(rows, levels[0]), kept(columns, levels[1]))


def _levels(rows: int, columns: int, least: int) -> tuple[int, int]:
    """The furthest levels of rows and columns that keep at least so many cells."""
    down, across = 0, 0
    while True:
        by_rows = _ROWS_FIRST * (rows >> down) > (columns >> across)
        further = (down + by_rows, across + 1 - by_rows)
        if _count(rows, further[0]) * _count(columns, further[1]) < least:
            return down, across
        down, across = further


def _count(length: int, level: int) -> int:
    """The number of indices that `kept` finds."""
    whole = length >> level
    rest = length - (whole << level)
    if not rest:
        return whole
    index = np.array([whole], np.uint64)
    for below in range(level - 1, -1, -1):
        index = 2 * index + _coin(index, below)
    return whole + int(index[0] < length)


def common(a: TensorPrint, b: TensorPrint) -> tuple[Values, Values]:
    """The values of the cells that both sampled, in the same order; empty where none are, or where the tensors do not
    lie alike: trailing dimensions that differ."""
    mine, theirs = cells_of(a.shape, len(a.sample) // 4), cells_of(b.shape, len(b.sample) // 4)
    if mine is None or theirs is None or (a.shape[2:] != b.shape[2:] and flat(a.shape) != flat(b.shape)):
        return np.empty(0, np.float32), np.empty(0, np.float32)
    left, right = values(a), values(b)
    if a.shape == b.shape and len(left) == len(right):
        return left, right
    _, r1, r2 = np.intersect1d(mine.rows, theirs.rows, assume_unique=True, return_indices=True)
    _, c1, c2 = np.intersect1d(mine.columns, theirs.columns, assume_unique=True, return_indices=True)
    return (
        left.reshape(len(mine.rows), -1)[np.ix_(r1, c1)].ravel(),
        right.reshape(len(theirs.rows), -1)[np.ix_(r2, c2)].ravel(),
    )


def values(tensor: TensorPrint) -> Values:
    """The sampled values of a tensor, in row-major order of its cells."""
    return np.frombuffer(tensor.sample, "<f4")
