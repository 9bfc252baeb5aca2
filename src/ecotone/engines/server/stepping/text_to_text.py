"""Many answers of a T5 at once: prompts encoded together, once each; one pass of the decoder for all answers.

What an answer looks at of its prompt is computed once and kept at its place, beside the keys and values of its own
tokens. Places stay dense, so that a pass looks at the first ones without gathering.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from ecotone.engines.server.errors import unknown
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.stepping.company import Company
from ecotone.engines.server.stepping.encoder_decoder import EncoderDecoder
from ecotone.engines.server.stepping.places import Places
from ecotone.engines.server.stepping.stepper import Row, Stepper

_MOST_AT_ONCE = 2048  # tokens of prompts in one pass, whatever the budget, unless one prompt alone has more


class _State:
    __slots__ = ("length", "place")

    def __init__(self) -> None:
        self.place = -1  # none yet
        self.length = 0  # tokens of the answer, its beginning among them


class TextToText(Stepper):
    """For models that `encoder_decoder.fits`; takes over their weights. Used inside `torch.inference_mode()`."""

    def __init__(self, loaded: Loaded, slots: int = 32) -> None:
        self.slots = slots
        self._model = EncoderDecoder(loaded.model)
        self._told, self._asked = (self._places(loaded.context_length) for _ in range(2))
        self._placed = Company(self._swap, self._move)
        self._opened: deque[Row] = deque()

    @property
    def filling(self) -> int:
        return len(self._opened)

    def open(self, prompt: Sequence[int], adapter: str | None = None) -> Row:
        if adapter is not None:
            raise unknown(adapter)
        row = Row(prompt, adapter)
        row.state = _State()
        self._opened.append(row)
        return row

    def close(self, row: Row) -> None:
        if row in self._opened:
            self._opened.remove(row)
        self._placed.leave(row)
        row.state = None
        if not self._placed:
            for places in (self._told, self._asked):
                if places.grown:
                    places.clear()

    def fill(self, budget: int) -> list[tuple[Row, Any]]:
        rows = self._next(min(budget, _MOST_AT_ONCE))
        if not rows:
            return []
        start = len(self._placed)
        self._asked.reserve(start + len(rows), max(len(row.prompt) for row in rows))
        tokens = self._tensor([token for row in rows for token in row.prompt])
        encoded = self._model.encoded(tokens, [len(row.prompt) for row in rows])
        owners = [place for place, row in enumerate(rows, start) for _ in row.prompt]
        at = [position for row in rows for position in range(len(row.prompt))]
        self._model.remember(encoded, self._asked, self._tensor(owners), self._tensor(at))
        for row in rows:
            self._placed.seat(row)
            self._opened.remove(row)
        return list(zip(rows, self._append(start, [self._model.start] * len(rows)), strict=True))

    def step(self, rows: Sequence[Row], tokens: Sequence[int]) -> Any:
        self._placed.bring_to_front(rows)
        order = [row.state.place for row in rows]
        ordered = [0] * len(rows)
        for place, token in zip(order, tokens, strict=True):
            ordered[place] = token
        found = self._append(0, ordered)
        return found if order == list(range(len(rows))) else found[order]

    def _next(self, budget: int) -> list[Row]:
        """The oldest prompts within the budget, at least one, by length."""
        rows: list[Row] = []
        for row in self._opened:
            budget -= len(row.prompt)
            if rows and budget < 0:
                break
            rows.append(row)
        return sorted(rows, key=lambda row: len(row.prompt))

    def _append(self, start: int, tokens: Sequence[int]) -> Any:
        """One token for each of the answers from place `start` on; their next logits."""
        rows = self._placed[start : start + len(tokens)]
        at = [(row.state.length, len(row.prompt)) for row in rows]
        self._told.reserve(len(self._placed), max(own for own, _ in at) + 1)
        logits = self._model.logits(self._tensor(tokens), self._told, self._asked, start, at)
        for row in rows:
            row.state.length += 1
        return logits

    def _swap(self, one: Row, other: Row) -> None:
        places = (one.state.place, other.state.place)
        self._told.swap(*places, max(one.state.length, other.state.length))
        self._asked.swap(*places, max(len(one.prompt), len(other.prompt)))

    def _move(self, row: Row, place: int) -> None:
        self._told.move(row.state.place, place, row.state.length)
        self._asked.move(row.state.place, place, len(row.prompt))

    def _places(self, longest: int) -> Places:
        model = self._model
        return Places(
            layers=len(model.decoder),
            heads=model.heads,
            size=model.size,
            most=self.slots,
            longest=longest,
            dtype=model.dtype,
            device=model.device,
        )

    def _tensor(self, numbers: Sequence[int]) -> Any:
        return torch.tensor(numbers, device=self._model.device)
