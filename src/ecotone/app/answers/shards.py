"""Rows in files of bounded size, and what a data set holds already. Memory is bounded: what must be remembered of rows
(ids, digests of texts) lies in a scratch file."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ecotone.app.answers.rows import pair_digest

FOLDER = "data"
_MOST_BYTES = 64 * 1024 * 1024
_PIECE = 1 << 20
_DIGITS = 9
_LONGEST = 8 * 1024 * 1024  # of a row: the texts of one hold a million characters, of six bytes each at most


class Shard(msgspec.Struct, frozen=True):
    """A file with rows that is written. `blob` is the git id that the same bytes have as a small file."""

    path: Path
    name: str
    sha256: str
    blob: str
    size: int


def next_number(paths: Iterable[str]) -> int:
    """The number of the file after those that a data set has."""
    names = (path.removeprefix(f"{FOLDER}/answers-").removesuffix(".jsonl") for path in paths)
    return max((int(name) + 1 for name in names if name.isdecimal() and len(name) < _DIGITS), default=0)


class Known:
    """Which requests, and which texts, the data set has already.

    Args:
        place: of the scratch file.
    """

    def __init__(self, place: Path) -> None:
        place.unlink(missing_ok=True)
        self._place = place
        self._rows = sqlite3.connect(place)
        self._rows.execute("PRAGMA journal_mode=OFF")
        self._rows.execute("PRAGMA synchronous=OFF")
        self._rows.execute("CREATE TABLE known (mark BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, mark: bytes | str | None) -> bool:
        """Whether it is new; nothing is never known."""
        if mark is None:
            return True
        done = self._rows.execute("INSERT OR IGNORE INTO known VALUES (?)", (mark,))
        return done.rowcount == 1

    def take_in(self, pieces: Iterable[bytes | memoryview]) -> int:
        """Remember the rows of a file; how many they are. What is no row of ours is passed over."""
        count = 0
        for line in _lines(pieces):
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("request_id"), str):
                count += 1
                self.add(row["request_id"])
                self.add(pair_digest(row))
        return count

    def close(self) -> None:
        self._rows.close()
        self._place.unlink(missing_ok=True)


class Shards:
    """Writes rows to files `answers-NNNNN.jsonl` of a folder.

    Args:
        first: number of the first.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self._folder = folder
        self._number = first
        self._file: Any = None
        self._size = 0
        self._digest = hashlib.sha256()
        self._done: list[Shard] = []
        self._path = folder

    def add(self, row: dict[str, Any]) -> None:
        line = msgspec.json.encode(row) + b"\n"
        if self._file is None or self._size + len(line) > _MOST_BYTES:
            self._next()
        self._file.write(line)
        self._digest.update(line)
        self._size += len(line)

    def close(self) -> list[Shard]:
        """The files that were written, in order."""
        if self._file is not None:
            self._file.close()
            self._file = None
            shard = Shard(
                self._path,
                f"{FOLDER}/{self._path.name}",
                self._digest.hexdigest(),
                _blob(self._path, self._size),
                self._size,
            )
            self._done.append(shard)
        return self._done

    def _next(self) -> None:
        self.close()
        self._path = self._folder / f"answers-{self._number:05d}.jsonl"
        self._number += 1
        self._file = self._path.open("wb")
        self._size = 0
        self._digest = hashlib.sha256()


def _blob(path: Path, size: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _lines(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The lines, without those that are longer than any row of ours: others may put such files there."""
    rest, passing = b"", False
    for piece in pieces:
        first, *others = bytes(piece).split(b"\n")
        rest = b"" if passing else rest + first
        if others:
            if rest:
                yield rest
            yield from others[:-1]
            rest, passing = others[-1], False
        if len(rest) > _LONGEST:
            rest, passing = b"", True
    if rest:
        yield rest
