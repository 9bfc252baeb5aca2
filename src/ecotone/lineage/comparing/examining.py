"""All figures of two sets of weights, tensor by tensor: pairs, differences, and the order in which they line up."""

from collections.abc import Callable
from typing import Final

import msgspec

from ecotone.lineage.comparing import aligning
from ecotone.lineage.comparing.answers import Check, figure
from ecotone.lineage.comparing.differences import Difference, difference, rank
from ecotone.lineage.comparing.heads import attention
from ecotone.lineage.comparing.invariants import qk_cosine
from ecotone.lineage.comparing.pairing import Pairing, pair, spread
from ecotone.lineage.comparing.picture import Picture
from ecotone.lineage.comparing.roles import Role, role_of
from ecotone.lineage.comparing.spectrum import Spectrum
from ecotone.lineage.comparing.thresholds import Thresholds
from ecotone.lineage.comparing.views import View
from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.sources import Source

Progress = Callable[[int, int], None]
_RANKED: Final = 12


class Examined(msgspec.Struct, frozen=True):
    """A picture and what led to it.

    Args:
        picture: the figures, after hidden dimensions were put in order where that was needed.
        plain: mean cosine before.
        aligned: mean cosine of the projections that the alignment was not taken from; None when there was none.
        qk: the product of queries and keys; None when it was not computed.
        rows: how far MLP neurons answer to each other, 0 (by chance) to 1; None when it was not looked at.
        evidence: the checks.
        unread: tensors whose values could not be read.
        odd: values that are NaN or infinite.
    """

    picture: Picture
    plain: float
    aligned: float | None
    qk: float | None
    rows: float | None
    evidence: tuple[Check, ...]
    unread: tuple[str, ...]
    odd: int


def examine(child: Source, parent: Source, t: Thresholds, progress: Progress | None = None) -> Examined:
    """The figures of two models. Reads them tensor by tensor."""
    formats = (child.format, parent.format)
    child, parent, folded = _folded_alike(child, parent)
    pairing = pair(child, parent)
    found, unread = differences(child, parent, pairing, t.grid, progress)
    picture = Picture(child.tensors, parent.tensors, pairing, found, formats=formats, shuffled=folded)
    plain = picture.cosine
    evidence = [_cosine_check(picture, t)]
    qk = rows = aligned = None
    foreign = sum(d.count for d in picture.tables.values() if d.cosine < t.cosine_related)
    if foreign > t.realign_share * sum(d.count for d in picture.tables.values()) or picture.pairing.only_parent:
        qk, how = qk_cosine(child, parent, pairing)
        evidence.append(_qk_check(qk, how, t))
        better = _aligned(child, parent, picture, t)
        rows, aligned = better.rows, better.cosine
        evidence += better.evidence
        picture, child, parent = better.picture, better.child, better.parent
    picture = msgspec.structs.replace(picture, spectra=_spectra(child, parent, picture))
    odd = sum(d.odd for d in picture.differences.values())
    return Examined(picture, plain, aligned, qk, rows, tuple(evidence), unread, odd)


def _folded_alike(child: Source, parent: Source) -> tuple[Source, Source, bool]:
    """Both models with the weights of norms folded into what follows them, where one of them is saved that way; and
    whether that was so."""
    plain = [_has_plain_norms(s) for s in (child, parent)]
    if plain == [True, False]:
        return child, View(parent, fold=True), True
    return (View(child, fold=True), parent, True) if plain == [False, True] else (child, parent, False)


def _has_plain_norms(source: Source) -> bool | None:
    """Whether every norm before a projection is all ones; None when there is none."""
    norms = [n for n in source.tensors if role_of(n) in (Role.ATTENTION_NORM, Role.MLP_NORM)]
    return all(bool((source.read(n) == 1).all()) for n in norms) if norms else None


def differences(
    child: Source, parent: Source, pairing: Pairing, grid: float | None, progress: Progress | None = None
) -> tuple[dict[str, Difference], tuple[str, ...]]:
    """What lies between the tensors of each pair, and which of them could not be read."""
    found: dict[str, Difference] = {}
    unread: list[str] = []
    for done, (name, partner) in enumerate(pairing.names.items()):
        try:
            one = difference(child, name, parent, partner, grid=grid)
        except BrokenWeights:
            unread.append(name)
            continue
        if one is not None:
            found[name] = one
        if progress is not None:
            progress(done + 1, len(pairing.names))
    return found, tuple(unread)


class _Better(msgspec.Struct, frozen=True):
    """Two models in one order, as far as there is one."""

    picture: Picture
    child: Source
    parent: Source
    cosine: float | None = None
    rows: float | None = None
    evidence: tuple[Check, ...] = ()


