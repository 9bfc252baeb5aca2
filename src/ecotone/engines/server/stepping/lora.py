"""LoRA adapters (Hu et al. 2021) computed beside their base, mixed in one pass.

The low-rank weights of several adapters stand one beside the other, so that two products serve all of them; between
these, what belongs to another row's adapter is set to zero. A row's adapter is an object that the row itself holds: no
number of a slot can come to mean another adapter while the row lives.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ecotone.engines.server.stepping.linear import Linear, linear

_MOST_KEPT = 8  # mixtures kept ready


@dataclass(frozen=True, slots=True)
class LowRank:
    """One module's change: `up @ down`, scaling included; `down` is `[rank, in]`, `up` `[out, rank]`."""

    down: Any
    up: Any


@dataclass(frozen=True, slots=True)
class Products:
    """Which modules each of the decoder's products joins: name, and the columns `[start, end)` of the product."""

    modules: dict[str, tuple[tuple[str, int, int], ...]]
    layers: int


@dataclass(eq=False, slots=True)
class Adapter:
    """An adapter's weights by layer and module. `running` counts the rows computed with it."""

    name: str
    rank: int
    weights: dict[tuple[int, str], LowRank]
    running: int = 0
    removed: bool = False


@dataclass(slots=True)
class _Part:
    start: int
    end: int
    first: int
    last: int
    up: Linear


@dataclass(slots=True)
class _Product:
    down: Linear
    parts: list[_Part]
    owners: int  # which of the mixture's `owners` says whose each column of `down` is


@dataclass(slots=True)
class _Mixture:
    adapters: tuple[Adapter, ...]
    products: dict[tuple[int, str], _Product] = field(default_factory=dict)
    owners: list[Any] = field(default_factory=list)


class Added:
    """What the adapters of a pass's rows add to each product."""

    def __init__(self, mixture: _Mixture, owners: Any, dtype: Any) -> None:
        """`owners` holds each row's place in the mixture, -1 for none, or is None when all rows have the only one."""
        self._products = mixture.products
        self._masks = None if owners is None else [(owners[:, None] == columns).to(dtype) for columns in mixture.owners]

    def add(self, layer: int, product: str, x: Any, out: Any) -> None:
        found = self._products.get((layer, product))
        if found is None:
            return
        low = found.down(x)
        if self._masks is not None:
            low.mul_(self._masks[found.owners])
        for part in found.parts:
            out[:, part.start : part.end].add_(part.up(low[:, part.first : part.last]))


class Mixtures:
    """Builds what passes need, and keeps what the next ones will need again."""

    def __init__(self, products: Products, dtype: Any, device: Any) -> None:
        self._products, self._dtype, self._device = products, dtype, device
        self._kept: OrderedDict[frozenset[Adapter], _Mixture] = OrderedDict()
        self._shared: _Mixture | None = None

    def added(
        self, rows: Sequence[Adapter | None], open_ones: Collection[Adapter], lengths: Sequence[int] = ()
    ) -> Added | None:
        """For a pass whose rows have these adapters; `open_ones` are those of all rows there are.

        `lengths` says how many tokens stand for each row, one when it is left out. None when no row has an adapter.
        """
        wanted = frozenset(adapter for adapter in rows if adapter is not None)
        if not wanted:
            return None
        mixture = self._exactly(wanted) if len(wanted) == 1 else self._for_all(wanted, frozenset(open_ones))
        if len(mixture.adapters) == 1 and None not in rows:
            return Added(mixture, None, self._dtype)
        places = {adapter: place for place, adapter in enumerate(mixture.adapters)}
        owners = torch.tensor([-1 if adapter is None else places[adapter] for adapter in rows], device=self._device)
        if lengths:
            owners = owners.repeat_interleave(torch.tensor(lengths, device=self._device))
        return Added(mixture, owners, self._dtype)

    def forget_removed(self) -> None:
        """Give up what holds adapters that were taken away and have no rows any more."""
        for key in [key for key in self._kept if any(_gone(adapter) for adapter in key)]:
            del self._kept[key]
        if self._shared is not None and any(map(_gone, self._shared.adapters)):
            self._shared = None

    def _exactly(self, wanted: frozenset[Adapter]) -> _Mixture:
        found = self._kept.pop(wanted, None) or self._mixed(wanted)
        self._kept[wanted] = found
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    def _for_all(self, wanted: frozenset[Adapter], open_ones: frozenset[Adapter]) -> _Mixture:
        """One for all open rows, so that it lasts; a larger one serves while at most half of it is idle."""
        shared = self._shared
        if shared is not None and wanted <= set(shared.adapters) and len(shared.adapters) <= 2 * len(open_ones):
            return shared
        self._shared = self._mixed(wanted | open_ones)
        return self._shared

    def _mixed(self, wanted: frozenset[Adapter]) -> _Mixture:
        made = _Mixture(tuple(sorted(wanted, key=lambda adapter: adapter.name)))
        layouts: dict[tuple[int, ...], int] = {}
        for layer in range(self._products.layers):
            for product, modules in self._products.modules.items():
                self._add_product(made, layouts, layer, product, modules)
        made.owners = [torch.tensor(layout, device=self._device) for layout in layouts]
        return made

    def _add_product(
        self,
        made: _Mixture,
        layouts: dict[tuple[int, ...], int],
        layer: int,
        product: str,
        modules: Sequence[tuple[str, int, int]],
    ) -> None:
        downs: list[Any] = []
        columns: list[int] = []
        parts: list[_Part] = []
        for module, start, end in modules:
            first, ups = len(columns), []
            for place, adapter in enumerate(made.adapters):
                found = adapter.weights.get((layer, module))
                if found is not None:
                    downs.append(found.down)
                    ups.append(found.up)
                    columns += [place] * len(found.down)
            if ups:
                parts.append(_Part(start, end, first, len(columns), linear(torch.cat(ups, dim=1))))
        if parts:
            layout = layouts.setdefault(tuple(columns), len(layouts))
            made.products[layer, product] = _Product(linear(torch.cat(downs)), parts, layout)


def _gone(adapter: Adapter) -> bool:
    return adapter.removed and not adapter.running
