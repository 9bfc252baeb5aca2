"""What the figures of a related pair say of its relation."""

from collections import Counter

import msgspec
import numpy as np

from ecotone.lineage.comparing.answers import Check, figure
from ecotone.lineage.comparing.differences import Difference
from ecotone.lineage.comparing.picture import (
    Picture,
    bits_of,
    merge_share,
    more_tokens,
    narrower_side,
    packed_bits,
    rounded,
    values_in,
    zeros,
)
from ecotone.lineage.comparing.spectrum import Spectrum
from ecotone.lineage.comparing.thresholds import Thresholds
from ecotone.vocabulary import Relation


class Kind(msgspec.Struct, frozen=True):
    """A relation with what goes with it and the checks that led to it."""

    relation: Relation
    evidence: tuple[Check, ...]
    also: tuple[Relation, ...] = ()
    rank: int | None = None
    bits: int | None = None
    weights: dict[str, float] = {}


def kind(picture: Picture, t: Thresholds) -> Kind:
    """What the first of a picture is to the second, the two being related."""
    changed = {n: d for n, d in picture.projections.items() if d.equal < 1}
    median = float(np.median([d.relative for d in changed.values()])) if changed else 0.0
    size = Check(
        "difference",
        figure(median),
        t.continued_l2,
        median < t.continued_l2,
        f"the median relative L2 of {len(changed)} projections that differ (of {len(picture.projections)}); "
        "below the threshold is a fine-tune's, above it that of long further training",
    )
    if packed_bits(picture, "first") and (found := _quantised(picture, median, t)) is not None:
        return msgspec.structs.replace(found, evidence=(size, *found.evidence))
    for rule in (_identical, _component, _quantised, _pruned, _shapes):
        found = rule(picture, median, t)
        if found is not None:
            return msgspec.structs.replace(found, evidence=(size, *found.evidence))
    found = _converted(picture, median, t) or _low_rank(picture, t) or _flat(picture, median, t)
    found = found or _half_merge(picture, t) or _trained(picture, median, t)
    return msgspec.structs.replace(found, evidence=(size, *found.evidence))


