"""Plain counters of the gateway's calls, bumped in the event loop's thread; whoever shows them reads them later.

A label is what a call was, in words that administrators chose: never a key, a prompt, an end user's id or a secret. A
model's name comes from the caller, so it becomes a label once a model of that name has answered and nothing sensitive
is found in it, and at most `MODELS` of them for each project. The number of label sets is bounded; what comes beyond
is counted under `other`.
"""

import contextlib
import os
import secrets
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import msgspec

from ecotone.privacy import find

BOUNDS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0),
)
"""Upper bounds of the latency buckets in seconds; what takes longer falls into one more."""
SETS = 1000
MODELS = 50
OTHER = "other"
ANSWERED = frozenset({"done", "cached", "ok", "200"})
GONE = "client_gone"
FOLDER = "counters"

REQUESTS, TOKENS_IN, TOKENS_OUT, COST, FIRST_SECONDS, SECONDS, FIRST = range(7)
"""Places in a cell: sums first, then the buckets of the first byte, then those of the whole time."""
_BUCKETS = len(BOUNDS) + 1
WHOLE = FIRST + _BUCKETS
WIDTH = WHOLE + _BUCKETS
_CODES = 100
_LONGEST = 200
_EVERY = 1.0
_SILENT = 10.0
_REMOVED = 86_400.0

Labels = tuple[str, str, str, str, str, str]
"""Project, route, backend, model, face, status; a call without a route has the empty one."""
Cell = list[float]
"""`WIDTH` numbers, whole but for the sums of seconds; the cost is in 10^-12 USD."""


class Counters:
    """What one process counted since it began; `boot` tells it from the process before it.

    `open` is the number of calls under way, `retries` that of calls which a client said it repeats, `began` the
    process's begin as `time.time()`.
    """

    __slots__ = ("_index", "_models", "began", "boot", "cells", "open", "refusals", "retries")

    def __init__(self) -> None:
        self.boot = secrets.token_hex(8)
        self.began = time.time()
        self.cells: dict[Labels, Cell] = {}
        self.refusals: dict[str, int] = {}
        self.open = self.retries = 0
        self._index: dict[tuple[str, str | None, str, str, str, str | int], Cell] = {}
        self._models: dict[str, set[str]] = {}

    def done(
        self,
        project: str,
        route: str | None,
        backend: str,
        model: str,
        face: str,
        status: str | int,
        tokens_in: int,
        tokens_out: int,
        cost: int | None,
        first_seconds: float | None,
        seconds: float,
    ) -> None:
        """Count a call that has ended.

        Args:
            status: the word of its settled record, or the answer's status.
            cost: 10^-12 USD; None where the price is not known.
            first_seconds: to the first byte of the answer's body; None when there was none.
            seconds: to the last byte.
        """
        try:
            cell = self._index[project, route, backend, model, face, status]
        except KeyError:
            cell = self._cell(project, route, backend, model, face, status)
        cell[1] += tokens_in
        cell[2] += tokens_out
        if cost:
            cell[3] += cost
        cell[5] += seconds
        place = bisect_left(BOUNDS, seconds)
        cell[32 + place] += 1
        if first_seconds is not None:
            cell[4] += first_seconds
            if place and first_seconds <= BOUNDS[place - 1]:
                place = bisect_left(BOUNDS, first_seconds)
            cell[6 + place] += 1
        cell[0] += 1  # last: by this number another thread sees that there is more to save

    def refused(self, code: str) -> None:
        """Count a request that no backend saw, by the code of its error."""
        found = self.refusals
        if code in found:
            found[code] += 1
        elif len(found) < _CODES:
            found[code] = 1
        else:
            found[OTHER] = found.get(OTHER, 0) + 1

    def _cell(self, project: str, route: str | None, backend: str, model: str, face: str, status: str | int) -> Cell:
        told, word = (project, route, backend, model, face, status), str(status)
        labels = (project, route or "", backend, self._known(project, model, answered=word in ANSWERED), face, word)
        is_new = labels not in self.cells
        if is_new and len(self.cells) >= SETS:
            labels = (OTHER,) * 4 + ((face, word) if len(self.cells) < 2 * SETS else (OTHER, OTHER))
        cell = self.cells.setdefault(labels, [0] * WIDTH)
        if labels[3] == model:  # a model that is not known yet may be later
            self._index[told] = cell
        return cell

    def _known(self, project: str, model: str, *, answered: bool) -> str:
        found = self._models.get(project)
        if found is None:
            if len(self._models) >= SETS:
                return OTHER
            found = self._models[project] = set()
        if model in found:
            return model
        if not answered or len(found) >= MODELS or len(model) > _LONGEST or find(model):
            return OTHER
        found.add(model)
        return model


