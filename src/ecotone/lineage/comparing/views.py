"""Weights seen with their hidden dimensions in another order or basis, so that permuted and rotated copies line up.

What a network computes does not change when the residual dimensions are permuted, flipped in sign or (once the weights
of RMS norms are folded into what follows them) rotated, or when the neurons of an MLP change places. A view undoes such
a change while tensors are read.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ecotone.lineage.architecture import Architecture
from ecotone.lineage.comparing.pairing import Pairing
from ecotone.lineage.comparing.roles import Role, layer_of, role_of
from ecotone.lineage.sources import Source, Values
from ecotone.lineage.tensors import TensorInfo

Indices = npt.NDArray[np.int64]
Layer = tuple[str, int]
READS: Final = (Role.QUERY, Role.KEY, Role.VALUE, Role.GATE, Role.UP, Role.EMBEDDING, Role.HEAD)
WRITES: Final = (Role.OUT, Role.DOWN)
_ATTENTION: Final = (Role.QUERY, Role.KEY, Role.VALUE)
_NORMS: Final = (Role.NORM, Role.ATTENTION_NORM, Role.MLP_NORM, Role.FINAL_NORM)
_NORM_OF: Final = {
    Role.QUERY: Role.ATTENTION_NORM,
    Role.KEY: Role.ATTENTION_NORM,
    Role.VALUE: Role.ATTENTION_NORM,
    Role.GATE: Role.MLP_NORM,
    Role.UP: Role.MLP_NORM,
    Role.HEAD: Role.FINAL_NORM,
}


class Heads(NamedTuple):
    """The source's attention heads in another order, and their values in another basis.

    Args:
        order: which of the source's query heads stands at each place.
        shared: the same of key and value heads.
        turns: for each key and value head of the view, the matrix that takes the source's values to it.
    """

    order: Indices
    shared: Indices
    turns: Values | None = None


class Parts:
    """The tensors of a source by what they are: one for each role and layer, where it is clear which."""

    def __init__(self, source: Source) -> None:
        self.roles = {name: role_of(name) for name in source.tensors}
        self._found: dict[tuple[Role, Layer | None], list[str]] = {}
        for name, role in self.roles.items():
            at = layer_of(name)
            self._found.setdefault((role, at[:2] if at else None), []).append(name)

    def one(self, role: Role, layer: Layer | None = None) -> str | None:
        """The tensor that has a role in a layer (None: outside layers); None unless exactly one has."""
        found = self._found.get((role, layer), [])
        return found[0] if len(found) == 1 else None

    @cached_property
    def layers(self) -> list[Layer]:
        return sorted({layer for _, layer in self._found if layer is not None})


def layer_pairs(pairing: Pairing, parts: Parts, role: Role) -> list[tuple[Layer, Layer]]:
    """The child's layers that have a tensor of a role, each with the parent's layer that it answers to."""
    found: set[tuple[Layer, Layer]] = set()
    for name, partner in pairing.names.items():
        mine, other = layer_of(name), layer_of(partner)
        if parts.roles[name] is role and mine is not None and other is not None:
            found.add((mine[:2], other[:2]))
    return sorted(found)


class View:
    """A source with its residual dimension changed, its norms folded, its MLP neurons in another order.

    Args:
        source: what is read.
        order, signs: residual dimension i of the view is that of the source at order[i], times signs[i].
        turn: a matrix whose product with a residual vector (a row) of the view gives the source's.
        fold: whether norm weights go into the matrices that read after them.
        neurons: for a layer, which of the source's neurons stands at each place.
        heads: for a layer, its attention heads.
    """

    def __init__(
        self,
        source: Source,
        *,
        order: Indices | None = None,
        signs: Values | None = None,
        turn: Values | None = None,
        fold: bool = False,
        neurons: Mapping[Layer, Indices] | None = None,
        heads: Mapping[Layer, Heads] | None = None,
    ) -> None:
        self._source = source
        self._order, self._signs, self._turn, self._fold = order, signs, turn, fold
        self._neurons, self._heads = dict(neurons or {}), dict(heads or {})
        self._parts = Parts(source)
        self._width = len(order) if order is not None else len(turn) if turn is not None else 0
        self._last: tuple[str, Values] | None = None
        self.format = source.format
        self.tensors: Mapping[str, TensorInfo] = {n: self._info(n, t) for n, t in source.tensors.items()}

    @property
    def architecture(self) -> Architecture | None:
        return self._source.architecture

    def read(self, name: str) -> Values:
        info = self.tensors[name]
        return self.rows(name, 0, info.shape[0]) if info.shape else self._source.read(name)

    def rows(self, name: str, first: int, last: int) -> Values:
        role, at = self._parts.roles[name], layer_of(name)
        neurons = self._neurons.get(at[:2]) if at else None
        shape = self._source.tensors[name].shape
        if role in _NORMS and len(shape) == 1:
            return self._norm(name)[first:last]
        if len(shape) != 2 or (role not in READS and role not in WRITES):
            return self._source.rows(name, first, last)
        heads = self._heads.get(at[:2]) if at else None
        moved = (neurons is not None and role in (Role.GATE, Role.UP)) or (heads is not None and role in _ATTENTION)
        if role in WRITES or moved:
            return self._whole(name, role, neurons, heads)[first:last]
        values = self._source.rows(name, first, last)
        return self._columns(self._folded(name, role, values))

    def _info(self, name: str, info: TensorInfo) -> TensorInfo:
        at = layer_of(name)
        neurons = self._neurons.get(at[:2]) if at else None
        if neurons is None or len(info.shape) != 2:
            return info
        role, shape = self._parts.roles[name], info.shape
        if role in (Role.GATE, Role.UP):
            shape = (len(neurons), shape[1])
        elif role is Role.DOWN:
            shape = (shape[0], len(neurons))
        return TensorInfo(info.name, info.dtype, shape, info.begin, info.end)

    def _whole(self, name: str, role: Role, neurons: Indices | None, heads: Heads | None) -> Values:
        """A tensor that changes along its first axis, kept while its blocks are read."""
        if self._last is None or self._last[0] != name:
            values = self._source.read(name)
            if role is Role.DOWN and neurons is not None:
                values = values[:, neurons]
            if role in (Role.GATE, Role.UP) and neurons is not None:
                values = values[neurons]
            if role is Role.OUT and heads is not None:
                values = _ordered(values.T, heads, role).T
            if role in _ATTENTION and heads is not None:
                values = _ordered(values, heads, role)
            values = self._columns(values.T).T if role in WRITES else self._columns(self._folded(name, role, values))
            self._last = (name, np.ascontiguousarray(values))
        return self._last[1]

    def _folded(self, name: str, role: Role, values: Values) -> Values:
        if not self._fold:
            return values
        weight = self._norm_before(name, role)
        return values if weight is None or len(weight) != values.shape[1] else values * weight

    def _norm_before(self, name: str, role: Role) -> Values | None:
        norm = _NORM_OF.get(role)
        at = layer_of(name)
        found = self._parts.one(norm, at[:2] if at else None) if norm is not None else None
        return None if found is None else self._source.read(found)

    def _norm(self, name: str) -> Values:
        values = self._source.read(name)
        if self._fold:
            return np.ones_like(values)
        if len(values) != self._width:
            return values
        return values if self._order is None else values[self._order]

    def _columns(self, values: Values) -> Values:
        if values.shape[1] != self._width:
            return values
        if self._order is not None:
            values = values[:, self._order]
        if self._signs is not None:
            values = values * self._signs
        return values if self._turn is None else values @ self._turn.T


def _ordered(rows: Values, heads: Heads, role: Role) -> Values:
    """Rows in the order of the view's heads; values, and what reads them, in its basis."""
    order = heads.shared if role in (Role.KEY, Role.VALUE) else heads.order
    blocks = rows.reshape(len(order), -1, rows.shape[1])[order]
    if heads.turns is not None and role in (Role.VALUE, Role.OUT):
        turns = heads.turns
        if role is Role.OUT:
            turns = np.repeat(turns, len(order) // len(turns), axis=0)
        blocks = turns @ blocks
    return blocks.reshape(rows.shape)
