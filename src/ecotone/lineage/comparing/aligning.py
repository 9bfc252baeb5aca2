"""The order or basis in which two models agree: residual dimensions by the embeddings, neurons by their rows."""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from ecotone.lineage.comparing.cosines import cosine
from ecotone.lineage.comparing.invariants import Table, tokens_of
from ecotone.lineage.comparing.pairing import Pairing, spread
from ecotone.lineage.comparing.roles import Role
from ecotone.lineage.comparing.views import Indices, Parts, View, layer_pairs
from ecotone.lineage.sources import Source, Values

_SURE: Final = 0.5
_WIDEST_TURN: Final = 2048
_COLUMNS: Final = 256
_MANY: Final = 2048
_BLOCK: Final = 1024
_LAYERS: Final = 8
_SEED: Final = 20261128


class Residual(msgspec.Struct, frozen=True):
    """How the child's residual dimensions answer to the parent's: `permuted` or `rotated`; see `View` for the rest."""

    kind: str
    order: Indices | None = None
    signs: Values | None = None
    turn: Values | None = None

    def views(self, child: Source, parent: Source) -> tuple[Source, Source]:
        """Both models in the parent's order or basis."""
        if self.kind == "permuted":
            return View(child, order=self.order, signs=self.signs), parent
        return View(child, turn=self.turn, fold=True), View(parent, fold=True)


class Rows(msgspec.Struct, frozen=True):
    """How MLP neurons answer to each other.

    Args:
        figure: mean best cosine of a neuron of the narrower model, over the layers looked at.
        chance: the same when the columns are shuffled: what models of that width give that have nothing in common.
        child, parent: orders for a `View` of either; only the wider model (else the child) has one.
    """

    figure: float
    chance: float
    child: Mapping[tuple[str, int], Indices]
    parent: Mapping[tuple[str, int], Indices]


def residual(child: Source, parent: Source) -> Residual | None:
    """How the residual dimensions of two models answer to each other; None when they agree as they are, or when
    nothing makes the embeddings agree."""
    here, there = Parts(child).one(Role.EMBEDDING), Parts(parent).one(Role.EMBEDDING)
    if here is None or there is None:
        return None
    first, second = child.tensors[here].shape, parent.tensors[there].shape
    if len(first) != 2 or len(second) != 2 or first[1] != second[1] or min(first[0], second[0]) < 32:
        return None
    count, width = min(first[0], second[0]), first[1]
    limit = max(1024, 2 * width)
    a = tokens_of(child, here, count, limit).astype(np.float64)
    b = tokens_of(parent, there, count, limit).astype(np.float64)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    if cosine(a, b) >= _SURE:
        return None
    return _permuted(a, b) or (_rotated(a, b) if width <= _WIDEST_TURN and len(a) >= width * 1.5 else None)


def _permuted(a: Table, b: Table) -> Residual | None:
    """The order and signs of the child's columns that make it the parent; None unless each is clear."""
    scales = [np.linalg.norm(x, axis=0) for x in (a, b)]
    if not all((s > 0).all() for s in scales):
        return None
    alike = (b / scales[1]).T @ (a / scales[0])
    order = np.abs(alike).argmax(axis=1)
    best = alike[np.arange(len(order)), order]
    if len(np.unique(order)) < len(order) or np.abs(best).mean() < _SURE:
        return None
    return Residual("permuted", order=order, signs=np.sign(best).astype(np.float32))


def _rotated(a: Table, b: Table) -> Residual | None:
    """The orthogonal matrix that takes the parent to the child (Schoenemann 1966), if it holds for tokens that were
    not used to find it."""
    half = _procrustes(a[::2], b[::2])
    if cosine(a[1::2], b[1::2] @ half) < _SURE:
        return None
    turn = _procrustes(a, b)
    return Residual("rotated", turn=turn.astype(np.float32))


def _procrustes(a: Table, b: Table) -> Table:
    left, _, right = np.linalg.svd(b.T @ a)
    return np.asarray(left @ right)


