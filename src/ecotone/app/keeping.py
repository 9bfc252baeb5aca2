"""What becomes of the ledger's records and of kept texts as time goes by: exports, removal after an export, erasure."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa

from ecotone.app.usage import Usage
from ecotone.app.usage_rows import LedgerExport
from ecotone.database import Database, utc_now
from ecotone.ledger import Ledger
from ecotone.ledger.exporting import Export
from ecotone.ledger.kept_sums import leave
from ecotone.ledger.retiring import closed, retire
from ecotone.vocabulary import Conflict, NotFound

log = logging.getLogger("ecotone.app")

_MOST_PENDING = 32
_DAY = 86_400.0


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A closed segment that is older than the setting says. It waits for an export while it is not `exported`."""

    writer: str
    segment: str
    bytes: int
    exported: bool


class Keeping:
    """Exports of the ledger and what may be removed after them.

    Args:
        seed: gives the installation's signing key.
        sign: signs all heads now.
        usage: keeps the sums of what is removed.
        keep_days: setting; 0 keeps all.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        usage: Usage,
        *,
        seed: Callable[[], bytes],
        sign: Callable[[], None],
        keep_days: float,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._usage = usage
        self._seed = seed
        self._sign = sign
        self._keep_days = keep_days
        self._turn = threading.Lock()
        self._retiring = threading.Lock()
        self._pending: OrderedDict[str, Export] = OrderedDict()

    def export(self, *, since: datetime | None, until: datetime | None, project: str | None) -> Iterator[bytes]:
        """The lines of an export. Heads are signed first, so that all of it leads to a checkpoint."""
        self._sign()
        made = Export(
            self._ledger,
            self._seed(),
            since=_text(since),
            until=_text(until),
            project=project,
            made=_text(utc_now()),
        )
        yield from made
        with self._turn:
            self._pending[made.sha256] = made
            while len(self._pending) > _MOST_PENDING:
                self._pending.popitem(last=False)

    def confirm(self, sha256: str) -> int:
        """Note that an export arrived whole; returns how many closed segments are in it with every record.

        Raises:
            NotFound: no export of this sum was sent since the server started.
        """
        with self._turn:
            made = self._pending.pop(sha256, None)
        if made is None:
            raise NotFound(
                "No export with this SHA-256 was sent since the server's start; export again.", param="sha256"
            )
        now = utc_now()
        with self._database.writing() as session:
            for writer, segment in made.whole:
                session.merge(LedgerExport(writer=writer, segment=segment, exported=now, sha256=sha256))
        return len(made.whole)

    def due(self, *, older_than: float | None = None) -> list[Due]:
        """Closed segments that are older than the setting says, oldest first within each chain.

        Args:
            older_than: days, instead of the setting.
        """
        days = self._keep_days if older_than is None else older_than
        if days <= 0:
            return []
        with self._database.reading() as session:
            known = {(w, s) for w, s in session.execute(sa.select(LedgerExport.writer, LedgerExport.segment))}
        found: list[Due] = []
        for chain in self._ledger.chains():
            for segment in closed(chain):
                told = segment.stat()
                if told.st_mtime > time.time() - days * _DAY:
                    break
                exported = (chain.name, int(segment.stem)) in known
                found.append(Due(writer=chain.name, segment=segment.name, bytes=told.st_size, exported=exported))
        return found

    def retire(self, *, older_than: float | None = None, intend: Callable[[list[str]], None]) -> list[str]:
        """Remove segments that are due and were exported; returns their names. Their usage stays counted.

        Args:
            intend: records, before anything is removed, what will be.

        Raises:
            Conflict: when segments are due and none of them was exported.
        """
        with self._retiring:  # the clock and somebody who asks may come at once
            return self._retire(self.due(older_than=older_than), intend)

    def _retire(self, due: list[Due], intend: Callable[[list[str]], None]) -> list[str]:
        leaving: dict[str, list[Path]] = {}
        waiting: set[str] = set()
        for one in due:
            if not one.exported:
                waiting.add(one.writer)
            elif one.writer not in waiting:
                leaving.setdefault(one.writer, []).append(self._ledger.folder / one.writer / one.segment)
        names = [f"{writer}/{file.name}" for writer, files in leaving.items() for file in files]
        if not names:
            if due:
                raise Conflict(
                    f"{len(due)} segments of the ledger are due, and none was exported; run `ecotone ledger export` "
                    "first."
                )
            return []
        intend(names)
        for writer, files in leaving.items():
            for file in files:
                self._usage.set_apart(file)
                leave(file)
            retire(self._ledger.folder / writer, files, self._seed())
        return names


def _text(moment: datetime | None) -> str:
    """A moment as it stands in records."""
    if moment is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
