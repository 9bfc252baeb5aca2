"""What each token of a pass attends to: its own answer's tokens up to itself, no further back than a layer's window."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from ecotone.engines.server.stepping.decoder import Decoder
from ecotone.engines.server.stepping.places import Places

_CUT = 128 << 10  # bytes of keys and values that a CPU reads while it begins another product


class OneEach:
    """A pass with one new token for each of the first places.

    Neighbours are computed together, as if all were as long as their longest; where that would read too much for
    nothing, they are cut apart.
    """

    def __init__(self, decoder: Decoder, places: Places, positions: Sequence[int], at: Any) -> None:
        count = len(positions)
        self._decoder, self._places = decoder, places
        self._index = places.index(torch.arange(count, device=at.device), at)
        self._shape = (count, decoder.kv_heads, decoder.heads // decoder.kv_heads, decoder.size)
        bunches = [slice(0, count)]
        if at.device.type == "cpu":
            bunches = apart(positions, _CUT // (2 * decoder.kv_heads * decoder.size * decoder.dtype.itemsize))
        self._seen = {
            window: [(some, *self._sees(positions[some], at[some], window)) for some in bunches]
            for window in {layer.window for layer in decoder.layers}
        }

    def _sees(self, positions: Sequence[int], at: Any, window: int | None) -> tuple[slice, Any]:
        """The stretch of positions that any of these rows looks at, and what of it each row sees (None for all)."""
        low, high = min(positions), max(positions)
        start = 0 if window is None else max(0, low - window + 1)
        stretch = slice(start, high + 1)
        if low == high:
            return stretch, None
        there = torch.arange(start, high + 1, device=at.device)
        hidden = there > at[:, None]
        if window is not None and high >= window:
            hidden |= there <= at[:, None] - window
        mask = torch.zeros(hidden.shape, dtype=self._decoder.dtype, device=at.device)
        return stretch, mask.masked_fill_(hidden, -torch.inf)[:, None, None]

    def __call__(self, layer: int, queries: Any, kv: Any) -> Any:
        self._places.write(layer, self._index, kv)
        asked = queries.view(self._shape)  # the queries of a group stand where a sequence's would: nothing is repeated
        keys, values = self._places.keys(layer), self._places.values(layer)
        found = [
            scaled_dot_product_attention(
                asked[some],
                keys[some, :, stretch],
                values[some, :, stretch],
                attn_mask=mask,
                scale=self._decoder.scale,
            )
            for some, stretch, mask in self._seen[self._decoder.layers[layer].window]
        ]
        return (found[0] if len(found) == 1 else torch.cat(found)).reshape(self._shape[0], -1)


def apart(lengths: Sequence[int], saved: int) -> list[slice]:
    """Neighbours to be computed together: a cut saves at least so many positions."""
    found: list[slice] = []
    rest = [slice(0, len(lengths))]
    while rest:
        some = rest.pop()
        those = lengths[some]
        before = list(accumulate(those, max))
        behind = list(accumulate(reversed(those), max))[::-1]
        whole = len(those) * before[-1]
        costs = [(cut * before[cut - 1] + (len(those) - cut) * behind[cut], cut) for cut in range(1, len(those))]
        cost, cut = min(costs, default=(whole, 0))
        if whole - cost < max(saved, 1):
            found.append(some)
        else:
            middle = some.start + cut
            rest += [slice(middle, some.stop), slice(some.start, middle)]
    return found


@dataclass(slots=True)
class Run:
    """Stretches of equal length from prompts, one after the other in the pass and in their places.

    Several only when they start at 0: their places have just been given to them, in this order.
    """

    offset: int
    count: int
    place: int
    start: int
    length: int


class Stretches:
    """A pass over stretches of prompts."""

    def __init__(self, decoder: Decoder, places: Places, runs: Sequence[Run]) -> None:
        self._decoder, self._places, self._runs = decoder, places, runs
        windows = {layer.window for layer in decoder.layers}
        self._masks = {(place, window): self._mask(run, window) for place, run in enumerate(runs) for window in windows}

    def _mask(self, run: Run, window: int | None) -> Any:
        end = run.start + run.length
        if (run.start == 0 or run.length == 1) and (window is None or end <= window):
            return None
        device = self._decoder.device
        asks = torch.arange(run.start, end, device=device)[:, None]
        there = torch.arange(_first(run, window), end, device=device)
        seen = there <= asks
        return seen if window is None else seen & (there > asks - window)

    def __call__(self, layer: int, queries: Any, kv: Any) -> Any:
        window = self._decoder.layers[layer].window
        found = [
            self._run(layer, run, window, queries, kv, self._masks[place, window])
            for place, run in enumerate(self._runs)
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _run(self, layer: int, run: Run, window: int | None, queries: Any, kv: Any, mask: Any) -> Any:
        until = run.offset + run.count * run.length
        shape = (run.count, run.length)
        asked = queries[run.offset : until].unflatten(0, shape).transpose(1, 2)
        new = kv[run.offset : until].unflatten(0, shape)
        self._places.put(layer, run.place, run.start, new)
        if run.start == 0:
            keys, values = new[:, :, 0].transpose(1, 2), new[:, :, 1].transpose(1, 2)
        else:
            first, end = _first(run, window), run.start + run.length
            keys = self._places.keys(layer)[run.place : run.place + 1, :, first:end]
            values = self._places.values(layer)[run.place : run.place + 1, :, first:end]
        found = scaled_dot_product_attention(
            asked,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None and run.length > 1,
            scale=self._decoder.scale,
            enable_gqa=self._decoder.heads != self._decoder.kv_heads,
        )
        return found.transpose(1, 2).reshape(run.count * run.length, -1)


def _first(run: Run, window: int | None) -> int:
    """The first position that any token of a run looks at."""
    return 0 if window is None else max(0, run.start - window + 1)
