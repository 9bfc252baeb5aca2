"""Attention heads that changed places, and values of a head in another basis, which its output matrix undoes."""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from ecotone.lineage.comparing.cosines import cosine
from ecotone.lineage.comparing.pairing import Pairing, spread
from ecotone.lineage.comparing.roles import Role
from ecotone.lineage.comparing.views import Heads, Indices, Layer, Parts, layer_pairs
from ecotone.lineage.sources import Source, Values

_ROLES: Final = (Role.QUERY, Role.KEY, Role.VALUE, Role.OUT)
_SURE: Final = 0.3
_LAYERS: Final = 8
Parted = tuple[Values, Values, Values, Values]


class Attention(msgspec.Struct, frozen=True):
    """How heads answer to each other: for a `View` of the child, and whether any moved or turned."""

    heads: Mapping[Layer, Heads]
    moved: int
    turned: int


def attention(child: Source, parent: Source, pairing: Pairing) -> Attention | None:
    """How the attention heads of two models answer to each other, in at most eight layers spread over the model; None
    when no layer's heads moved or turned, or when the number of heads is not known."""
    counts = [s.architecture.heads if s.architecture is not None else None for s in (child, parent)]
    count = counts[0]
    if count is None or count != counts[1]:
        return None
    ours, theirs = Parts(child), Parts(parent)
    found: dict[Layer, Heads] = {}
    moved = turned = 0
    pairs = layer_pairs(pairing, ours, Role.QUERY)
    for mine, other in spread(pairs, _LAYERS):
        a, b = _parted(child, ours, mine, count), _parted(parent, theirs, other, count)
        if a is None or b is None or [x.shape for x in a] != [x.shape for x in b]:
            continue
        heads = _answer(a, b)
        if heads is None:
            continue
        moved += bool((heads.order != np.arange(count)).any())
        turned += heads.turns is not None
        found[mine] = heads
    return Attention(found, moved, turned) if moved or turned else None


def _parted(source: Source, parts: Parts, layer: Layer, count: int) -> Parted | None:
    """Queries and outputs by head, keys and values by the heads that they have, each as heads x size x width."""
    tables = []
    for role in _ROLES:
        name = parts.one(role, layer)
        table = source.read(name) if name is not None else np.zeros(0, np.float32)
        if table.ndim != 2 or 0 in table.shape:
            return None
        tables.append(np.where(np.abs(table) < 1e18, table, np.float32(0)))
    q, k, v, o = (*tables[:3], tables[3].T)
    if len(q) % count or len(o) != len(q) or len(k) != len(v) or len({t.shape[1] for t in (q, k, v, o)}) != 1:
        return None
    size = len(q) // count
    if not size or len(k) % size or count % (len(k) // size):
        return None
    width = q.shape[1]
    return (q.reshape(count, size, width), *(t.reshape(-1, size, width) for t in (k, v, o)))  # type: ignore[return-value]


def _answer(a: Parted, b: Parted) -> Heads | None:
    """The order and bases in which the child's heads are the parent's; None unless each is clear."""
    count, groups = len(a[0]), len(a[1])
    share = count // groups
    keys = _assigned([(a[1], b[1]), (a[2], b[2]), (_grouped(a[0], groups), _grouped(b[0], groups))])
    if keys is None:
        return None
    order = np.empty(count, np.int64)
    for place, group in enumerate(keys):
        ours, theirs = slice(group * share, (group + 1) * share), slice(place * share, (place + 1) * share)
        inner = _assigned([(a[0][ours], b[0][theirs]), (a[3][ours], b[3][theirs])])
        order[theirs] = group * share + (np.arange(share) if inner is None else inner)
    return Heads(order, keys, _turns(a, b, order, keys))


def _grouped(blocks: Values, groups: int) -> Values:
    """The mean over heads that share keys: it does not depend on their order."""
    return np.asarray(blocks.reshape(groups, -1, *blocks.shape[1:]).mean(axis=1), np.float32)


def _assigned(pairs: list[tuple[Values, Values]]) -> Indices | None:
    """Which of the first's blocks each of the second's is, by the best of several tables; None where that is not clear
    for most."""
    alike = np.max([_unit(b) @ _unit(a).T for a, b in pairs], axis=0)
    order = alike.argmax(axis=1)
    best = alike.max(axis=1)
    if len(np.unique(order)) < len(order) or best.mean() < _SURE:
        return None
    return np.asarray(order, np.int64)


def _unit(blocks: Values) -> Values:
    rows = blocks.reshape(len(blocks), -1)
    scale = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(scale > 0, scale, 1), np.float32)


def _turns(a: Parted, b: Parted, order: Indices, keys: Indices) -> Values | None:
    """Rotations that take the child's values to the parent's, when the output matrix confirms them; else None."""
    values, wanted = a[2][keys], b[2]
    if cosine(values, wanted) >= 0.5:
        return None
    turns = []
    for mine, other in zip(values, wanted, strict=True):
        left, _, right = np.linalg.svd(other.astype(np.float64) @ mine.T)
        turns.append(left @ right)
    found = np.stack(turns).astype(np.float32)
    outputs = np.repeat(found, len(a[3]) // len(found), axis=0) @ a[3][order]
    return found if cosine(outputs, b[3]) >= _SURE else None
