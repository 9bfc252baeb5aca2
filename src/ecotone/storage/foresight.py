"""sha256 and fingerprint begun before it is asked for, while the rest of an upload is still on its way.

A client cuts a large file into xorbs in order and sends several at a time. So the bytes of a session's xorbs, in the
order in which their sending began, are most likely the file's: they are hashed as they arrive. When the shard tells
what the file is made of, what agrees is taken over; a session whose xorbs hold several files gains nothing and is
hashed again. Only bytes that were verified and stored are hashed.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ecotone.lineage.arriving import Printing
from ecotone.storage.reconstruction import StoredTerm

MOST_SESSIONS = 32
MOST_XORBS = 4096

Session = tuple[str, str]
"""Tenant, and the client's own name for its session."""


class Foresight:
    """Thread-safe.

    Args:
        read: the raw bytes of a stored xorb.
    """

    def __init__(self, read: Callable[[str], Iterator[bytes | memoryview]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._sessions: OrderedDict[Session, _Row] = OrderedDict()
        self._threads = ThreadPoolExecutor(1, "foresight")
        self._printers = ThreadPoolExecutor(1, "foresight-prints")

    def begins(self, session: Session, xorb: str) -> None:
        """A xorb is being sent."""
        if not session[1]:
            return
        with self._lock:
            row = self._sessions.setdefault(session, _Row())
            self._sessions.move_to_end(session)
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
            if len(row.order) < MOST_XORBS and xorb not in row.order:
                row.order.append(xorb)

    def arrived(self, session: Session, xorb: str) -> None:
        """It is verified and stored."""
        with self._lock:
            row = self._sessions.get(session)
            if row is None:
                return
            row.here.add(xorb)
            if row.working or row.next() is None:
                return
            row.working = True
        self._threads.submit(self._go_on, row)

    def failed(self, session: Session, xorb: str) -> None:
        """It did not come whole, or not as it was named."""
        with self._lock:
            row = self._sessions.get(session)
            if row is not None and xorb in row.order[len(row.digests) :] and xorb not in row.here:
                row.order.remove(xorb)

    def begun(self, session: Session, terms: Sequence[StoredTerm], whole: Iterable[int]) -> tuple[Any, int, Printing]:
        """A sha256 over the first bytes of a file, how many they are, and a fingerprint begun over its first bytes,
        which tells itself how many these are.

        Args:
            whole: the number of chunks of each term's xorb.
        """
        with self._lock:
            row = self._sessions.pop(session, None)
            known = [] if row is None else list(zip(row.order, row.digests, strict=False))
        if row is not None:
            row.end()
        digest, size, length = hashlib.sha256(), 0, 0
        hashed = dict(enumerate(digest for _, digest in known))
        order = [] if row is None else row.order
        for number, (xorb, term, count) in enumerate(zip(order, terms, whole, strict=False)):
            if (term.xorb, term.start, term.end) != (xorb, 0, count):
                break
            length += term.length
            if number in hashed:
                digest, size = hashed[number], length
        fits = row is not None and row.printing.at <= length
        return digest.copy(), size, row.printing if row is not None and fits else Printing()

    def _go_on(self, row: "_Row") -> None:
        """Hash what is there and next in order, a xorb at a time."""
        while True:
            with self._lock:
                name = None if row.over else row.next()
                if name is None:
                    row.working = False
                    return
                digest = row.digests[-1].copy() if row.digests else hashlib.sha256()
            try:
                for piece in self._read(name):
                    fed = self._printers.submit(row.fed, piece)  # both let other threads run
                    digest.update(piece)
                    if not fed.result():
                        return
            except Exception:  # a foresight that failed is none
                row.end()
                return
            with self._lock:
                row.digests.append(digest)


class _Row:
    """A session: xorbs in the order of their sending, those that are here, and the digest after each of the first."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.here: set[str] = set()
        self.digests: list[Any] = []
        self.working = self.over = False
        self.printing = Printing()
        self._feeding = threading.Lock()

    def fed(self, piece: bytes | memoryview) -> bool:
        """Give the fingerprint its next bytes; false when nobody asks any more."""
        with self._feeding:
            if not self.over:
                self.printing.feed(piece)
            return not self.over

    def end(self) -> None:
        """Nothing is read any further; when this returns, the fingerprint stays as it is."""
        with self._feeding:
            self.over = True

    def next(self) -> str | None:
        if len(self.digests) >= len(self.order):
            return None
        name = self.order[len(self.digests)]
        return name if name in self.here else None
