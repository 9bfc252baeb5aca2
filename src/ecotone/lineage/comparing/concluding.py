"""What the figures of a pair say together: related or not, which relation, which is the child."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Final, Literal

import msgspec
import numpy as np

from ecotone.lineage.comparing.answers import Check, Direction, figure
from ecotone.lineage.comparing.differences import Difference
from ecotone.lineage.comparing.grids import stored_bits
from ecotone.lineage.comparing.pairing import Pairing
from ecotone.lineage.comparing.roles import Role, layer_of, role_of
from ecotone.lineage.comparing.spectrum import Spectrum
from ecotone.lineage.comparing.thresholds import Thresholds
from ecotone.lineage.tensors import TensorInfo
from ecotone.vocabulary import Relation

_LEAST: Final = 256
_LEAST_ALIKE: Final = 1024
_INTEGERS: Final = {"I8": 8, "U8": 8, "I16": 16, "I32": 32, "I64": 64, "U16": 16, "U32": 32, "U64": 64}
_WEIGHT: Final = ".weight"
Side = Literal["first", "second"]


class Picture(msgspec.Struct, frozen=True):
    """All figures of a pair, the child's side first.

    Args:
        child, parent: tensors by name.
        pairing: which answers to which.
        differences: by the child's name, of pairs that could be compared.
        spectra: of some of those that differ.
        formats: of the files.
        shuffled: whether hidden dimensions had to be put in order first.
    """

    child: Mapping[str, TensorInfo]
    parent: Mapping[str, TensorInfo]
    pairing: Pairing
    differences: Mapping[str, Difference]
    spectra: Mapping[str, Spectrum] = {}
    formats: tuple[str, str] = ("safetensors", "safetensors")
    shuffled: bool = False

    @property
    def tables(self) -> dict[str, Difference]:
        """Pairs of two and more dimensions with enough values to say something."""
        return {
            n: d
            for n, d in self.differences.items()
            if len(self.child[n].shape) >= 2 and d.count >= _LEAST and not d.constant
        }

    @property
    def projections(self) -> dict[str, Difference]:
        """Matrices inside layers; all matrices where there are no layers."""
        inside = {n: d for n, d in self.tables.items() if layer_of(n) is not None}
        return inside or self.tables

    @property
    def cosine(self) -> float:
        """Mean of the tables' cosines, weighted by their size."""
        return mean_cosine([(d.cosine, d.count) for d in self.tables.values()])

    def share(self, low: float, high: float = 2.0) -> float:
        """Share of the child's values in tables whose cosine lies from `low` up to `high`."""
        total = sum(t.count for n, t in self.child.items() if len(t.shape) >= 2)
        found = sum(d.count for d in self.tables.values() if low <= d.cosine < high and d.count >= _LEAST_ALIKE)
        return found / total if total else 0.0

    @property
    def identical(self) -> bool:
        """Whether every tensor of both has the same values in the other."""
        return bool(self.differences) and not (
            self.pairing.only_child
            or self.pairing.repeated
            or self.pairing.moved
            or self.pairing.experts
            or self.pairing.only_parent
            or len(self.differences) < len(self.pairing.names)
            or any(d.equal < 1 or self.resized(n) for n, d in self.differences.items())
        )

    def resized(self, name: str) -> bool:
        return self.child[name].shape != self.parent[self.pairing.names[name]].shape


class Kind(msgspec.Struct, frozen=True):
    """A relation with what goes with it and the checks that led to it."""

    relation: Relation
    evidence: tuple[Check, ...]
    also: tuple[Relation, ...] = ()
    rank: int | None = None
    bits: int | None = None
    weights: dict[str, float] = {}


def mean_cosine(weighted: list[tuple[float, int]]) -> float:
    total = sum(count for _, count in weighted)
    return sum(cosine * count for cosine, count in weighted) / total if total else 0.0


def bits_of(picture: Picture, side: Side) -> int | None:
    """Bits that most of one side's projections have: by their type, else by the grid their values lie on."""
    tensors = picture.child if side == "first" else picture.parent
    counts: Counter[int | None] = Counter()
    for name, found in picture.projections.items():
        own = name if side == "first" else picture.pairing.names[name]
        grid = found.child_bits if side == "first" else found.parent_bits
        counts[stored_bits(tensors[own].dtype) or grid] += found.count
    packed = packed_bits(picture, side)
    if packed is not None:
        return packed
    bits, count = max(counts.items(), key=lambda item: item[1], default=(None, 0))
    return bits if bits is not None and count * 2 > sum(counts.values()) else _narrowest(counts)


def _narrowest(counts: Counter[int | None]) -> int | None:
    """The weighted mean of bits where a file mixes several quantised types; None while most values have none."""
    known = {b: c for b, c in counts.items() if b is not None}
    if sum(known.values()) * 2 <= sum(counts.values()) or not known:
        return None
    return round(sum(b * c for b, c in known.items()) / sum(known.values()))


