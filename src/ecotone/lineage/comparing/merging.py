"""The shares of several models in one: non-negative least squares on samples of their tensors (check 5)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from ecotone.lineage.comparing.roles import is_computed
from ecotone.lineage.comparing.thresholds import thresholds
from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.sources import Source

MOST: Final = 8
_SAMPLE: Final = 65_536
_BLOCKS: Final = 8
Table = npt.NDArray[np.float64]


class Recovered(msgspec.Struct, frozen=True):
    """How a child is made up of candidates.

    Args:
        weights: share of each candidate, none negative.
        residual: L2 of what they leave unexplained, as a part of the child's, 0 to 1.
        merged: whether two or more of them together explain the child as none does alone.
        uneven: whether the shares differ from tensor to tensor, as spherical and layer-wise merges have it; `weights`
            is then their mean, and `residual` that of the separate shares.
    """

    weights: dict[str, float]
    residual: float
    merged: bool
    uneven: bool = False


def recover(child: Source, candidates: Mapping[str, Source]) -> Recovered:
    """The shares of at most eight candidates in a child, from the tensors that all of them have in one shape.

    Raises:
        ValueError: there are none, or more than eight.
    """
    if not 1 <= len(candidates) <= MOST:
        raise ValueError(f"{len(candidates)} candidates were given; between 1 and {MOST} are expected.")
    names = list(candidates)
    grams = _grams(child, list(candidates.values()))
    if not grams:
        return Recovered(dict.fromkeys(names, 0.0), 1.0, False)
    whole = np.sum(grams, axis=0)
    weights, residual = shares(whole)
    single = min(_residual(whole, (i,))[1] for i in range(len(names)))
    found = Recovered(_named(names, weights), residual, _is_merge(weights, residual, single))
    return found if found.merged else _uneven(names, grams, single) or found


def shares(gram: Table) -> tuple[Table, float]:
    """Non-negative shares and the residual, from inner products with the child first. Exact: tries every subset."""
    count = len(gram) - 1
    best = (np.zeros(count), 1.0)
    for size in range(1, count + 1):
        for subset in combinations(range(count), size):
            weights, residual = _residual(gram, subset)
            if (weights >= 0).all() and residual < best[1] - 1e-9:
                best = (weights, residual)
    return best


def _residual(gram: Table, subset: Sequence[int]) -> tuple[Table, float]:
    """Least squares on some of the candidates: their shares, and what is left of the child."""
    picked = [i + 1 for i in subset]
    inner, right, own = gram[np.ix_(picked, picked)], gram[picked, 0], gram[0, 0]
    weights = np.zeros(len(gram) - 1)
    if own <= 0:
        return weights, 1.0
    weights[list(subset)] = np.linalg.lstsq(inner, right, rcond=1e-10)[0]
    full = weights[list(subset)]
    left = own - 2 * full @ right + full @ inner @ full
    return weights, float(np.sqrt(max(left, 0.0) / own))


def _is_merge(weights: Table, residual: float, single: float) -> bool:
    t = thresholds()
    return bool(
        residual < t.merge_residual
        and residual < t.merge_gain * single
        and (weights > t.merge_weight).sum() >= 2
        and 0.8 <= weights.sum() <= 1.5
    )


def _uneven(names: list[str], grams: list[Table], single: float) -> Recovered | None:
    """The merge whose shares differ between tensors; None when that does not explain the child either."""
    each = [shares(g) for g in grams]
    sizes = np.array([g[0, 0] for g in grams])
    residual = float(np.sqrt(sum(r**2 * s for (_, r), s in zip(each, sizes, strict=True)) / sizes.sum()))
    weights = np.average([w for w, _ in each], axis=0, weights=sizes)
    if not _is_merge(weights, residual, single):
        return None
    return Recovered(_named(names, weights), residual, True, uneven=True)


def _named(names: list[str], weights: Table) -> dict[str, float]:
    return {n: round(float(w), 4) for n, w in zip(names, weights, strict=True)}


def _grams(child: Source, candidates: list[Source]) -> list[Table]:
    """Inner products of child and candidates, for each matrix that all have."""
    grams = []
    for name, info in child.tensors.items():
        usual = len(info.shape) >= 2 and info.count >= 256 and not is_computed(name)
        if not usual or any(name not in c.tensors or not _crops(c, name, info.shape) for c in candidates):
            continue
        try:
            columns = _samples([child, *candidates], name)
        except BrokenWeights:
            continue
        gram = columns @ columns.T
        if gram[0, 0] > 0:
            grams.append(gram)
    return grams


def _crops(source: Source, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is the same but for the number of its rows."""
    other = source.tensors[name].shape
    return len(other) == len(shape) and other[1:] == shape[1:] and 0 not in other


def _samples(sources: list[Source], name: str) -> Table:
    """The same rows of a tensor from each source, at most about `_SAMPLE` values, finite."""
    shapes = [s.tensors[name].shape for s in sources]
    rows, width = min(s[0] for s in shapes), prod(shapes[0][1:])
    height = max(1, _SAMPLE // (width * _BLOCKS))
    if rows * width <= _SAMPLE:
        places = [(0, rows)]
    else:
        starts = np.unique(np.linspace(0, max(0, rows - height), _BLOCKS).astype(int))
        places = [(int(s), min(rows, int(s) + height)) for s in starts]
    columns = [np.concatenate([s.rows(name, a, b).reshape(-1) for a, b in places]).astype(np.float64) for s in sources]
    return np.stack([np.where(np.abs(c) < 1e18, c, 0.0) for c in columns])
