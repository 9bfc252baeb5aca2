"""The gateway's traffic over the last hour, day and 30 days, as differences of counters; bounded in memory.

Kept beside the ledger, not made from it: reading each record again in the server's process would cost the data plane
more than the call itself. What it loses at a crash is a few seconds of a plot; sums of money stand in the ledger.
"""

import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

import msgspec

from ecotone.gateway import counters
from ecotone.gateway.counters import ANSWERED, BOUNDS, GONE, OTHER, Cell, Kept, Labels
from ecotone.gateway.gathering import growth

SPANS = {"hour": (60, 60), "day": (900, 96), "month": (21_600, 120)}
"""Seconds of a step and number of steps: an hour by minutes, a day by quarters of an hour, 30 days by 6 hours."""
SERIES = 100
"""Most different (project, route, backend) in one step."""

Key = tuple[str, str, str]
"""Project, route, backend."""

_STRANGE = 60.0
REQUESTS, ERRORS, TOKENS_IN, TOKENS_OUT, COST = range(5)
_BUCKETS = len(BOUNDS) + 1
_FIRST, _WHOLE = 5, 5 + _BUCKETS
_WIDTH = _WHOLE + _BUCKETS


class Amount:
    """What was counted: calls, those of them that failed, tokens, cost in 10^-12 USD, latency buckets."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self.numbers = array("q", numbers) or array("q", bytes(8 * _WIDTH))

    def add(self, other: Iterable[int]) -> None:
        numbers = self.numbers
        for place, number in enumerate(other):
            if number:
                numbers[place] += number

    @property
    def requests(self) -> int:
        return self.numbers[REQUESTS]

    @property
    def errors(self) -> int:
        return self.numbers[ERRORS]

    @property
    def tokens_in(self) -> int:
        return self.numbers[TOKENS_IN]

    @property
    def tokens_out(self) -> int:
        return self.numbers[TOKENS_OUT]

    @property
    def cost(self) -> int:
        return self.numbers[COST]

    def first(self, share: float) -> float | None:
        """Seconds to the first byte that this share of calls stayed below; None without any."""
        return quantile(self.numbers[_FIRST:_WHOLE], share)

    def whole(self, share: float) -> float | None:
        """Seconds to the last byte that this share of calls stayed below."""
        return quantile(self.numbers[_WHOLE:_WIDTH], share)


def quantile(counts: Iterable[int], share: float) -> float | None:
    """A quantile by buckets, straight between the bounds of the bucket it falls into; None of nothing.

    What took longer than the highest bound is told as that bound.
    """
    sums = list(accumulate(counts))
    if not sums or not sums[-1]:
        return None
    wanted = share * sums[-1]
    place = next(i for i, total in enumerate(sums) if total >= wanted and total)
    if place >= len(BOUNDS):
        return BOUNDS[-1]
    low, before = (BOUNDS[place - 1], sums[place - 1]) if place else (0.0, 0)
    return low + (BOUNDS[place] - low) * (wanted - before) / (sums[place] - before)


class Step(msgspec.Struct, frozen=True):
    """One step of time. `at` is its begin as `time.time()`."""

    at: int
    seconds: int
    by: Mapping[str, Amount]
    all: Amount


class _Saved(msgspec.Struct, array_like=True):
    version: int
    steps: dict[str, list[tuple[int, dict[Key, list[int]]]]]
    seen: dict[str, Kept]


class History:
    """Differences of the counters of all processes, by steps of time."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[int, dict[Key, Amount]]] = {name: {} for name in SPANS}
        self._seen: dict[str, Kept] = {}
        self._began = time.time()

    def take(self, found: Mapping[str, Kept], now: float) -> None:
        """Count what the processes' counters have grown by since the last time.

        Args:
            found: each process's counters, by its name; a process that is gone is forgotten.
            now: `time.time()`.
        """
        for name, told in found.items():  # what a process counted long before we looked has no place in this minute
            if name not in self._seen and told.began < self._began - _STRANGE:
                self._seen[name] = told
        for labels, cell in growth(self._seen, found):
            self._add(labels, cell, now)
        self._seen = dict(found)
        self._forget(now)

    def _add(self, labels: Labels, cell: Cell, now: float) -> None:
        status = labels[5]
        requests = int(cell[counters.REQUESTS])
        numbers = [requests, 0 if status in ANSWERED or status == GONE else requests]
        numbers += [int(cell[place]) for place in (counters.TOKENS_IN, counters.TOKENS_OUT, counters.COST)]
        numbers += [int(count) for count in cell[counters.FIRST :]]
        for name, (seconds, _) in SPANS.items():
            step = self._steps[name].setdefault(int(now) // seconds * seconds, {})
            key = labels[:3]
            if key not in step and len(step) >= SERIES:
                key = (OTHER, OTHER, OTHER)
            step.setdefault(key, Amount()).add(numbers)

    def _forget(self, now: float) -> None:
        for name, (seconds, most) in SPANS.items():
            oldest = int(now) // seconds * seconds - seconds * (most - 1)
            steps = self._steps[name]
            for at in [at for at in steps if at < oldest or at > now + seconds]:
                del steps[at]

    def steps(
        self,
        span: str,
        now: float,
        *,
        by: str = "project",
        projects: frozenset[str] | None = None,
        only: Mapping[str, str] | None = None,
    ) -> Iterator[Step]:
        """Every step of a span up to now, empty ones too.

        Args:
            by: project, route or backend: what the amounts are told apart by.
            projects: those that may be seen; None is all.
            only: a project, a route, a backend that alone are counted.
        """
        seconds, most = SPANS[span]
        place = ("project", "route", "backend").index(by)
        wanted = [(("project", "route", "backend").index(name), value) for name, value in (only or {}).items()]
        last = int(now) // seconds * seconds
        for at in range(last - seconds * (most - 1), last + 1, seconds):
            found: dict[str, Amount] = {}
            total = Amount()
            for key, amount in list(self._steps[span].get(at, {}).items()):
                if (projects is not None and key[0] not in projects) or any(key[i] != v for i, v in wanted):
                    continue
                found.setdefault(key[place], Amount()).add(amount.numbers)
                total.add(amount.numbers)
            yield Step(at, seconds, found, total)

    def names(self, span: str, *, projects: frozenset[str] | None = None) -> dict[str, list[str]]:
        """The projects, routes and backends that a span holds."""
        keys = {
            key
            for step in list(self._steps[span].values())
            for key in list(step)
            if projects is None or key[0] in projects
        }
        return {
            name: sorted({key[place] for key in keys} - {""})
            for place, name in enumerate(("project", "route", "backend"))
        }

    # -- over restarts -----------------------------------------------------------------------------------------------
    def packed(self) -> bytes:
        """All of it as msgpack, for `unpacked`."""
        steps = {
            name: [(at, {key: amount.numbers.tolist() for key, amount in found.items()}) for at, found in kept.items()]
            for name, kept in self._steps.items()
        }
        return msgspec.msgpack.encode(_Saved(1, steps, self._seen))

    @classmethod
    def unpacked(cls, data: bytes) -> "History":
        """What `packed` gave; an empty one for anything else."""
        made = cls()
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except msgspec.DecodeError:
            return made
        for name, steps in saved.steps.items():
            if saved.version == 1 and name in SPANS:
                for at, found in steps:
                    amounts = {key: Amount(numbers) for key, numbers in found.items() if len(numbers) == _WIDTH}
                    made._steps[name][at] = amounts
        made._seen = saved.seen if saved.version == 1 else {}
        return made
