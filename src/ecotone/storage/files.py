"""Files and folders that survive a crash: written aside, flushed, renamed into place, the folder flushed too."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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


def sharded(folder: Path, name: str) -> Path:
    """`folder/ab/cdef...`: no folder grows too large."""
    return folder / name[:2] / name[2:]
