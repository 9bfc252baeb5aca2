"""Whole files in a folder, for programs that open paths: made complete or not at all, kept while used, bounded."""

import contextlib
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from ecotone.storage.content import Content
from ecotone.storage.files import flush_folder, room_on_disk
from ecotone.vocabulary import Invalid


class Materialised:
    """A cache of folders by key. A folder in use is never dropped; others go, longest unused first, above the bound."""

    def __init__(self, folder: Path, most_bytes: int, write: Callable[[Content, Path], None]) -> None:
        self._folder = folder
        self._most = most_bytes
        self._write = write
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._used: Counter[str] = Counter()

    def sweep(self) -> None:
        """Remove what a process that is gone left half made. One process at a time makes these folders."""
        for left in (p for p in self._folder.iterdir() if p.name.startswith(".")):
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def folder(self, key: str, files: Mapping[str, Content]) -> Iterator[Path]:
        """The folder for a key, which must name its content: the same key always stands for the same files."""
        if not key or key.startswith(".") or "/" in key or "\0" in key:
            raise Invalid(f"{key!r} is no name for a folder of whole files.")
        with self._lock:
            self._used[key] += 1
            making = self._making.setdefault(key, threading.Lock())
        try:
            target = self._folder / key
            with making:
                if not target.is_dir():
                    self._make(target, files)
            with contextlib.suppress(OSError):
                os.utime(target)
            yield target
        finally:
            with self._lock:
                self._used[key] -= 1
                if not self._used[key]:
                    del self._used[key]
                    self._making.pop(key, None)
            self._shrink()

    def _make(self, target: Path, files: Mapping[str, Content]) -> None:
        draft = self._aside(target)
        with room_on_disk():
            draft.mkdir(mode=0o700, parents=True)
            try:
                for path, content in files.items():
                    parts = PurePosixPath(path).parts
                    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
                        raise Invalid(f"The path {path!r} does not stay inside its folder.")
                    place = draft.joinpath(*parts)
                    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._write(content, place)
                for folder in {draft, *(p for p in draft.rglob("*") if p.is_dir())}:
                    flush_folder(folder)
                draft.rename(target)
                flush_folder(self._folder)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise

    def _aside(self, target: Path) -> Path:
        """A name that is never taken for a complete folder."""
        return self._folder / f".{target.name[:200]}.{secrets.token_hex(4)}"

    def _shrink(self) -> None:
        doomed: list[Path] = []
        with self._lock:
            sizes = {p: _size(p) for p in self._folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
            total = sum(sizes.values())
            for path in sorted(sizes, key=lambda p: p.stat().st_mtime):
                if total <= self._most:
                    break
                if self._used[path.name] <= 0:
                    total -= sizes[path]
                    doomed.append(path.rename(self._aside(path)))  # gone in one step, emptied afterwards
        for path in doomed:
            shutil.rmtree(path, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
