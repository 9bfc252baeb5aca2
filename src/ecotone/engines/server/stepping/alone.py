"""Any architecture that transformers knows: each answer by the model's own forward, with a cache of its own."""

import inspect
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from ecotone.engines.server.errors import unknown
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.stepping.stepper import Row, Stepper


class _State:
    __slots__ = ("cache", "encoded")

    def __init__(self) -> None:
        self.cache: Any = None
        self.encoded: Any = None


class Alone(Stepper):
    """One forward for each answer and token, for models without a faster way."""

    def __init__(self, loaded: Loaded, slots: int = 16) -> None:
        self.slots = slots
        self._model = loaded.model
        self._encodes = bool(loaded.model.config.is_encoder_decoder)
        self._last_only = "logits_to_keep" in inspect.signature(type(loaded.model).forward).parameters
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

    def fill(self, budget: int) -> list[tuple[Row, Any]]:
        found = []
        while self._opened and budget > 0:
            row = self._opened.popleft()
            budget -= len(row.prompt)
            found.append((row, self._begin(row)))
        return found

    def step(self, rows: Sequence[Row], tokens: Sequence[int]) -> Any:
        return torch.stack([self._forward(row, [token]) for row, token in zip(rows, tokens, strict=True)])

    def close(self, row: Row) -> None:
        if row in self._opened:
            self._opened.remove(row)
        row.state = None

    def _begin(self, row: Row) -> Any:
        if not self._encodes:
            return self._forward(row, row.prompt)
        row.state.encoded = self._model.get_encoder()(input_ids=self._tensor(row.prompt))
        return self._forward(row, [self._model.config.decoder_start_token_id or 0])

    def _forward(self, row: Row, tokens: Sequence[int]) -> Any:
        more: dict[str, Any] = {"use_cache": True}
        if self._last_only:
            more["logits_to_keep"] = 1
        if row.state.cache is not None:
            more["past_key_values"] = row.state.cache
        if self._encodes:
            more |= {"encoder_outputs": row.state.encoded, "decoder_input_ids": self._tensor(tokens)}
        else:
            more["input_ids"] = self._tensor(tokens)
        out = self._model(**more)
        row.state.cache = out.past_key_values
        return out.logits[0, -1].float()

    def _tensor(self, tokens: Sequence[int]) -> Any:
        return torch.tensor([list(tokens)], device=self._model.device)
