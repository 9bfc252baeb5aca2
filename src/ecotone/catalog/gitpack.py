"""A git pack file of whole objects, written one object at a time; git's own programs index and shrink it.

Source: git's documentation of its pack format (gitformat-pack, version 2).
"""

import hashlib
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_PIECE = 1024 * 1024


class PackFile:
    """A pack on its way to disk: `add` each object, then `finish`. Holds one object in memory."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file: BinaryIO = open(path, "w+b")  # noqa: SIM115  closed by `close`
        self._file.write(_head(0))

    def __enter__(self) -> "PackFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, kind: str, data: bytes) -> None:
        """Append a commit, tree or blob."""
        size = len(data)
        first = _KINDS[kind] << 4 | size & 0x0F
        size >>= 4
        head = bytearray()
        while size:
            head.append(first | 0x80)
            first, size = size & 0x7F, size >> 7
        head.append(first)
        self._file.write(head + zlib.compress(data, 1))
        self.count += 1

    def finish(self) -> None:
        """Write the number of objects into the head and the checksum at the end."""
        self._file.seek(0)
        self._file.write(_head(self.count))
        self._file.seek(0)
        made = hashlib.sha1(usedforsecurity=False)
        while piece := self._file.read(_PIECE):
            made.update(piece)
        self._file.write(made.digest())
        self._file.flush()


def _head(count: int) -> bytes:
    return b"PACK" + struct.pack(">II", 2, count)
