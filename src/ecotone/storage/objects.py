"""Where immutable objects lie: put by key, read by range, listed, removed. The stores above know no path and no bucket.

A key is `kind/ab/cdef...` (see `key`); an object never changes, and the first one placed under a key stays.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from ecotone.storage.errors import ContentNotFound
from ecotone.storage.files import Draft, new_file

PIECE = 1024 * 1024


class Listed(NamedTuple):
    """An object as a listing shows it: key, size in bytes, when it was placed (UTC)."""

    key: str
    size: int
    placed: datetime


class Segment(NamedTuple):
    """Bytes of an open local file on their way out: they need not pass through Python."""

    descriptor: int
    offset: int
    size: int


Outgoing = Segment | bytes | memoryview


class Stored(Protocol):
    """An open object. Close it, or use it as a context manager."""

    size: int

    def read(self, offset: int, size: int) -> bytes:
        """The bytes at an offset; fewer at the object's end. Thread-safe."""
        ...

    def fileno(self) -> int | None:
        """A file descriptor on the bytes, where they are a local file."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> "Stored": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Objects(Protocol):
    """A place for objects. Thread-safe; several processes may use one place.

    `at_once` is how many puts are worth making at the same time.
    """

    at_once: int

    def place(self, draft: Draft, key: str) -> None:
        """Put a draft's bytes under a key, durable when it returns. What is there already stays."""
        ...

    def put(self, data: bytes, key: str) -> None:
        """The same for bytes in memory."""
        ...

    def open(self, key: str) -> Stored:
        """Raises ContentNotFound."""
        ...

    def size(self, key: str) -> int | None:
        """Size of an object in bytes; None when there is none."""
        ...

    def fetch(self, key: str, target: Path) -> None:
        """Make the object a plain read-only file at a path where there is none. Raises ContentNotFound."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        ...

    def listed(self, kind: str) -> Iterator[Listed]:
        """All objects of a kind, in order of their keys."""
        ...


def key(kind: str, name: str) -> str:
    """`kind/ab/cdef...`: no folder grows too large."""
    return f"{kind}/{name[:2]}/{name[2:]}"


def name_of(key: str) -> str:
    """The name in a key."""
    return "".join(key.split("/")[1:])


def missing(key: str) -> ContentNotFound:
    return ContentNotFound(f"The object {name_of(key)} is no longer here.")


def segment(stored: Stored, start: int, end: int) -> Iterator[Outgoing]:
    """Bytes [start, end) of an open local object, as one segment; the object is closed behind it."""
    with stored:
        descriptor = stored.fileno()
        if descriptor is None:
            yield from pieces(stored, start, end)
        else:
            yield Segment(descriptor, start, end - start)


def pieces(stored: Stored, start: int, end: int) -> Iterator[bytes]:
    """Bytes [start, end) of an open object, at most 1 MiB at a time."""
    while start < end and (piece := stored.read(start, min(PIECE, end - start))):
        start += len(piece)
        yield piece


class LocalFile:
    """An object in a local folder, open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        found = os.pread(self._descriptor, size, offset)
        if len(found) < size and offset + len(found) < self.size:  # a read may be short for no reason
            found += self.read(offset + len(found), size - len(found))
        return found

    def fileno(self) -> int | None:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "LocalFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class LocalObjects:
    """Objects as files below one folder, each flushed with its folder before it is there."""

    at_once = 32

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: str) -> Path:
        return self._folder / key

    def place(self, draft: Draft, key: str) -> None:
        draft.place(self.path(key))

    def put(self, data: bytes, key: str) -> None:
        target = self.path(key)
        if not target.exists():
            with new_file(target) as file:
                file.write(data)

    def open(self, key: str) -> LocalFile:
        try:
            return LocalFile(os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            raise missing(key) from None

    def size(self, key: str) -> int | None:
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def fetch(self, key: str, target: Path) -> None:
        try:
            os.link(self.path(key), target)
        except FileNotFoundError:
            raise missing(key) from None
        except OSError:  # another disk, or a file system without hard links
            with contextlib.ExitStack() as open_files:
                source = open_files.enter_context(open(self.path(key), "rb", buffering=0))
                shutil.copyfileobj(source, open_files.enter_context(open(target, "xb")), PIECE)
            target.chmod(0o400)

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def listed(self, kind: str) -> Iterator[Listed]:
        for folder in sorted(self._folder.joinpath(kind).glob("??")):
            for path in sorted(folder.iterdir()):
                if path.name.startswith("."):
                    continue  # a draft
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    placed = datetime.fromtimestamp(found.st_mtime, UTC)
                    yield Listed(f"{kind}/{folder.name}/{path.name}", found.st_size, placed)
