"""All figures of a pair, and sums over them."""

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Final, Literal

import msgspec
import numpy as np

from ecotone.lineage.comparing.differences import Difference
from ecotone.lineage.comparing.grids import stored_bits
from ecotone.lineage.comparing.pairing import Pairing
from ecotone.lineage.comparing.roles import Role, layer_of, role_of
from ecotone.lineage.comparing.spectrum import Spectrum
from ecotone.lineage.comparing.thresholds import Thresholds
from ecotone.lineage.tensors import TensorInfo

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


def values_in(tensors: Mapping[str, TensorInfo], names: tuple[str, ...]) -> int:
    return sum(tensors[n].count for n in names)


def narrower_side(picture: Picture) -> Side | None:
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


def more_tokens(picture: Picture) -> int:
    for name in picture.differences:
        if role_of(name) is Role.EMBEDDING:
            return picture.child[name].shape[0] - picture.parent[picture.pairing.names[name]].shape[0]
    return 0


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
