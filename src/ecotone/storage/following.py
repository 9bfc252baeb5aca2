"""What is computed of a file while it is written, behind its writer by another thread: its sha256, its fingerprint."""

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ecotone.lineage.arriving import Print, Printing

_PIECE = 256 * 1024
_BEHIND = 4 * 1024 * 1024
_threads = ThreadPoolExecutor(2, "following")
_printers = ThreadPoolExecutor(2, "printing")


class Following:
    """Takes the bytes that were appended to a file, read again from it while the system still has them in memory.

    Small files never wake a thread. Not thread-safe: one writer tells how far the file has grown, and asks at the end.

    Args:
        descriptor: open for reading; it stays open until `ended` or `stop` returns.
        take: called with the bytes in order, by one thread at a time.
        threads: those that read.
    """

    def __init__(self, descriptor: int, take: Callable[[memoryview], None], threads: ThreadPoolExecutor) -> None:
        self._descriptor = descriptor
        self._take = take
        self._threads = threads
        self._at = self._end = 0
        self._lock = threading.Lock()
        self._stopped = False
        self._work: Future[None] | None = None

    def grew(self, count: int) -> None:
        """So many bytes more are there."""
        with self._lock:
            self._end += count
            if self._work is None and self._end - self._at >= _BEHIND:
                self._work = self._threads.submit(self._follow)

    def ended(self) -> None:
        """All bytes that were told were taken when this returns. Raises what went wrong in reading them."""
        self._thread_ended()
        self._take_to_end()

    def stop(self) -> None:
        """Nobody asks any more; when this returns, no thread reads the file."""
        self._stopped = True
        with self._lock:
            work = self._work
        if work is not None and not work.cancel():
            work.exception()

    def _thread_ended(self) -> None:
        """What other thread's work there is has ended, or never begins."""
        with self._lock:
            work = self._work
        if work is not None and not work.cancel():
            work.result()

    def _follow(self) -> None:
        try:
            self._take_to_end()
        finally:
            with self._lock:
                self._work = None

    def _take_to_end(self) -> None:
        buffer = memoryview(bytearray(_PIECE))
        while self._at < self._end and not self._stopped:
            count = os.preadv(self._descriptor, [buffer[: min(_PIECE, self._end - self._at)]], self._at)
            if not count:
                raise OSError("The file is shorter than what was written into it.")
            self._take(buffer[:count])
            self._at += count


class FollowingDigest(Following):
    """sha256 of the bytes."""

    def __init__(self, descriptor: int) -> None:
        self._digest = hashlib.sha256()
        super().__init__(descriptor, self._digest.update, _threads)

    def hexdigest(self) -> str:
        """Of all bytes that were told. Raises what went wrong in reading them."""
        self.ended()
        return self._digest.hexdigest()


class FollowingPrint(Following):
    """The fingerprint of a file of `size` bytes, if it turns out to be weights; of another only the start is read."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._printing = Printing(size)
        super().__init__(descriptor, self._printing.feed, _printers)

    def grew(self, count: int) -> None:
        if self._printing.going:
            super().grew(count)

    def finish(self) -> Print | None:
        """Of all bytes that were told."""
        if self._printing.going:
            self.ended()
        return self._printing.finish()