assert (FIRST, WHOLE) == (6, 32)


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """Counters as one process has left them in a file."""

    boot: str
    began: float
    open: int
    cells: dict[Labels, Cell]
    refusals: dict[str, int]
    retries: int = 0


def kept(counters: Counters) -> Kept:
    """A copy of what was counted until now. Another thread may go on counting: one call may be in it by half."""
    cells = {labels: list(cell) for labels, cell in list(counters.cells.items())}
    return Kept(counters.boot, counters.began, counters.open, cells, dict(counters.refusals), counters.retries)


def save(counters: Counters, data: Path, writer: str) -> None:
    """Rename a process's counters into place, for the server to read; about a millisecond for 1,000 label sets.

    Args:
        data: the data folder.
        writer: the process's chain in the ledger.
    """
    folder = data / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{writer}.{secrets.token_hex(4)}"
    draft.write_bytes(msgspec.msgpack.encode(kept(counters)))
    os.chmod(draft, 0o600)  # noqa: PTH101
    draft.rename(folder / writer)


def load(data: Path) -> dict[str, Kept]:
    """What processes have left, by writer; a file that cannot be read is passed over.

    A process that has not written for `_SILENT` seconds has no call under way; after a day its file is removed.
    """
    found: dict[str, Kept] = {}
    folder = data / FOLDER
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        with contextlib.suppress(OSError, msgspec.DecodeError):
            age = time.time() - file.stat().st_mtime
            if age > _REMOVED:
                file.unlink(missing_ok=True)
            elif not file.name.startswith("."):
                told = msgspec.msgpack.decode(file.read_bytes(), type=Kept)
                found[file.name] = told if age < _SILENT else msgspec.structs.replace(told, open=0)
    return found


class Keeper:
    """A thread that saves a process's counters once a second, and a last time when it is stopped.

    Args:
        data: the data folder.
        writer: the process's chain in the ledger.
        under_way: how many calls are; else `counters.open` is believed.
    """

    def __init__(self, counters: Counters, data: Path, writer: str, under_way: Callable[[], int] | None = None) -> None:
        self._counters = counters
        self._data = data
        self._writer = writer
        self._under_way = under_way
        self._stopping = threading.Event()
        self._runs: threading.Thread | None = None
        self._saved: tuple[float, int, int] | None = None

    def start(self) -> None:
        self._runs = threading.Thread(target=self._run, name="counters", daemon=True)
        self._runs.start()

    def stop(self) -> None:
        """Save what was counted last, and end."""
        self._stopping.set()
        if self._runs is not None:
            self._runs.join(5)

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY):
            self._save()
        self._save()

    def _save(self) -> None:
        """Save when anything was counted since, else only show that we live."""
        counters = self._counters
        if self._under_way is not None:
            counters.open = self._under_way()
        calls = sum(cell[REQUESTS] for cell in list(counters.cells.values()))
        now = (calls, sum(list(counters.refusals.values())), counters.open)
        with contextlib.suppress(OSError):  # a full disk costs figures, not calls
            if now != self._saved:
                save(counters, self._data, self._writer)
                self._saved = now
            else:
                os.utime(self._data / FOLDER / self._writer)
