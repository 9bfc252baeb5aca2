"""Files that were read a moment ago, with all their terms: a client asks for a large one in many pieces."""

import threading
import time
from collections import OrderedDict

from ecotone.storage.reconstruction import XetFile

SECONDS = 60.0
MOST_TERMS = 500_000

Key = tuple[str | None, str]


class RecentFiles:
    """Least recently used go first, above a bound on the terms of all; each is asked of the database again in time.

    A file forgotten by the database while it is here can still be read: its xorbs outlive its row by far longer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[Key, tuple[float, XetFile]] = OrderedDict()
        self._terms = 0

    def get(self, key: Key) -> XetFile | None:
        with self._lock:
            found = self._files.get(key)
            if found is None:
                return None
            if found[0] < time.monotonic():
                self._drop(key)
                return None
            self._files.move_to_end(key)
            return found[1]

    def put(self, key: Key, file: XetFile) -> None:
        with self._lock:
            if key in self._files:
                self._drop(key)
            self._files[key] = (time.monotonic() + SECONDS, file)
            self._terms += len(file.terms) + 1
            while self._terms > MOST_TERMS:
                self._drop(next(iter(self._files)))

    def _drop(self, key: Key) -> None:
        self._terms -= len(self._files.pop(key)[1].terms) + 1
