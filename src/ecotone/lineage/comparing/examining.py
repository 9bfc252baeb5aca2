"""All figures of two sets of weights, tensor by tensor: pairs, differences, and the order in which they line up."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import numpy as np

from ecotone.lineage.comparing import aligning
from ecotone.lineage.comparing.answers import Check, figure
from ecotone.lineage.comparing.concluding import Picture
from ecotone.lineage.comparing.differences import Difference, difference, rank
from ecotone.lineage.comparing.invariants import qk_cosine
from ecotone.lineage.comparing.pairing import Pairing, pair
from ecotone.lineage.comparing.spectrum import Spectrum
from ecotone.lineage.comparing.thresholds import Thresholds
from ecotone.lineage.comparing.views import View
from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.sources import Source

Progress = Callable[[int, int], None]
_RANKED: Final = 12
_ANCHOR: Final = 4096


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
    pairing = pair(child, parent)
    found, unread = differences(child, parent, pairing, t, progress)
    picture = Picture(child.tensors, parent.tensors, pairing, found, formats=(child.format, parent.format))
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


def differences(
    child: Source, parent: Source, pairing: Pairing, t: Thresholds, progress: Progress | None = None
) -> tuple[dict[str, Difference], tuple[str, ...]]:
    """What lies between the tensors of each pair, and which of them could not be read."""
    found: dict[str, Difference] = {}
    unread: list[str] = []
    for done, (name, partner) in enumerate(pairing.names.items()):
        try:
            one = difference(child, name, parent, partner, grid=t.grid)
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
    """Undoes what hides a likeness: permuted or rotated residual dimensions, then permuted neurons."""
    best = _Better(picture, child, parent)
    try:
        turned = aligning.residual(child, parent)
        if turned is not None:
            best = _with_residual(best, turned, t)
        rows = aligning.rows(best.child, best.parent, picture.pairing)
    except BrokenWeights:
        return best
    return best if rows is None else _with_rows(best, rows, t)


def _with_residual(best: _Better, turned: aligning.Residual, t: Thresholds) -> _Better:
    a, b = turned.views(best.child, best.parent)
    picture = _again(best.picture, a, b, best.picture.pairing.names, t)
    cosine = picture_cosine(picture)
    passed = cosine >= t.realigned and cosine > picture_cosine(best.picture) + 0.1
    means = (
        f"once the child's residual dimensions are {'put back in order' if turned.kind == 'permuted' else 'rotated back'} "
        "(found from the embeddings alone), this is the mean cosine of the layers' projections"
    )
    check = Check("aligned_cosine", figure(cosine), t.realigned, passed, means)
    if not passed:
        return msgspec.structs.replace(best, evidence=(check,))
    return _Better(msgspec.structs.replace(picture, shuffled=True), a, b, cosine, None, (check,))


def _with_rows(best: _Better, rows: aligning.Rows, t: Thresholds) -> _Better:
    excess = (rows.figure - rows.chance) / max(1 - rows.chance, 1e-6)
    limit = rows.chance + t.rows_excess * (1 - rows.chance)
    passed = excess >= t.rows_excess
    means = (
        "mean cosine of MLP neurons, each with the one that it answers to; by chance models of this width reach "
        f"{rows.chance:.2f}"
    )
    check = Check("mlp_rows", figure(rows.figure), figure(limit), passed, means)
    best = msgspec.structs.replace(best, rows=excess, evidence=(*best.evidence, check))
    if not passed:
        return best
    a: Source = View(best.child, neurons=rows.child) if rows.child else best.child
    b: Source = View(best.parent, neurons=rows.parent) if rows.parent else best.parent
    picture = _again(best.picture, a, b, best.picture.pairing.names, t)
    if picture.cosine < best.picture.cosine + 0.01:
        return best
    picture = msgspec.structs.replace(picture, shuffled=True)
    return msgspec.structs.replace(best, picture=picture, child=a, parent=b)


def _again(picture: Picture, child: Source, parent: Source, names: Iterable[str], t: Thresholds) -> Picture:
    """The figures of two views. Grids are those of the tensors as they lie in the files."""
    found, _ = differences(child, parent, picture.pairing, t)
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
    return msgspec.structs.replace(picture, child=child.tensors, parent=parent.tensors, differences=merged)


def picture_cosine(picture: Picture) -> float:
    """Mean cosine of the projections alone."""
    found = picture.projections.values()
    total = sum(d.count for d in found)
    return sum(d.cosine * d.count for d in found) / total if total else 0.0


def _spectra(child: Source, parent: Source, picture: Picture) -> dict[str, Spectrum]:
    changed = [n for n, d in picture.projections.items() if d.equal < 1 and d.cosine > 0 and not d.odd]
    picked = np.unique(np.linspace(0, len(changed) - 1, min(len(changed), _RANKED)).astype(int)) if changed else []
    found = {}
    for n in (changed[i] for i in picked):
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
