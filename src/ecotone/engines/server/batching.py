"""Makes many answers at once: one thread, one step of the model for all of them, everyone who waits let in before it.

Prompts are read in bounded pieces between the steps. The likeliest tokens of all rows are found by one operation; rows
that sample are chosen from one by one, each by its own seed, so that an answer does not depend on its company. Whoever
is gone loses its place before the next step.
"""

import gc
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import torch

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.faults import fault, is_out_of_memory
from ecotone.engines.server.generation import Answer, Delivery, Piece, post
from ecotone.engines.server.stepping import Stepper

log = logging.getLogger("ecotone.engines.server")

MOST_WAITING = 512
_PARTIES = 4  # that may each have as many answers waiting as one may
_FILL_TOKENS = 512
_HANGING_SECONDS = 120.0
_FAILURES = 3  # steps or prompts in a row after which the engine says that it is broken
_RATE_SECONDS = 10


class _Errand(NamedTuple):
    """Something else to be done with the model, piece by piece."""

    acts: deque[Callable[[], Any]]
    results: list[Any]
    future: "Future[list[Any]]"


class Writer:
    """The computing thread of a causal or text-to-text model.

    Args:
        stepper: computes the logits; used by this thread alone.
        most_waiting: how many answers of each party may wait for a place; of all together four times as many.
        hanging: seconds that a step may take before the engine is said to hang.
    """

    def __init__(
        self, stepper: Stepper, *, most_waiting: int = MOST_WAITING, hanging: float = _HANGING_SECONDS
    ) -> None:
        self._stepper = stepper
        self._most_waiting = most_waiting
        self._hanging = hanging
        self._turn = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._errands: deque[_Errand] = deque()
        self._filling: dict[Any, Answer] = {}  # by row: prompts that are being read
        self._live: list[Answer] = []
        self._out: list[Delivery] = []
        self._beat = time.monotonic()
        self._failures = 0  # steps in a row
        self._unread = 0  # prompts in a row
        self._tokens = 0
        self._rate: deque[tuple[int, int]] = deque([(0, 0)], maxlen=_RATE_SECONDS + 1)
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def check_count(self, answers: int) -> None:
        """Refuse more answers to one request than may wait."""
        if answers > self._most_waiting:
            raise RequestError(
                f"One request may ask for {self._most_waiting} answers, not {answers}; send several requests."
            )

    def begin(self, answers: Sequence[Answer]) -> None:
        """Queue the answers to one request: all of them or none.

        Raises:
            RequestError: too many wait already.
        """
        self.check_count(len(answers))
        with self._turn:
            if self._overfull(answers):
                self._forget_gone()
            if self._overfull(answers):
                raise RequestError(
                    f"{len(self._waiting)} answers wait already, and no more than {self._most_waiting} of one project "
                    "may; try again later.",
                    status=429,
                    code="engine_overloaded",
                )
            self._waiting.extend(answers)
            self._turn.notify()

    def _overfull(self, answers: Sequence[Answer]) -> bool:
        waiting = len(self._waiting) + len(answers)
        if waiting <= self._most_waiting:
            return False
        own = sum(other.party == answers[0].party for other in self._waiting) + len(answers)
        return own > self._most_waiting or waiting > _PARTIES * self._most_waiting

    def between_steps(self, acts: Sequence[Callable[[], Any]]) -> "Future[list[Any]]":
        """Do other things with the model, in its own thread, one before each step; the future has their results.

        Raises:
            RequestError: too many wait already.
        """
        errand = _Errand(deque(acts), [], Future())
        with self._turn:
            if len(self._errands) >= self._most_waiting:
                raise RequestError(
                    f"{len(self._errands)} requests wait already; try again later.",
                    status=429,
                    code="engine_overloaded",
                )
            self._errands.append(errand)
            self._turn.notify()
        return errand.future

    def health(self) -> dict[str, Any]:
        """Counts, and whether the thread lives and makes tokens."""
        running = len(self._live) + len(self._filling)
        hangs = running > 0 and time.monotonic() - self._beat > self._hanging
        return {
            "ok": self._thread.is_alive() and not hangs and max(self._failures, self._unread) < _FAILURES,
            "running": running,
            "waiting": sum(not answer.cancelled for answer in list(self._waiting)),
            "tokens": self._tokens,
            "tokens_per_second": self._tokens_per_second(),
        }

    def settings(self) -> dict[str, Any]:
        """The settings in effect."""
        found = {"slots": self._stepper.slots, "max_waiting": self._most_waiting, "fill_tokens": _FILL_TOKENS}
        quantised = self._stepper.quantised
        return found if quantised is None else {**found, "quantised": quantised}

    # -- the computing thread ----------------------------------------------------------------------------------------
    def _work(self) -> None:
        with torch.inference_mode():
            while True:
                self._wait()
                try:
                    self._round()
                except Exception as error:  # of our own: the answers are lost, the engine is not
                    log.exception("a round failed")
                    self._fail_all(error)
                self._post()

    def _wait(self) -> None:
        with self._turn:
            while not (self._waiting or self._live or self._filling or self._errands):
                self._turn.wait()
            self._beat = time.monotonic()

    def _round(self) -> None:
        """Let in, run an errand, read a piece of the prompts, make one token for each answer."""
        self._drop_gone()
        self._admit()
        self._run_errand()
        if self._filling:
            self._fill()
            self._post()
            self._drop_gone()
        if self._live:
            self._step()

    def _admit(self) -> None:
        with self._turn:
            if any(answer.cancelled for answer in self._waiting):
                self._forget_gone()
            while self._waiting and len(self._live) + len(self._filling) < self._stepper.slots:
                if self._filling and (self._waiting[0].suspect or any(a.suspect for a in self._filling.values())):
                    break
                self._open(self._next())

    def _next(self) -> Answer:
        """Of those that wait, the first of the party with the fewest answers under way, so that none has all places."""
        first = self._waiting[0]
        if not first.suspect:
            running = Counter(answer.party for answer in (*self._live, *self._filling.values()))
            first = min(self._waiting, key=lambda answer: running[answer.party])
        self._waiting.remove(first)
        return first

    def _open(self, answer: Answer) -> None:
        try:
            answer.row = self._stepper.open(answer.prompt, answer.adapter)
            self._filling[answer.row] = answer
        except Exception as error:
            self._fail(answer, error)

    def _fill(self) -> None:
        try:
            filled = self._stepper.fill(_FILL_TOKENS)
        except Exception as error:
            self._unfilled(error)
            return
        self._beat = time.monotonic()
        if not filled:
            return
        answers = [self._filling.pop(row) for row, _ in filled]
        self._live.extend(answers)
        self._unread = 0
        self._choose(answers, torch.stack([logits for _, logits in filled]))

    def _unfilled(self, error: Exception) -> None:
        """Reading prompts failed: each is tried again alone, so that the one at fault harms no other."""
        answers = list(self._filling.values())
        self._filling.clear()
        for answer in answers:
            self._close(answer)
        if len(answers) == 1:
            self._unread += 1
            self._fail(answers[0], error)
            return
        log.warning("reading %d prompts at once failed; they are read one by one: %s", len(answers), error)
        _free_memory(error)
        for answer in answers:
            answer.suspect = True
        with self._turn:
            self._waiting.extendleft(reversed(answers))

    def _step(self) -> None:
        answers = self._live
        try:
            logits = self._stepper.step([a.row for a in answers if a.row], [a.made[-1] for a in answers])
        except Exception as error:
            self._failures += 1
            self._fail_all(error)
            return
        self._beat = time.monotonic()
        self._failures = self._unread = 0
        self._choose(list(answers), logits)

    def _choose(self, answers: Sequence[Answer], logits: Any) -> None:
        """One token for each of these answers, from logits `[answers, vocabulary]`."""
        best = logits.argmax(-1).tolist() if any(answer.chooser.plain for answer in answers) else ()
        if not all(answer.chooser.plain for answer in answers):
            logits = logits.cpu()
        ended = False
        for place, answer in enumerate(answers):
            try:
                if answer.chooser.plain:
                    token = best[place]
                else:
                    chosen = answer.chooser.choose(logits[place], answer.made)
                    token = chosen.token
                    if answer.chooser.logprobs is not None:
                        answer.chosen.append(chosen)
                piece = answer.take(token)
            except Exception as error:  # this answer is lost; the others go on
                piece = Piece("", len(answer.made), error=fault(error))
            if piece is not None:
                self._out.append((answer, piece))
                if piece.last:
                    self._close(answer)
                    ended = True
        self._count(len(answers))
        if ended:
            self._live = [answer for answer in self._live if answer.row is not None]

    def _run_errand(self) -> None:
        if not self._errands:
            return
        errand = self._errands.popleft()
        if errand.future.cancelled():
            return
        try:
            errand.results.append(errand.acts.popleft()())
        except Exception as error:
            _settle(errand.future, None, fault(error))
            return
        self._beat = time.monotonic()
        if errand.acts:
            self._errands.append(errand)
        else:
            _settle(errand.future, errand.results, None)

    # -- places ------------------------------------------------------------------------------------------------------
    def _drop_gone(self) -> None:
        for answer in [a for a in (*self._live, *self._filling.values()) if a.cancelled]:
            self._filling.pop(answer.row, None)
            self._close(answer)
        self._live = [answer for answer in self._live if answer.row is not None]

    def _forget_gone(self) -> None:
        self._waiting = deque(answer for answer in self._waiting if not answer.cancelled)

    def _close(self, answer: Answer) -> None:
        row, answer.row = answer.row, None
        if row is None:
            return
        try:
            self._stepper.close(row)
        except Exception:
            log.exception("a place could not be given back")

    def _fail(self, answer: Answer, error: Exception) -> None:
        self._close(answer)
        self._out.append((answer, Piece("", len(answer.made), error=fault(error))))

    def _fail_all(self, error: Exception) -> None:
        answers = [*self._live, *self._filling.values()]
        self._live = []
        self._filling.clear()
        told = fault(error)
        for answer in answers:
            self._fail(answer, told)
        _free_memory(error)

    def _post(self) -> None:
        if self._out:
            out, self._out = self._out, []
            try:
                post(out)
            except Exception:  # a listener must not end the engine
                log.exception("pieces could not be handed out")

    # -- figures -----------------------------------------------------------------------------------------------------
    def _count(self, made: int) -> None:
        self._tokens += made
        now = int(time.monotonic())
        second, count = self._rate[-1]
        if second == now:
            self._rate[-1] = (second, count + made)
        else:
            self._rate.append((now, made))

    def _tokens_per_second(self) -> float:
        now = int(time.monotonic())
        return round(sum(n for second, n in list(self._rate) if now - _RATE_SECONDS <= second < now) / _RATE_SECONDS, 1)


def _settle(future: "Future[list[Any]]", results: list[Any] | None, error: Exception | None) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(results or [])


def _free_memory(error: Exception) -> None:
    if is_out_of_memory(error):
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
