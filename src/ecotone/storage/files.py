"""Files and folders that survive a crash: written aside, flushed, put in place in one step, the folder flushed too."""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from ecotone.storage.errors import StorageFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FLUSHED_BYTES = 32 * 1024 * 1024
_flushers = ThreadPoolExecutor(2, "flushing")


@contextlib.contextmanager
def room_on_disk() -> Iterator[None]:
    """Says that the disk is full, in place of the system's error."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull from error
        raise


def flush_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    flush_folder(folder.parent)


@contextlib.contextmanager
def new_file(target: Path, *, mode: int = 0o400) -> Iterator[BinaryIO]:
    """A file that appears at `target` complete and flushed when the block ends, or not at all when it raises."""
    with room_on_disk():
        make_folder(target.parent)
        draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            draft.rename(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        flush_folder(target.parent)


class Draft:
    """Bytes on their way in, in a folder on the disk of their target. Leaving the block drops what was not placed.

    The draft is locked while its writer lives: `sweep` removes those that a dead process left behind.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        with room_on_disk():
            make_folder(folder)
            self.path, self._descriptor = _locked_draft(folder, kind)
        self._open = True
        self._unflushed = 0
        self._flushing: Future[None] | None = None

    def __enter__(self) -> "Draft":
        return self

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of the data: a nearly full disk may take a part of it without an error."""
        view = memoryview(data)
        self._unflushed += len(view)
        with room_on_disk():
            while view:
                view = view[os.write(self._descriptor, view) :]
            if self._unflushed >= _FLUSHED_BYTES and (self._flushing is None or self._flushing.done()):
                self._flushed()
                self._unflushed = 0
                self._flushing = _flushers.submit(_flush, os.dup(self._descriptor))

    def _flushed(self) -> None:
        """Raises what went wrong in writing back: the system tells it once, and not to the next flush."""
        if self._flushing is not None:
            self._flushing.result()

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes; what is written next comes behind them."""
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def place(self, target: Path) -> None:
        """Put the bytes at `target`, durable when it returns. What is there already stays: the first one wins."""
        with room_on_disk():
            os.fchmod(self._descriptor, 0o400)
            self._flushed()
            os.fsync(self._descriptor)
            make_folder(target.parent)
            try:
                os.link(self.path, target)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno in _FULL:
                    raise
                if not target.exists():  # a file system without hard links
                    self.path.rename(target)
            flush_folder(target.parent)

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._open = False
            self.path.unlink(missing_ok=True)
            descriptor, self._descriptor = self._descriptor, -1  # a thread that still writes must not meet another file
            os.close(descriptor)


def _flush(descriptor: int) -> None:
    """Write back what came so far, while more comes: the end has less to wait for."""
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _locked_draft(folder: Path, kind: str) -> tuple[Path, int]:
    """A new file, locked. One that another process's `sweep` saw before it was locked is gone: then another is made."""
    while True:
        path = folder / f"{kind}-{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def sweep(folder: Path) -> int:
    """Remove the drafts in a folder whose writer is gone; returns how many."""
    removed = 0
    for path in folder.iterdir():
        if not path.is_file():
            continue
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
            except BlockingIOError:
                pass
            finally:
                os.close(descriptor)
    return removed
