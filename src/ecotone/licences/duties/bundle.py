"""A bundle of files as the duties read it: a folder, or files that came from elsewhere. Bounded, and never left."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ecotone.licences.detection.reading import Unreadable, decoded, is_binary

MOST_FILES = 20_000
LARGEST_TEXT = 2 * 1024 * 1024
_SKIPPED = frozenset({".git", ".hg", ".svn", "__pycache__", ".cache"})
_DEEPEST = 6


class Bundle(Protocol):
    """Files by their relative paths, with `/`."""

    def paths(self) -> tuple[str, ...]:
        """Paths of all regular files, sorted."""
        ...

    def text(self, path: str) -> str:
        """Text of a file.

        Raises:
            Unreadable: absent, not permitted, binary, outside the bundle, or larger than `LARGEST_TEXT`.
        """
        ...


class Folder:
    """A folder on this machine. Links that lead out of it are no part of it.

    Raises:
        Unreadable: when the folder cannot be read, or holds more than `MOST_FILES` files.
    """

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.resolve(strict=True)
            if not self.root.is_dir():
                raise Unreadable("not a folder")
            os.scandir(self.root).close()
        except (OSError, ValueError, RuntimeError) as error:
            raise Unreadable(getattr(error, "strerror", None) or str(error)) from None
        self._within = (self.root, *_blobs(self.root))
        self._paths: tuple[str, ...] | None = None

    def paths(self) -> tuple[str, ...]:
        if self._paths is None:
            self._paths = tuple(sorted(self._walk()))
        return self._paths

    def _walk(self) -> list[str]:
        found: list[str] = []
        for folder, folders, names in os.walk(self.root):
            at = Path(folder).relative_to(self.root)
            folders[:] = [f for f in sorted(folders) if f not in _SKIPPED] if len(at.parts) < _DEEPEST else []
            found += [(at / name).as_posix() for name in names if self.holds(at / name)]
            if len(found) > MOST_FILES:
                raise Unreadable(f"more than {MOST_FILES:,} files")
        return found

    def file(self, path: str) -> Path:
        """The place of a file. Raises Unreadable when it is not in the bundle."""
        if not self.holds(Path(path)):
            raise Unreadable("not a regular file inside the folder")
        return self.root / path

    def holds(self, path: Path) -> bool:
        """Whether a path in it is a regular file that lies in it, also where links lead there."""
        try:
            real = (self.root / path).resolve(strict=True)
            return any(real.is_relative_to(place) for place in self._within) and stat.S_ISREG(real.stat().st_mode)
        except (OSError, ValueError, RuntimeError):
            return False

    def text(self, path: str) -> str:
        place = self.file(path)
        try:
            size = place.stat().st_size
            if size > LARGEST_TEXT:
                raise Unreadable(f"{size:,} bytes, more than the {LARGEST_TEXT:,} that are read of a text")
            return text_of(place.read_bytes()[: LARGEST_TEXT + 1])
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from None


def _blobs(root: Path) -> tuple[Path, ...]:
    """Where the links of a snapshot lead in the cache of Hugging Face's client."""
    return (root.parent.parent / "blobs",) if root.parent.name == "snapshots" else ()


class Loose:
    """Files that came from elsewhere: a repository of the hub, a live page, a request."""

    def __init__(self, files: Mapping[str, bytes | str], others: tuple[str, ...] = ()) -> None:
        self._files = dict(files)
        self._paths = tuple(sorted({*files, *others}))

    def paths(self) -> tuple[str, ...]:
        return self._paths

    def text(self, path: str) -> str:
        found = self._files.get(path)
        if found is None:
            raise Unreadable("no such file")
        if len(found) > LARGEST_TEXT:
            raise Unreadable(f"{len(found):,} bytes, more than the {LARGEST_TEXT:,} that are read of a text")
        return found if isinstance(found, str) else text_of(found)


def text_of(raw: bytes) -> str:
    """Bytes as text. Raises Unreadable for what is no text."""
    if is_binary(raw):
        raise Unreadable("binary")
    return decoded(raw)