def rows(child: Source, parent: Source, pairing: Pairing) -> Rows | None:
    """How the neurons of each layer's MLP answer to each other; None when no layer can be compared."""
    ours, theirs = Parts(child), Parts(parent)
    figures, chances = [], []
    orders: tuple[dict[tuple[str, int], Indices], dict[tuple[str, int], Indices]] = ({}, {})
    pairs = layer_pairs(pairing, ours, Role.UP)
    for mine, other in spread(pairs, _LAYERS):
        a, b = _features(child, ours, mine), _features(parent, theirs, other)
        if a is None or b is None or a.shape[1:] != b.shape[1:]:
            continue
        narrow, wide = (a, b) if len(a) < len(b) else (b, a)
        best, order = _nearest(narrow, wide)
        chance, _ = _nearest(_shuffled(narrow), wide)
        figures.append(best)
        chances.append(chance)
        if len(a) < len(b):
            orders[1][other] = order
        else:
            orders[0][mine] = order
    if not figures:
        return None
    return Rows(float(np.mean(figures)), float(np.mean(chances)), *orders)


def _features(source: Source, parts: Parts, layer: tuple[str, int]) -> Values | None:
    """What a neuron reads and writes, each of length one, as one row for each neuron; None without a plain MLP."""
    names = [parts.one(role, layer) for role in (Role.GATE, Role.UP, Role.DOWN)]
    if names[1] is None or names[2] is None:
        return None
    tables = []
    for name in names:
        if name is None:
            continue
        table = source.read(name)
        if table.ndim != 2 or 0 in table.shape:
            return None
        table = table.T if name == names[2] else table
        tables.append(_unit(np.where(np.abs(table) < 1e18, table, np.float32(0))))
    if len({t.shape for t in tables}) != 1:
        return None
    if len(tables[0]) > _MANY and tables[0].shape[1] > _COLUMNS:
        picked = np.random.default_rng(_SEED).choice(tables[0].shape[1], _COLUMNS, replace=False)
        tables = [_unit(t[:, picked]) for t in tables]
    return np.stack(tables, axis=1) / np.float32(np.sqrt(len(tables)))


def _unit(table: Values) -> Values:
    scale = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.where(scale > 0, scale, 1), np.float32)


def _shuffled(features: Values) -> Values:
    return features[:, :, np.random.default_rng(_SEED).permutation(features.shape[2])]


def _nearest(narrow: Values, wide: Values) -> tuple[float, Indices]:
    """Mean cosine of each row to the row that it is assigned, and which that is: mutual nearest neighbours first, what
    is left in descending order of cosine."""
    a, b = narrow.reshape(len(narrow), -1), wide.reshape(len(wide), -1)
    best, order = np.empty(len(a), np.float32), np.empty(len(a), np.int64)
    reverse, near = np.full(len(b), -2.0, np.float32), np.full(len(b), -1, np.int64)
    for begin in range(0, len(a), _BLOCK):
        alike = a[begin : begin + _BLOCK] @ b.T
        order[begin : begin + len(alike)] = alike.argmax(axis=1)
        best[begin : begin + len(alike)] = alike.max(axis=1)
        top = alike.max(axis=0)
        better = top > reverse
        near[better] = alike.argmax(axis=0)[better] + begin
        reverse = np.maximum(reverse, top)
    mutual = near[order] == np.arange(len(a))
    left = np.setdiff1d(np.arange(len(b)), order[mutual])
    lost = np.flatnonzero(~mutual)
    if len(lost):
        order[lost], best[lost] = _greedy(a[lost[:_BLOCK]], b[left], len(lost), left)
    return float(best.mean()), order


def _greedy(a: Values, b: Values, count: int, free: Indices) -> tuple[Indices, Values]:
    """What is left, in descending order of cosine; beyond the first block, in the order of their numbers."""
    alike, order, best = a @ b.T, np.full(count, -1, np.int64), np.zeros(count, np.float32)
    for _ in range(min(alike.shape)):
        row, column = np.unravel_index(int(alike.argmax()), alike.shape)
        order[row], best[row] = free[column], max(float(alike[row, column]), 0.0)
        alike[row, :] = alike[:, column] = -2.0
    order[order < 0] = np.setdiff1d(free, order)[: int((order < 0).sum())]
    return order, best
