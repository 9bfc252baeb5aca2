"""Records of one turn of the event loop in one `write()`, and what may happen once they are written."""

import asyncio
from collections.abc import Callable, Sized
from typing import Final, Protocol

from ecotone.gateway.plane.faults import log_fault
from ecotone.ledger import LedgerFull

_ENDS: Final = frozenset({"settled", "failed"})
_MOST_OWED: Final = 100_000

After = Callable[[LedgerFull | None], None]


class Appending(Protocol):
    """What writes the records."""

    def append_all(self, items: list[tuple[str, bytes]]) -> None: ...


class Turns:
    """Gathers records; all of one turn are in the kernel before anything that depends on them is done.

    Args:
        jobs: what is under way: where that is one request alone, there is nothing to gather, and it need not wait.
    """

    __slots__ = ("_after", "_items", "_jobs", "_loop", "_owed", "_writer")

    def __init__(self, writer: Appending, loop: asyncio.AbstractEventLoop, jobs: Sized) -> None:
        self._jobs = jobs
        self._writer = writer
        self._loop = loop
        self._items: list[tuple[str, bytes]] = []
        self._after: list[After] = []
        self._owed: list[tuple[str, bytes]] = []

    def add(self, kind: str, packed: bytes, after: After) -> None:
        """Write a record in this turn, then call `after` with None, or with what went wrong."""
        is_first = not self._after
        self._items.append((kind, packed))
        self._after.append(after)
        if is_first:
            if len(self._jobs) <= 1:
                self.write()
            else:
                self._loop.call_soon(self.write)

    def before(self, kind: str, packed: bytes) -> None:
        """Write a record ahead of the next one that is added."""
        self._items.append((kind, packed))

    def write(self) -> None:
        """Write what was gathered now."""
        items, after = self._items, self._after
        if self._owed:
            self._write_owed()
        if not after:
            return
        self._items, self._after = [], []
        wrong: LedgerFull | None = None
        try:
            self._writer.append_all(items)
        except LedgerFull as error:
            wrong = error
            ends = [item for item in items if item[0] in _ENDS]
            self._owed += ends[: _MOST_OWED - len(self._owed)]
        except Exception as error:
            log_fault(error)
            wrong = LedgerFull("The ledger could not be written; nothing was done.", retry_after=30)
        for follow in after:
            try:
                follow(wrong)
            except Exception as error:  # one request's fault is not another's
                broke = getattr(getattr(follow, "__self__", None), "broke", log_fault)
                broke(error)

    def _write_owed(self) -> None:
        """The ends of requests that could not be written when they came. What had been opened is not lost either way:
        the next start settles it with what it had reserved."""
        try:
            self._writer.append_all(self._owed)
        except LedgerFull:
            return
        except Exception as error:
            log_fault(error)
            return
        self._owed = []
