"""Two sets of weights compared: all checks, and what they say."""

import msgspec

from ecotone.lineage.comparing.answers import Check, Comparison, Direction, Related, figure
from ecotone.lineage.comparing.concluding import kind
from ecotone.lineage.comparing.directing import direction
from ecotone.lineage.comparing.examining import Examined, Progress, examine
from ecotone.lineage.comparing.pairing import pair
from ecotone.lineage.comparing.picture import Picture, merge_share, packed_bits
from ecotone.lineage.comparing.prints import shared_check, shared_share
from ecotone.lineage.comparing.roles import dense_of
from ecotone.lineage.comparing.thresholds import Thresholds, thresholds
from ecotone.lineage.fingerprint import Fingerprint
from ecotone.lineage.sources import Source
from ecotone.vocabulary import Relation

_LEAST_SHARED: int = 1024


def compare(
    child: Source,
    parent: Source,
    *,
    prints: tuple[Fingerprint, Fingerprint] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Whether two models are related, how, and which was made from the other.

    Args:
        child, parent: in the order in which they are believed to be; the answer's `direction` tells when the weights
            say otherwise, and the relation is then that of the second to the first.
        prints: fingerprints of both, where they are known: tensors that were renamed are then found too.
        progress: is told tensors done and tensors in all.
    """
    if _is_derived(parent, child):
        return turned(_compared(parent, child, prints[::-1] if prints else None, progress))
    found = _compared(child, parent, prints, progress)
    if found.direction is None or found.direction.child == "first":
        return found
    back = turned(_compared(parent, child, prints[::-1] if prints else None, progress))
    return back if back.related is Related.YES else found


def _compared(
    child: Source, parent: Source, prints: tuple[Fingerprint, Fingerprint] | None, progress: Progress | None
) -> Comparison:
    """The comparison with the child as the first."""
    t = thresholds()
    seen = examine(child, parent, t, progress)
    picture = seen.picture
    shared = _shared(picture, prints)
    evidence = [shared_check(shared, t), *seen.evidence, *_oddities(seen)]
    related, why = _related(seen, shared, t)
    evidence += [why] if why is not None else []
    likeness = round(max(0.0, picture.cosine, seen.qk or 0.0), 6)
    if related is not Related.YES:
        return Comparison(related, likeness=likeness, evidence=tuple(evidence))
    found = kind(picture, t)
    return Comparison(
        related,
        found.relation,
        found.also,
        None if found.relation is Relation.MIRROR_OF else direction(picture, t),
        likeness,
        found.rank,
        found.bits,
        found.weights,
        (*evidence, *found.evidence),
    )


def _is_derived(first: Source, second: Source) -> bool:
    """Whether names or repeated layers show that the first is made from the second, though not the other way round."""
    experts = [any(dense_of(n) for n in s.tensors) for s in (first, second)]
    if experts[0] != experts[1]:
        return experts[0]
    forward, back = pair(first, second), pair(second, first)
    return bool(forward.repeated) and not back.repeated


def _shared(picture: Picture, prints: tuple[Fingerprint, Fingerprint] | None) -> float:
    """Share of the child's bytes in tensors of the parent: by hash where there are fingerprints, else by values."""
    if prints is not None:
        return shared_share(*prints)
    found = {n: d for n, d in picture.differences.items() if d.equal == 1 and not d.constant and not picture.shuffled}
    same = sum(d.count for n, d in found.items() if d.count >= _LEAST_SHARED and not picture.resized(n))
    total = sum(i.count for i in picture.child.values())
    return same / total if total else 0.0


def _related(seen: Examined, shared: float, t: Thresholds) -> tuple[Related, Check | None]:
    """Whether the figures speak for common descent, and the check that none of the others stands for."""
    picture = seen.picture
    if shared >= t.shared or picture.cosine >= t.cosine_related:
        return Related.YES, None
    same = picture.share(t.graft_same)
    if same > 0:
        means = f"tensors with {same:.1%} of the child's values are nearly the parent's, the rest is not"
        return Related.YES, Check("transplanted", figure(same), t.graft_same, True, means)
    if packed_bits(picture, "first") or packed_bits(picture, "second"):
        means = "the matrices lie packed in integers that are not read here, and nothing else is alike"
        return Related.UNSURE, Check("packed", None, None, None, means)
    if seen.qk is not None and seen.qk >= t.qk_related:
        return (Related.YES, None) if (seen.aligned or seen.rows or 0.0) >= t.realigned else (Related.UNSURE, None)
    if seen.aligned is not None and seen.aligned >= t.cosine_related:
        return Related.YES, None
    if picture.cosine >= t.cosine_suspected and merge_share(picture, t) is not None:
        return Related.YES, None
    if picture.cosine >= t.cosine_suspected or (seen.qk is not None and seen.qk >= t.qk_suspected):
        return Related.UNSURE, None
    return Related.NO, None


def _oddities(seen: Examined) -> list[Check]:
    """What could not be compared, said as checks that decide nothing."""
    found = []
    if seen.odd:
        means = f"{seen.odd} values are NaN, infinite or too large; they were taken as 0"
        found.append(Check("odd_values", float(seen.odd), None, None, means))
    if seen.unread:
        means = f"tensors of a type whose values are not read here, such as {seen.unread[0][:80]}"
        found.append(Check("unread_tensors", float(len(seen.unread)), None, None, means))
    if not seen.picture.pairing.names:
        means = "the two have no tensor name in common: different architectures, or names that are not known here"
        found.append(Check("names", 0.0, None, None, means))
    return found


def turned(found: Comparison) -> Comparison:
    """The comparison seen from the other side: only the direction changes."""
    if found.direction is None:
        return found
    child = Direction("second" if found.direction.child == "first" else "first", found.direction.why)
    return msgspec.structs.replace(found, direction=child)
