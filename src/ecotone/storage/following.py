"""sha256 of a file while it is written, computed behind its writer by another thread."""

import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

_PIECE = 256 * 1024
_BEHIND = 4 * 1024 * 1024
_threads = ThreadPoolExecutor(2, "following")


class FollowingDigest:
    """sha256 of the bytes that were appended to a file, read again from it while the system still has them in memory.

    Small files never wake a thread. Not thread-safe: one writer tells how far the file has grown, and asks at the end.

    Args:
        descriptor: open for reading; it stays open until `hexdigest` or `stop` returns.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._at = self._end = 0
        self._lock = threading.Lock()
        self._stopped = False
        self._work: Future[None] | None = None

    def grew(self, count: int) -> None:
        """So many bytes more are there."""
        with self._lock:
            self._end += count
            if self._work is None and self._end - self._at >= _BEHIND:
                self._work = _threads.submit(self._follow)

    def hexdigest(self) -> str:
        """Of all bytes that were told. Raises what went wrong in reading them."""
        self._ended()
        self._hash_to_end()
        return self._digest.hexdigest()

    def stop(self) -> None:
        """Nobody asks any more; when this returns, no thread reads the file."""
        self._stopped = True
        with self._lock:
            work = self._work
        if work is not None and not work.cancel():
            work.exception()

    def _ended(self) -> None:
        """What other thread's work there is has ended, or never begins."""
        with self._lock:
            work = self._work
        if work is not None and not work.cancel():
            work.result()

    def _follow(self) -> None:
        try:
            self._hash_to_end()
        finally:
            with self._lock:
                self._work = None

    def _hash_to_end(self) -> None:
        buffer = memoryview(bytearray(_PIECE))
        while self._at < self._end and not self._stopped:
            count = os.preadv(self._descriptor, [buffer[: min(_PIECE, self._end - self._at)]], self._at)
            if not count:
                raise OSError("The file is shorter than what was written into it.")
            self._digest.update(buffer[:count])
            self._at += count
