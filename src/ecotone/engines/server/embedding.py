"""Vectors of texts: one thread takes what waits, sorts it by length, and computes it in batches of a bounded size.

It never waits for company: an idle engine starts at once, and what arrives meanwhile makes the next batch.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import torch

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.loading import Loaded
from ecotone.engines.server.pooling import Pooling

log = logging.getLogger("ecotone.engines.server")

Vectors = list[list[float]]

_BATCH_ROWS = 32
_BATCH_TOKENS = 2048
_TAKE_TOKENS = 16384
_MOST_WAITING = 512
_HANGING_SECONDS = 120.0


class Embedder:
    """The computing thread of an encoder."""

    def __init__(self, loaded: Loaded, pooling: Pooling) -> None:
        self._model = loaded.model
        self._pooling = pooling
        self._pad = loaded.tokenizer.pad_token_id or 0
        self._turn = threading.Condition()
        self._waiting: deque[tuple[Sequence[Sequence[int]], Future[Vectors]]] = deque()
        self._busy = 0
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="embedder", daemon=True)
        self._thread.start()

    def begin(self, texts: Sequence[Sequence[int]]) -> "Future[Vectors]":
        """Queue tokenised texts; cancelling the future before its turn drops them.

        Raises:
            RequestError: too many wait already.
        """
        future: Future[Vectors] = Future()
        with self._turn:
            if len(self._waiting) >= _MOST_WAITING:
                raise RequestError(
                    f"{_MOST_WAITING} requests wait already; try again later.", status=429, code="engine_overloaded"
                )
            self._waiting.append((texts, future))
            self._turn.notify()
        return future

    def health(self) -> dict[str, Any]:
        """Counts, and whether the thread lives and gets on."""
        hangs = self._busy > 0 and time.monotonic() - self._beat > _HANGING_SECONDS
        return {"ok": self._thread.is_alive() and not hangs, "running": self._busy, "waiting": len(self._waiting)}

    def _work(self) -> None:
        with torch.inference_mode():
            while True:
                taken = self._take()
                self._beat, self._busy = time.monotonic(), len(taken)
                try:
                    self._answer(taken)
                finally:
                    self._busy = 0

    def _take(self) -> list[tuple[Sequence[Sequence[int]], "Future[Vectors]"]]:
        taken: list[tuple[Sequence[Sequence[int]], Future[Vectors]]] = []
        tokens = 0
        with self._turn:
            while not self._waiting:
                self._turn.wait()
            while self._waiting and tokens < _TAKE_TOKENS:
                texts, future = self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    taken.append((texts, future))
                    tokens += sum(map(len, texts))
        return taken

    def _answer(self, taken: list[tuple[Sequence[Sequence[int]], "Future[Vectors]"]]) -> None:
        try:
            vectors = self._compute([text for texts, _ in taken for text in texts])
        except Exception as error:
            if len(taken) > 1:  # find the one that fails: the others are not to suffer for it
                for one in taken:
                    self._answer([one])
            elif taken:
                log.exception("texts could not be embedded")
                fault = RequestError(f"The engine failed: {type(error).__name__}.", status=500, code="engine_error")
                taken[0][1].set_exception(fault)
            return
        start = 0
        for texts, future in taken:
            future.set_result(vectors[start : start + len(texts)])
            start += len(texts)

    def _compute(self, texts: Sequence[Sequence[int]]) -> Vectors:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors: Vectors = [[] for _ in texts]
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and end - start < _BATCH_ROWS:
                if len(texts[order[end]]) * (end + 1 - start) > _BATCH_TOKENS:
                    break
                end += 1
            rows = order[start:end]
            for place, vector in zip(rows, self._forward([texts[i] for i in rows]), strict=True):
                vectors[place] = vector
            self._beat = time.monotonic()
            start = end
        return vectors

    def _forward(self, texts: Sequence[Sequence[int]]) -> Vectors:
        longest = max(map(len, texts))
        ids = torch.full((len(texts), longest), self._pad)
        mask = torch.zeros((len(texts), longest), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(list(text))
            mask[row, : len(text)] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        found: Vectors = self._pooling(hidden.float(), mask).cpu().tolist()
        return found
