"""Compares a revision's whole files with what the hub recorded of them, before any engine reads one.

What was found right is remembered with each file's size, time of change and number on the disk, so that only files that
are new or were touched are read again.
"""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecotone.engines.errors import NotServable

_PIECE = 4 << 20


class Verified:
    """Remembers in a folder, one file for each folder of files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def check(self, model: str, folder: Path, contents: Mapping[str, Any]) -> None:
        """Compare the files in `folder` with their contents by path (`sha256`, or `git_oid` for small ones; `size`).

        Raises:
            NotServable: naming the first file that is missing or has other bytes.
        """
        kept = self._folder / f"{folder.name}.json"
        with self._lock:
            checking = self._locks[folder.name]
        with checking:
            known = _read(kept)
            found: dict[str, list[Any]] = {}
            for path, content in contents.items():
                mark = self._mark(model, folder / path, path)
                expected = content.sha256 or content.git_oid
                if known.get(path) != [*mark, expected]:
                    _compare(model, folder, path, content)
                found[path] = [*mark, expected]
            if found != known:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                kept.write_text(json.dumps(found))

    @staticmethod
    def _mark(model: str, file: Path, path: str) -> list[int]:
        try:
            stat = file.stat()
        except OSError:
            raise NotServable(f"{model} cannot be served: its file {path} is missing on the disk.") from None
        return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _compare(model: str, folder: Path, path: str, content: Any) -> None:
    file = folder / path
    size = file.stat().st_size
    if size == content.size:
        sha = hashlib.sha256() if content.sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with open(file, "rb") as opened:
            while piece := opened.read(_PIECE):
                sha.update(piece)
        if sha.hexdigest() == (content.sha256 or content.git_oid):
            return
        what = "its bytes are not those that were uploaded"
    else:
        what = f"it has {size} bytes, and {content.size} were uploaded"
    raise NotServable(
        f"{model} cannot be served: its file {path} is damaged on the disk ({what}). Remove the folder "
        f"materialised/{folder.name} in the data folder, so that it is made again from the store; upload the file anew "
        "if that does not help."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
