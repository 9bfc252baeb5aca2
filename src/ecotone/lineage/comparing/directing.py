"""Which of two related models was made from the other, where the weights tell it."""

import msgspec
import numpy as np

from ecotone.lineage.comparing.answers import Direction
from ecotone.lineage.comparing.picture import (
    Picture,
    Side,
    bits_of,
    merge_share,
    narrower_side,
    rounded,
    values_in,
    zeros,
)
from ecotone.lineage.comparing.roles import Role, role_of
from ecotone.lineage.comparing.thresholds import Thresholds


def direction(picture: Picture, t: Thresholds) -> Direction | None:
    """Which side was made from the other, where something of it can only have come about that way."""
    bits = [bits_of(picture, "first") or 32, bits_of(picture, "second") or 32]
    if bits[0] != bits[1]:
        side: Side = "first" if bits[0] < bits[1] else "second"
        return Direction(side, f"its values lie on a grid of {min(bits)} bits, which the other's do not")
    nothing = zeros(picture, "first") - zeros(picture, "second")
    if abs(nothing) >= t.zeros:
        return Direction(
            "first" if nothing > 0 else "second", f"{abs(nothing):.0%} more of its weights are exact zeros"
        )
    exact = [rounded(picture, "first") >= 0.999, rounded(picture, "second") >= 0.999]
    if exact[0] != exact[1]:
        return Direction("first" if exact[0] else "second", "its values are the other's, rounded to 16 bits")
    return _by_size(picture) or _by_growth(picture, t)


def _by_growth(picture: Picture, t: Thresholds) -> Direction | None:
    """By the length of the weights. Training adds to weights what is unlike them: the parent's stand in the child's
    undiminished, while the child's, seen in the parent's, have shrunk. A merge shrinks both parents'."""
    found = list(picture.projections.values())
    if len(found) < 6 or float(np.median([d.relative for d in found])) < t.continued_l2:
        return None
    here = float(np.median([d.slope for d in found]))
    there = float(np.median([d.slope / max(d.scale, 1e-12) ** 2 for d in found]))
    if (merge_share(picture, t) is not None) and there > here + t.growth:
        return Direction("first", "the other stands in it with one share in every tensor")
    back = merge_share(_backward(picture), t)
    if back is not None and here > there + t.growth:
        return Direction("second", "the other stands in it with one share in every tensor")
    for side, own, other in (("first", here, there), ("second", there, here)):
        if abs(1 - own) < t.growth / 2 and 1 - other > max(t.growth, 4 * abs(1 - own)):
            return Direction(
                "first" if side == "first" else "second",
                f"the other's weights stand in it undiminished ({own:.2f}), with something added; not so the other way "
                f"({other:.2f})",
            )
    return None


def _backward(picture: Picture) -> Picture:
    """The differences as seen from the other side, for what only needs lengths."""
    found = {}
    for name, d in picture.differences.items():
        scale = d.scale if 0 < d.scale < float("inf") else 1.0
        found[name] = msgspec.structs.replace(d, slope=d.slope / scale**2, unexplained=d.unexplained / scale**2)
    return msgspec.structs.replace(picture, differences=found)


def _by_size(picture: Picture) -> Direction | None:
    pairing = picture.pairing
    if pairing.experts:
        return Direction("first", "several of its experts stand for one MLP of the other")
    if pairing.repeated:
        return Direction("first", "several of its layers are one layer of the other")
    if bool(pairing.missing) != bool(pairing.added):
        return Direction("first" if pairing.missing else "second", "it lacks layers that the other has")
    narrower = narrower_side(picture)
    if narrower is not None:
        return Direction(narrower, "its layers hold a part of the other's rows")
    for name in picture.differences:
        if role_of(name) is Role.EMBEDDING and picture.resized(name):
            more = picture.child[name].shape[0] - picture.parent[pairing.names[name]].shape[0]
            if more:
                return Direction("first" if more > 0 else "second", "it has more tokens than the other")
    alone = [values_in(t, n) for t, n in ((picture.child, pairing.only_child), (picture.parent, pairing.only_parent))]
    sizes = [sum(t.count for t in side.values()) for side in (picture.child, picture.parent)]
    for own, other, size, place in ((alone[0], alone[1], sizes[0], "first"), (alone[1], alone[0], sizes[1], "second")):
        if size and own > 0.1 * size and not other:
            return Direction("first" if place == "first" else "second", "it holds the other whole, and more")
    return None
