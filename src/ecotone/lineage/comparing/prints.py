"""Checks 1 and 2, on fingerprints alone: shared tensors, and the cosine of sampled values."""

from typing import Final

import numpy as np

from ecotone.lineage.comparing.answers import Check, Likeness, Related, figure
from ecotone.lineage.comparing.picture import mean_cosine
from ecotone.lineage.comparing.roles import is_computed, layer_of
from ecotone.lineage.comparing.thresholds import Thresholds, thresholds
from ecotone.lineage.fingerprint import Fingerprint, TensorPrint
from ecotone.lineage.safetensors import BITS
from ecotone.lineage.sampling import common

_LEAST: Final = 64


def compare_prints(child: Fingerprint, parent: Fingerprint) -> Likeness:
    """How alike two fingerprints are. Permuted or rotated copies look independent here; `compare` finds them."""
    t = thresholds()
    shared = shared_share(child, parent)
    ours, theirs = child.by_name(), parent.by_name()
    cosines = {n: c for n in ours if n in theirs and (c := _best(n, ours[n], theirs[n])) is not None}
    sizes = {n: _count(ours[n][0]) for n in cosines}
    mean = mean_cosine([(abs(c), sizes[n]) for n, c in cosines.items()])  # a flipped sign is undone by another
    grafted = _grafted(cosines, sizes, t)
    related = Related.NO
    if shared >= t.shared or mean >= t.cosine_related or grafted:
        related = Related.YES
    elif mean >= t.cosine_suspected:
        related = Related.UNSURE
    return Likeness(
        related,
        shared,
        mean,
        cosines,
        grafted,
        _missing(child, parent),
        (shared_check(shared, t), _check(mean, cosines, t)),
    )


def shared_share(child: Fingerprint, parent: Fingerprint) -> float:
    """The share of the child's hashed bytes that lie in tensors which the parent has too, whatever their names.
    Buffers that follow from a network's sizes do not count."""
    theirs = {p.hash for n, p in parent.tensors.items() if p.hash is not None and not is_computed(n)}
    ours = [(p.hash, _size(p)) for n, p in child.tensors.items() if p.hash is not None and not is_computed(n)]
    total = sum(size for _, size in ours)
    return sum(size for h, size in ours if h in theirs) / total if total else 0.0


def shared_check(shared: float, t: Thresholds) -> Check:
    found = shared >= t.shared
    means = (
        f"{shared:.1%} of the child's bytes lie in tensors that the parent has too, bit for bit"
        if found
        else "no tensor of the child is the parent's, bit for bit"
    )
    return Check("shared_tensors", figure(shared), t.shared, found, means)


def _check(mean: float, cosines: dict[str, float], t: Thresholds) -> Check:
    if not cosines:
        return Check("cosine", None, t.cosine_related, None, "no tensors of equal name and shape could be sampled")
    means = f"mean cosine of the sampled values of {len(cosines)} tensors; independent models have about 0"
    return Check("cosine", figure(mean), t.cosine_related, mean >= t.cosine_related, means)


def _best(name: str, ours: list[TensorPrint], theirs: list[TensorPrint]) -> float | None:
    """The cosine of the two most alike where several tensors have one name."""
    ours, theirs = [p for p in ours if p.sample], [p for p in theirs if p.sample]
    if not ours or not theirs or is_computed(name):
        return None
    found = [c for mine in ours for other in theirs if (c := _cosine(mine, other)) is not None]
    return max(found, key=abs, default=None)


def _cosine(mine: TensorPrint, other: TensorPrint) -> float | None:
    if not mine.sample or not other.sample or len(other.shape) != len(mine.shape):
        return None
    a, b = (v.astype(np.float64) for v in common(mine, other))
    if len(a) < _LEAST:
        return None
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.clip(a @ b / scale, -1.0, 1.0)) if 0 < scale < np.inf else None


def _grafted(cosines: dict[str, float], sizes: dict[str, int], t: Thresholds) -> tuple[str, ...]:
    same = tuple(n for n, c in cosines.items() if c >= t.graft_same and sizes[n] >= 1024)
    other = [n for n, c in cosines.items() if abs(c) < t.graft_other]
    return same if same and sum(sizes[n] for n in other) >= 0.1 * sum(sizes.values()) else ()


def _missing(child: Fingerprint, parent: Fingerprint) -> tuple[int, ...]:
    ours, theirs = ({at[1] for n in p.tensors if (at := layer_of(n))} for p in (child, parent))
    return tuple(sorted(theirs - ours))


def _count(tensor: TensorPrint) -> int:
    return int(np.prod(tensor.shape, dtype=np.float64))


def _size(tensor: TensorPrint) -> int:
    return max(1, _count(tensor) * BITS.get(tensor.dtype, 8) // 8)