def _aligned(child: Source, parent: Source, picture: Picture, t: Thresholds) -> _Better:
    """Undoes what hides a likeness: permuted or rotated residual dimensions, then heads and neurons that moved."""
    a, b, steps, evidence, excess = child, parent, [], [], None
    try:
        turned = aligning.residual(a, b)
        if turned is not None:
            a, b = turned.views(a, b)
            steps.append(f"residual dimensions {turned.kind}")
        moved = attention(a, b, picture.pairing)
        if moved is not None:
            a = View(a, heads=moved.heads)
            steps.append("attention heads in another order" if moved.moved else "values of heads in another basis")
        rows = aligning.rows(a, b, picture.pairing)
        if rows is not None:
            excess, check = _rows_check(rows, t)
            evidence.append(check)
            if check.passed:
                a = View(a, neurons=rows.child) if rows.child else a
                b = View(b, neurons=rows.parent) if rows.parent else b
                steps.append("MLP neurons in another order")
        if not steps:
            return _Better(picture, child, parent, None, excess, tuple(evidence))
        better = _again(picture, a, b)
    except BrokenWeights:
        return _Better(picture, child, parent)
    cosine = picture_cosine(better)
    evidence.append(_aligned_check(cosine, steps, t))
    if cosine < picture_cosine(picture) + 0.01:
        return _Better(picture, child, parent, None, excess, tuple(evidence))
    return _Better(msgspec.structs.replace(better, shuffled=True), a, b, cosine, excess, tuple(evidence))


def _aligned_check(cosine: float, steps: list[str], t: Thresholds) -> Check:
    means = f"mean cosine of the layers' projections once this is undone: {', '.join(steps)}"
    return Check("aligned_cosine", figure(cosine), t.realigned, cosine >= t.realigned, means)


def _rows_check(rows: aligning.Rows, t: Thresholds) -> tuple[float, Check]:
    excess = (rows.figure - rows.chance) / max(1 - rows.chance, 1e-6)
    limit = rows.chance + t.rows_excess * (1 - rows.chance)
    means = (
        "mean cosine of MLP neurons, each with the one that it answers to; by chance models of this width reach "
        f"{rows.chance:.2f}"
    )
    return excess, Check("mlp_rows", figure(rows.figure), figure(limit), excess >= t.rows_excess, means)


def _again(picture: Picture, child: Source, parent: Source) -> Picture:
    """The figures of two views. Grids are those of the tensors as they lie in the files."""
    found, _ = differences(child, parent, picture.pairing, None)
    merged = {
        n: msgspec.structs.replace(
            d,
            child_bits=picture.differences[n].child_bits,
            parent_bits=picture.differences[n].parent_bits,
            child_zeros=picture.differences[n].child_zeros,
            parent_zeros=picture.differences[n].parent_zeros,
        )
        if n in picture.differences
        else d
        for n, d in found.items()
    }
    return msgspec.structs.replace(picture, differences=merged)


def picture_cosine(picture: Picture) -> float:
    """Mean cosine of the projections alone."""
    found = picture.projections.values()
    total = sum(d.count for d in found)
    return sum(d.cosine * d.count for d in found) / total if total else 0.0


def _spectra(child: Source, parent: Source, picture: Picture) -> dict[str, Spectrum]:
    changed = [n for n, d in picture.projections.items() if d.equal < 1 and d.cosine > 0 and not d.odd]
    found = {}
    for n in spread(changed, _RANKED):
        one = rank(child, n, parent, picture.pairing.names[n])
        if one is not None:
            found[n] = one
    return found


def _cosine_check(picture: Picture, t: Thresholds) -> Check:
    count = len(picture.tables)
    if not count:
        means = "no tensors of equal name and rank hold values that could be compared"
        return Check("cosine", None, t.cosine_related, None, means)
    mean = picture.cosine
    means = f"mean cosine of {count} tensors of equal name, weighted by size; independent models have about 0"
    return Check("cosine", figure(mean), t.cosine_related, mean >= t.cosine_related, means)


def _qk_check(qk: float | None, how: str, t: Thresholds) -> Check:
    if qk is None:
        return Check("query_key_product", None, t.qk_related, None, f"not computed: {how}")
    means = (
        f"cosine of the centred products of queries and keys on shared tokens ({how}); permutations and rotations do "
        "not change it, independent models have up to about 0.2"
    )
    return Check("query_key_product", figure(qk), t.qk_related, qk >= t.qk_related, means)
