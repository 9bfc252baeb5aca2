"""The computing thread of an encoder: what waits is computed in batches of a bounded number of tokens.

It never waits for company: an idle engine starts at once, and what arrives meanwhile makes the next batch. Requests
take turns: each batch takes a text of each that waits, then a second, so that a large request delays a small one by a
batch.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ecotone.engines.server.encoding.computing import Compute
from ecotone.engines.server.encoding.texts import Found, Text
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.faults import fault

log = logging.getLogger("ecotone.engines.server")

_MOST_WAITING = 512
_HANGING_SECONDS = 120.0

Told = Callable[["list[Job]"], None]


class Job:
    """The texts of one request. `results` are all there once it was told as done, or `error` says why not."""

    __slots__ = ("_left", "_next", "cancelled", "error", "owner", "results", "texts")

    def __init__(self, texts: Sequence[Text], owner: Any = None) -> None:
        self.texts = texts
        self.owner = owner
        self.results: list[Any] = [None] * len(texts)
        self.error: RequestError | None = None
        self.cancelled = False
        self._next = 0
        self._left = len(texts)


class Turns:
    """The queue and its thread.

    Args:
        compute: one batch; used by the thread alone.
        budget: tokens of a batch; a longer text is a batch by itself.
        told: called in the thread with the jobs that have ended, failed ones included, cancelled ones not.
    """

    def __init__(self, compute: Compute, budget: int, told: Told) -> None:
        self._compute = compute
        self._budget = budget
        self._told = told
        self._turn = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running = 0
        self._tokens = 0
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def begin(self, job: Job) -> None:
        """Queue a request.

        Raises:
            RequestError: it has no texts, or too many wait already.
        """
        if not job.texts:
            raise RequestError("There is no text to compute; send at least one.", param="inputs")
        with self._turn:
            if len(self._waiting) >= _MOST_WAITING:
                raise RequestError(
                    f"{_MOST_WAITING} requests wait already; try again later.", status=429, code="engine_overloaded"
                )
            self._waiting.append(job)
            self._turn.notify()

    def health(self) -> dict[str, Any]:
        """Counts, and whether the thread lives and gets on."""
        running = self._running
        hangs = running > 0 and time.monotonic() - self._beat > _HANGING_SECONDS
        return {
            "ok": self._thread.is_alive() and not hangs,
            "running": running,
            "waiting": len(self._waiting),
            "tokens": self._tokens,
        }

    def _work(self) -> None:
        with torch.inference_mode():
            while True:
                batch = self._take()
                self._beat, self._running = time.monotonic(), len({id(job) for job, _ in batch})
                try:
                    self._answer(batch)
                except Exception:  # of those who are told: the thread is everybody's
                    log.exception("answers could not be handed out")
                finally:
                    self._running = 0
                    self._tokens += sum(len(job.texts[place]) for job, place in batch)
                    del batch  # the results are the askers' alone

    def _take(self) -> list[tuple[Job, int]]:
        """The next texts: of each request that waits one, then a second, up to the budget."""
        taken: list[tuple[Job, int]] = []
        tokens = 0
        with self._turn:
            while not taken:
                while not self._waiting:
                    self._turn.wait()
                while self._waiting:
                    job = self._waiting[0]
                    if job.cancelled or job.error is not None:
                        self._waiting.popleft()
                        continue
                    tokens += len(job.texts[job._next])
                    if taken and tokens > self._budget:
                        break
                    taken.append((job, job._next))
                    job._next += 1
                    self._waiting.popleft()
                    if job._next < len(job.texts):
                        self._waiting.append(job)
        return taken

    def _answer(self, batch: list[tuple[Job, int]]) -> None:
        ended: list[Job] = []
        for (job, place), found in zip(batch, self._computed(batch), strict=True):
            if isinstance(found, RequestError):
                if job.error is None:
                    job.error = found
                    ended.append(job)
                continue
            job.results[place] = found
            job._left -= 1
            if not job._left and job.error is None:
                ended.append(job)
        self._told([job for job in ended if not job.cancelled])

    def _computed(self, batch: list[tuple[Job, int]]) -> "list[Found | RequestError]":
        try:
            return list(self._compute([job.texts[place] for job, place in batch]))
        except Exception as error:
            if len(batch) > 1:  # find the one that fails: the others are not to suffer for it
                return [self._computed([one])[0] for one in batch]
            return [fault(error)]