def packed_bits(picture: Picture, side: Side) -> int | None:
    """Bits of a value where one side's matrices lie packed in integers (GPTQ, AWQ, bitsandbytes)."""
    ours, theirs = (picture.child, picture.parent) if side == "first" else (picture.parent, picture.child)
    alone = picture.pairing.only_parent if side == "first" else picture.pairing.only_child
    found = []
    for name in (*alone, *(n for n, t in theirs.items() if n in ours and ours[n].shape != t.shape)):
        if not name.endswith(_WEIGHT) or len(theirs[name].shape) != 2 or not theirs[name].count:
            continue
        stem = name.removesuffix(_WEIGHT)
        for end in (".qweight", ".weight_packed", ".weight"):
            packed = ours.get(stem + end)
            if packed is not None and packed.dtype in _INTEGERS:
                found.append(packed.count * _INTEGERS[packed.dtype] / theirs[name].count)
    bits = round(float(np.median(found))) if found else 0
    return bits if 1 <= bits <= 8 else None


def zeros(picture: Picture, side: Side) -> float:
    """Share of exact zeros in one side's projections."""
    found = list(picture.projections.values())
    total = sum(d.count for d in found)
    each = (d.child_zeros if side == "first" else d.parent_zeros for d in found)
    return sum(z * d.count for z, d in zip(each, found, strict=True)) / total if total else 0.0


def rounded(picture: Picture, side: Side) -> float:
    """Share of one side's values that are the other's, rounded to 16 bits."""
    found = list(picture.tables.values())
    total = sum(d.count for d in found)
    each = (1.0 if d.equal == 1 else d.child_rounded if side == "first" else d.parent_rounded for d in found)
    return sum(r * d.count for r, d in zip(each, found, strict=True)) / total if total else 0.0


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
    narrower = _narrower(picture)
    if narrower is not None:
        return Direction(narrower, "its layers hold a part of the other's rows")
    for name in picture.differences:
        if role_of(name) is Role.EMBEDDING and picture.resized(name):
            more = picture.child[name].shape[0] - picture.parent[pairing.names[name]].shape[0]
            if more:
                return Direction("first" if more > 0 else "second", "it has more tokens than the other")
    alone = [_values(t, n) for t, n in ((picture.child, pairing.only_child), (picture.parent, pairing.only_parent))]
    sizes = [sum(t.count for t in side.values()) for side in (picture.child, picture.parent)]
    for own, other, size, place in ((alone[0], alone[1], sizes[0], "first"), (alone[1], alone[0], sizes[1], "second")):
        if size and own > 0.1 * size and not other:
            return Direction("first" if place == "first" else "second", "it holds the other whole, and more")
    return None


def _values(tensors: Mapping[str, TensorInfo], names: tuple[str, ...]) -> int:
    return sum(tensors[n].count for n in names)


def _narrower(picture: Picture) -> Side | None:
    """The side whose layers have smaller matrices throughout."""
    less = more = 0
    for name in picture.differences:
        if layer_of(name) is not None and picture.resized(name):
            mine, other = picture.child[name].shape, picture.parent[picture.pairing.names[name]].shape
            less += prod(mine) < prod(other)
            more += prod(mine) > prod(other)
    if bool(less) == bool(more):
        return None
    return "first" if less else "second"


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
    more = _values(picture.child, picture.pairing.only_child) if not picture.pairing.added else 0
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
    if _more_tokens(picture) > 0:
        found.append(Relation.VOCAB_EXTENDED)
    return tuple(found)


def _pruned(picture: Picture, median: float, t: Thresholds) -> Kind | None:
    more = zeros(picture, "first") - zeros(picture, "second")
    narrower = _narrower(picture) == "first"
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
    more = _more_tokens(picture)
    if more:
        means = f"the child's vocabulary has {abs(more)} tokens {'more' if more > 0 else 'fewer'} than the parent's"
        relation = Relation.VOCAB_EXTENDED if more > 0 else Relation.PRUNED
        return Kind(relation, (Check("vocabulary", float(more), 1.0, True, means),), trained)
    return None


def _more_tokens(picture: Picture) -> int:
    for name in picture.differences:
        if role_of(name) is Role.EMBEDDING:
            return picture.child[name].shape[0] - picture.parent[picture.pairing.names[name]].shape[0]
    return 0


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


def merge_share(picture: Picture, t: Thresholds) -> float | None:
    """The parent's share in a linear merge whose other part is not known; None when it does not look like one.

    Each tensor is then the same share of the parent's plus something as large as another model's rest would be (of a
    spherical merge: so large that the length stays).
    """
    found = [d for n, d in picture.tables.items() if not picture.resized(n)]
    if len(found) < 6:
        return None
    slopes = np.array([d.slope for d in found])
    share, spread = float(np.median(slopes)), float(np.quantile(slopes, 0.9) - np.quantile(slopes, 0.1))
    if not 0.1 <= share <= t.merge_share or spread > t.merge_spread:
        return None
    rest = float(np.median([d.unexplained for d in found]))
    linear = 0.5 <= rest / (1 - share) <= 2
    return share if linear or abs(share**2 + rest**2 - 1) < 0.1 else None


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
