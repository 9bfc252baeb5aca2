"""Whole files in a folder, for programs that open paths: made complete or not at all, kept while used, bounded."""

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from ecotone.storage.content import Content
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

    @contextlib.contextmanager
    def folder(self, key: str, files: Mapping[str, Content]) -> Iterator[Path]:
        """The folder for a key, which must name its content: the same key always stands for the same files."""
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
            self._shrink()

    def _make(self, target: Path, files: Mapping[str, Content]) -> None:
        draft = self._folder / f".{target.name}.{secrets.token_hex(4)}"
        draft.mkdir(mode=0o700, parents=True)
        try:
            for path, content in files.items():
                parts = PurePosixPath(path).parts
                if not parts or path.startswith("/") or ".." in parts:
                    raise Invalid(f"The path {path!r} does not stay inside its folder.")
                place = draft.joinpath(*parts)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write(content, place)
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def _shrink(self) -> None:
        with self._lock:
            sizes = {p: _size(p) for p in self._folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
            total = sum(sizes.values())
            for path in sorted(sizes, key=lambda p: p.stat().st_mtime if p.exists() else time.time()):
                if total <= self._most:
                    return
                if self._used[path.name] <= 0:
                    shutil.rmtree(path, ignore_errors=True)
                    total -= sizes[path]


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
