"""Where the kept texts of a project lie, for whoever reads many of them: an index in a file beside them, thrown away
after use. Bounded in memory, whatever a project keeps."""

import contextlib
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

from ecotone.ledger.texts import Texts

_TABLE = "CREATE TABLE texts (request_id TEXT PRIMARY KEY, day TEXT, offset INTEGER, size INTEGER) WITHOUT ROWID"
_LONGEST_ID = 200


class TextIndex:
    """Of one project's texts.

    Args:
        place: for the index's file, which holds ids and places, no text; made anew.
        since: the first day that is wanted.
    """

    def __init__(self, texts: Texts, project: str, place: Path, *, since: date | None = None) -> None:
        self._texts = texts
        self._project = project
        self._since = since.isoformat() if since is not None else ""
        self._read: dict[str, int] = {}
        self._place = place
        place.unlink(missing_ok=True)
        self._rows = sqlite3.connect(place)
        self._rows.execute("PRAGMA journal_mode=OFF")
        self._rows.execute("PRAGMA synchronous=OFF")
        self._rows.execute(_TABLE)
        self.refresh()

    def refresh(self) -> None:
        """Take in what was written since."""
        for file in self._texts.files(self._project):
            if file.name >= self._since:
                with contextlib.suppress(FileNotFoundError):  # its days were over meanwhile
                    self._rows.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?, ?, ?)", self._lines(file))

    def _lines(self, file: Path) -> Any:
        """Whole lines from where the file was read to."""
        at = self._read.get(file.name, 0)
        with file.open("rb") as opened:
            opened.seek(at)
            for line in opened:
                if not line.endswith(b"\n"):
                    break
                name, space, sealed = line.partition(b" ")
                if space and len(name) < _LONGEST_ID:
                    offset = at + len(name) + 1
                    yield name.decode("ascii", "replace"), file.name, offset, len(sealed)
                at += len(line)
        self._read[file.name] = at

    def text(self, request_id: str) -> Any:
        """The text of a request; None when none is kept.

        Raises:
            Unreadable: one is there that its key does not open.
        """
        wanted = "SELECT day, offset, size FROM texts WHERE request_id = ?"
        found = self._rows.execute(wanted, (request_id,)).fetchone()
        return None if found is None else self._texts.at(self._project, request_id, *found)

    def close(self) -> None:
        self._rows.close()
        self._place.unlink(missing_ok=True)
