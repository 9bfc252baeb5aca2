"""Many answers of a LLaMA-like model at once: one pass of the decoder for all of them, whatever their lengths.

Prompts are read in stretches, several in one pass; answers grow by one token each in one pass. Each has a place for its
keys and values; places stay dense, so that a pass looks at the first ones without gathering.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import torch

from ecotone.engines.server.adapters import Adapters
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.stepping.attending import OneEach, Run, Stretches
from ecotone.engines.server.stepping.company import Company
from ecotone.engines.server.stepping.decoder import Decoder
from ecotone.engines.server.stepping.fused import fused_for
from ecotone.engines.server.stepping.lora import Adapter, Added, Mixtures
from ecotone.engines.server.stepping.places import Places
from ecotone.engines.server.stepping.stepper import Row, Stepper

_MOST_AT_ONCE = 2048  # tokens in one pass, whatever the budget: its activations have to fit the memory
_STRETCH = 512


class _State:
    __slots__ = ("adapter", "length", "place")

    def __init__(self, adapter: Adapter | None) -> None:
        self.adapter = adapter
        self.place = -1  # none yet
        self.length = 0  # tokens read or written


class Batched(Stepper):
    """For models that `decoder.fits`; takes over their weights. Used inside `torch.inference_mode()`."""

    def __init__(self, loaded: Loaded, slots: int = 32) -> None:
        self.slots = slots
        self._decoder = Decoder(loaded.model)
        self._places = Places(
            layers=len(self._decoder.layers),
            heads=self._decoder.kv_heads,
            size=self._decoder.size,
            most=slots + 1,  # one more for a text whose `states` are asked for
            longest=loaded.context_length,
            dtype=self._decoder.dtype,
            device=self._decoder.device,
        )
        decoder = self._decoder
        self._fused = fused_for(decoder, self._places)
        self.adapters: Adapters = Adapters(decoder.products, decoder.shapes, decoder.dtype, decoder.device)
        self._mixtures = Mixtures(decoder.products, decoder.dtype, decoder.device)
        self._changes = 0
        self._adapted: Counter[Adapter] = Counter()  # rows of each adapter
        self._placed = Company(self._swap, self._move)
        self._opened: deque[Row] = deque()

    @property
    def filling(self) -> int:
        return len(self._opened)

    def open(self, prompt: Sequence[int], adapter: str | None = None) -> Row:
        found = None if adapter is None else self.adapters.take(adapter)
        row = Row(prompt, adapter)
        row.state = _State(found)
        if found is not None:
            self._adapted[found] += 1
        self._opened.append(row)
        return row

    def close(self, row: Row) -> None:
        if row in self._opened:
            self._opened.remove(row)
        self._placed.leave(row)
        state, row.state = row.state, None
        if not self._placed and self._places.grown:
            self._places.clear()
        if state.adapter is not None:
            self._leave(state.adapter)

    def _leave(self, adapter: Adapter) -> None:
        self._adapted[adapter] -= 1
        if not self._adapted[adapter]:
            del self._adapted[adapter]
        self.adapters.give_back(adapter)

    # -- prompts -----------------------------------------------------------------------------------------------------
    def fill(self, budget: int) -> list[tuple[Row, Any]]:
        pieces = self._pieces(min(max(budget, 1), _MOST_AT_ONCE))
        if not pieces:
            return []
        hidden = self._read(pieces)
        done, ends, offset = [], [], 0
        for row, length in pieces:
            offset += length
            row.state.length += length
            if row.state.length == len(row.prompt):
                self._opened.remove(row)
                done.append(row)
                ends.append(offset - 1)
        if not done:
            return []
        return list(zip(done, self._decoder.logits(hidden[ends]), strict=True))

    def _pieces(self, budget: int) -> list[tuple[Row, int]]:
        """Which prompts are read how much further; fresh ones of equal length one after the other."""
        pieces = []
        for row in self._opened:
            if budget <= 0:
                break
            length = min(len(row.prompt) - row.state.length, budget)
            budget -= length
            pieces.append((row, length))
        pieces.sort(key=lambda piece: (piece[0].state.length, piece[1]))
        return pieces

    def _place(self, pieces: Sequence[tuple[Row, int]]) -> None:
        count = len(self._placed) + sum(row.state.place < 0 for row, _ in pieces)
        self._places.reserve(count, max(row.state.length + length for row, length in pieces))
        for row, _ in pieces:
            if row.state.place < 0:
                self._placed.seat(row)

    def _read(self, pieces: Sequence[tuple[Row, int]]) -> Any:
        """The last hidden states of these stretches, `[tokens, hidden]`."""
        self._place(pieces)
        tokens: list[int] = []
        positions: list[int] = []
        runs: list[Run] = []
        for row, length in pieces:
            start = row.state.length
            if runs and start == runs[-1].start == 0 and length == runs[-1].length:
                runs[-1].count += 1
            else:
                runs.append(Run(len(tokens), 1, row.state.place, start, length))
            tokens += row.prompt[start : start + length]
            positions += range(start, start + length)
        at = self._tensor(positions)
        attend = Stretches(self._decoder, self._places, runs)
        added = self._added([row for row, _ in pieces], [length for _, length in pieces])
        return self._decoder.hidden(self._tensor(tokens), at, max(positions) + 1, attend, added)

    def states(self, text: Sequence[int]) -> Any:
        row = Row(text, None)
        row.state = _State(None)
        found = []
        try:
            while row.state.length < len(text):
                length = min(_STRETCH, len(text) - row.state.length)
                found.append(self._read([(row, length)]))
                row.state.length += length
        finally:
            self.close(row)
        return torch.cat(found)

    # -- answers -----------------------------------------------------------------------------------------------------
    def step(self, rows: Sequence[Row], tokens: Sequence[int]) -> Any:
        self._placed.bring_to_front(rows)
        count = len(rows)
        ordered = [0] * count
        for row, token in zip(rows, tokens, strict=True):
            ordered[row.state.place] = token
        positions = [row.state.length for row in self._placed[:count]]
        most = max(positions) + 1
        self._places.reserve(len(self._placed), most)
        at = self._tensor(positions)
        added = self._added(self._placed[:count])
        if self._fused is not None:
            hidden = self._fused.hidden(self._tensor(ordered), at, most, added)
        else:
            attend = OneEach(self._decoder, self._places, positions, at)
            hidden = self._decoder.hidden(self._tensor(ordered), at, most, attend, added)
        for row in rows:
            row.state.length += 1
        order = [row.state.place for row in rows]
        if order != list(range(count)):
            hidden = hidden[order]
        return self._decoder.logits(hidden)

    def _swap(self, one: Row, other: Row) -> None:
        self._places.swap(one.state.place, other.state.place, max(one.state.length, other.state.length))

    def _move(self, row: Row, place: int) -> None:
        self._places.move(row.state.place, place, row.state.length)

    def _added(self, rows: Sequence[Row], lengths: Sequence[int] = ()) -> Added | None:
        if self._changes != self.adapters.changes:
            self._changes = self.adapters.changes
            self._mixtures.forget_removed()
        if not self._adapted:
            return None
        return self._mixtures.added([row.state.adapter for row in rows], self._adapted, lengths)

    def _tensor(self, numbers: Sequence[int]) -> Any:
        return torch.tensor(numbers, device=self._decoder.device)
