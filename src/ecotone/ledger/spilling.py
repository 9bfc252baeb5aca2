"""The second folder that takes a chain's records while its own disk is full.

`<spill>/<writer>/spilled.jsonl` goes on where the chain's last segment stops: the same numbers, the same hashes. When
there is room again its lines are appended to the chain unchanged and the file is removed.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ecotone.ledger.segments import whole_bytes

NAME = "spilled.jsonl"
NOWHERE = 2**63
"""The number of a line that has none."""


class Spill:
    """The file of one chain, opened for appending; what a crash tore is cut.

    Raises:
        OSError: when it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / NAME
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = whole_bytes(self._path)
        os.ftruncate(self._descriptor, self._size)

    @property
    def size(self) -> int:
        return self._size

    def write(self, block: bytes) -> None:
        """Append whole lines; the file is as before when that fails. Raises OSError."""
        try:
            written = os.write(self._descriptor, block)
            while written < len(block):
                written += os.write(self._descriptor, block[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(block)

    def duplicate(self) -> int:
        """A descriptor of one's own, to flush by."""
        return os.dup(self._descriptor)

    def lines(self, offset: int) -> Iterator[bytes]:
        """The lines from a place on, as far as they were written when the reading began."""
        left = self._size - offset
        with self._path.open("rb") as file:
            file.seek(offset)
            while left > 0 and (line := file.readline()):
                left -= len(line)
                yield line

    def cut(self, offset: int) -> Path:
        """Keep the lines before a place; returns where a copy of the whole lies."""
        aside = self._path.with_name(f"aside-{time.time_ns()}.jsonl")
        shutil.copyfile(self._path, aside)
        os.ftruncate(self._descriptor, offset)
        self._size = offset
        return aside

    def close(self, *, remove: bool) -> None:
        os.close(self._descriptor)
        if remove:
            self._path.unlink(missing_ok=True)


def spilled(spill: Path | None, writer: str) -> Path | None:
    """The file with a chain's records that lie outside of it; None when there is none."""
    if spill is None:
        return None
    path = spill / writer / NAME
    return path if path.is_file() else None


def number_of(line: bytes) -> int:
    """The number with which a record begins; `NOWHERE`, a very high one, where none stands, so that it is looked at."""
    number = line[5 : line.find(b",")]
    return int(number) if len(number) < 20 and number.isdigit() else NOWHERE