def _identical(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    if not picture.identical or picture.shuffled:
        return None
    types = [{x.dtype for x in side.values()} for side in (picture.child, picture.parent)]
    same = picture.formats[0] == picture.formats[1] and types[0] == types[1]
    means = "every tensor has the same values on both sides" + ("" if same else ", in another format or type")
    return Kind(Relation.MIRROR_OF if same else Relation.CONVERTED, (Check("identical", 1.0, 1.0, True, means),))


def _component(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    """A part of the child is the parent's, and another part is not."""
    alike = picture.share(t.cosine_suspected)
    same, other = picture.share(t.graft_same), _foreign(picture, t)
    total = sum(i.count for i in picture.child.values())
    more = values_in(picture.child, picture.pairing.only_child) if not picture.pairing.added else 0
    extra = more > 0.1 * total and not picture.pairing.only_parent and not packed_bits(picture, "first")
    if merge_share(picture, t) is not None or (alike >= 0.5 and not extra and not (same > 0 and other >= 0.1)):
        return None
    relation = Relation.COMPONENT_OF if alike < 0.5 or extra else Relation.MERGE
    return Kind(
        relation,
        (
            Check(
                "parts",
                figure(same),
                t.graft_same,
                True,
                f"{same:.0%} of the child lie in tensors that are nearly the parent's; "
                f"{other:.0%} of its layers have nothing of the parent",
            ),
        ),
    )


def _foreign(picture: Picture, t: Thresholds) -> float:
    """Share of the paired values inside layers that have nothing of the parent, not even with rows left out."""
    inside = {n: d for n, d in picture.projections.items() if not picture.resized(n)}
    total = sum(d.count for d in inside.values())
    return sum(d.count for d in inside.values() if abs(d.cosine) < t.graft_other) / total if total else 0.0


def _quantised(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    bits, other = bits_of(picture, "first"), bits_of(picture, "second")
    if bits is None or (other is not None and other <= bits):
        return None
    more = median > 4.0 / (1 << bits)
    means = f"most projections are stored in {bits} bits or lie on a grid of them; the parent's do not"
    means += ", and they differ by more than rounding to it does" if more else ""
    check = Check("grid", float(bits), 8.0, True, means)
    return Kind(Relation.QUANTISED, (check,), _changes(picture, (Relation.FINETUNE,) if more else ()), bits=bits)


def _changes(picture: Picture, first: tuple[Relation, ...] = ()) -> tuple[Relation, ...]:
    """Further relations by shape."""
    found = list(first)
    if picture.pairing.missing:
        found.append(Relation.DEPTH_PRUNED)
    if more_tokens(picture) > 0:
        found.append(Relation.VOCAB_EXTENDED)
    return tuple(found)


def _pruned(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    more = zeros(picture, "first") - zeros(picture, "second")
    narrower = narrower_side(picture) == "first"
    if more < t.zeros and not narrower:
        return None
    check = Check(
        "zeros",
        figure(more),
        t.zeros,
        True,
        "the child's layers hold fewer rows or columns than the parent's"
        if narrower
        else f"{more:.0%} more of the child's weights are exact zeros than of the parent's",
    )
    kept = [d.equal + d.child_zeros - min(d.child_zeros, d.parent_zeros) for d in picture.projections.values()]
    trained = bool(kept) and float(np.median(kept)) < 0.9 and not narrower
    return Kind(Relation.PRUNED, (check,), _changes(picture, (Relation.FINETUNE,) if trained else ()))


def _shapes(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    """Relations that show in the shapes."""
    pairing = picture.pairing
    trained = (Relation.FINETUNE,) if median >= t.converted_l2 else ()
    if pairing.experts:
        means = f"{pairing.experts} tensors of experts are near to the dense MLP of the parent"
        return Kind(Relation.UPCYCLED, (Check("experts", float(pairing.experts), 1.0, True, means),))
    if pairing.repeated:
        means = f"layers of the parent stand in the child more than once: {', '.join(pairing.repeated[:8])}"
        check = Check("repeated_layers", float(len(pairing.repeated)), 1.0, True, means)
        return Kind(Relation.UPCYCLED, (check,), trained)
    if pairing.missing and not pairing.added:
        means = f"the child lacks layers of the parent: {', '.join(pairing.missing[:8])}"
        check = Check("missing_layers", float(len(pairing.missing)), 1.0, True, means)
        return Kind(Relation.DEPTH_PRUNED, (check,), trained)
    more = more_tokens(picture)
    if more:
        means = f"the child's vocabulary has {abs(more)} tokens {'more' if more > 0 else 'fewer'} than the parent's"
        relation = Relation.VOCAB_EXTENDED if more > 0 else Relation.PRUNED
        return Kind(relation, (Check("vocabulary", float(more), 1.0, True, means),), trained)
    return None


def _converted(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    """Another type, or the same values in another order, scale or basis."""
    exact = max(rounded(picture, "first"), rounded(picture, "second"))
    if exact >= 0.999 and not picture.shuffled and not picture.identical:
        means = "the values of one side are the other's, rounded to 16 bits"
        return Kind(Relation.CONVERTED, (Check("rounding", figure(exact), 0.999, True, means),))
    rest = float(np.median([d.unexplained for d in picture.projections.values()])) if picture.projections else 0.0
    outside = max((d.unexplained for d in picture.tables.values()), default=0.0)
    same_head = outside < t.converted_l2
    if rest < t.converted_l2 and same_head:
        means = "apart from scale, order or basis the projections are the parent's"
        return Kind(Relation.CONVERTED, (Check("residue", figure(rest), t.converted_l2, True, means),))
    return None


def _low_rank(picture: Picture, t: Thresholds) -> Kind | None:
    found = list(picture.spectra.values())
    if not found:
        return None
    held = float(np.median([s.explained for s in found]))
    ranks = Counter(s.rank for s in found)
    rank = max(ranks.items(), key=lambda item: (item[1], item[0]))[0]
    low = [s for n, s in picture.spectra.items() if _is_low(s, picture.differences[n], t)]
    if len(low) * 4 < len(found) * 3:
        return None
    means = f"the differences of {len(low)} of {len(found)} projections have rank {rank}, as a merged adapter's have"
    return Kind(Relation.ADAPTER_MERGED, (Check("rank", figure(held), t.low_rank, True, means),), rank=rank)


def _is_low(found: Spectrum, between: Difference, t: Thresholds) -> bool:
    """Whether a difference has low rank but for what rounding adds, which is small beside the weights themselves."""
    rest = float(np.sqrt(max(0.0, 1 - found.explained))) * between.relative
    return 0 < found.rank <= found.limit and (
        found.explained >= t.low_rank or (found.explained >= 0.9 and rest < t.converted_l2)
    )


def _flat(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    """A difference like noise, as rounding leaves it."""
    ratios = [s.top / s.random for s in picture.spectra.values()]
    ratio = float(np.median(ratios)) if ratios else 0.0
    if not ratios or ratio > t.flat_ratio or median >= t.flat_l2:
        return None
    means = "the difference is small and has the spectrum of noise, as after a conversion"
    return Kind(Relation.CONVERTED, (Check("spectrum", figure(ratio), t.flat_ratio, True, means),))


def _half_merge(picture: Picture, t: Thresholds) -> Kind | None:
    share = merge_share(picture, t)
    if share is None:
        return None
    means = f"each tensor is {share:.2f} of the parent's plus something of the size of another model's share"
    check = Check("share_in_merge", figure(share), t.merge_share, True, means)
    return Kind(Relation.MERGE, (check,), weights={"parent": round(share, 3)})


def _trained(picture: Picture, median: float, t: Thresholds) -> Kind:
    if median < t.continued_l2:
        return Kind(Relation.FINETUNE, ())
    found = list(picture.projections.values())
    here = float(np.median([d.slope for d in found]))
    there = float(np.median([d.slope / max(d.scale, 1e-12) ** 2 for d in found]))
    both = max(here, there) < 1 - t.growth
    means = "two trainings of one initialisation look much like this, so ask; "
    means += (
        "here neither stands in the other undiminished, as two children of a third would have it"
        if both
        else "here one stands in the other undiminished, as a checkpoint does in what was trained from it"
    )
    check = Check("initialisation", figure(max(here, there)), 1 - t.growth, not both, means)
    return Kind(Relation.CONTINUED_PRETRAIN, (check,))
