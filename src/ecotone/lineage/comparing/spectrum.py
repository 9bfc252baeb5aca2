"""The rank of a difference: its largest singular values against those of a random matrix of the same shape."""

from functools import cache
from typing import Final

import msgspec
import numpy as np

from ecotone.lineage.sources import Values

FIRST: Final = 8
MOST: Final = 384  # rows and columns that are looked at: a part of a low-rank matrix has low rank too
_SEED: Final = 20261128


class Spectrum(msgspec.Struct, frozen=True):
    """Singular values of a difference.

    Args:
        top: share of its energy in the first eight.
        random: the same of a random matrix of its shape.
        rank: number of values that stand out of the noise, when these explain it.
        explained: share of the energy that they hold.
        limit: the largest rank that counts as low for this shape.
    """

    top: float
    random: float
    rank: int
    explained: float
    limit: int


def spectrum(difference: Values) -> Spectrum | None:
    """The spectrum of a difference of at most `MOST` rows and columns; None when it is zero or too small to tell."""
    matrix = difference[:MOST, :MOST].astype(np.float64)
    peak = np.abs(matrix).max() if matrix.size else 0.0
    if min(matrix.shape) < 2 * FIRST or not peak > 0:
        return None
    values = np.linalg.svd(matrix / peak, compute_uv=False)
    energy = values**2
    total = float(energy.sum())
    top, random, edge = float(energy[:FIRST].sum()) / total, *_random(*matrix.shape)
    floor = float(np.median(values)) * edge
    rank = int((values > max(1.5 * floor, 1e-6 * values[0])).sum())
    explained = float(energy[:rank].sum()) / total
    return Spectrum(top, random, rank, explained, min(matrix.shape) // 4)


@cache
def _random(rows: int, columns: int) -> tuple[float, float]:
    """Of a random matrix: the share of its first values, and its largest value as a multiple of the median one."""
    values = np.linalg.svd(np.random.default_rng(_SEED).standard_normal((rows, columns)), compute_uv=False)
    energy = values**2
    return float(energy[:FIRST].sum() / energy.sum()), float(values[0] / np.median(values))
