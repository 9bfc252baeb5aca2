"""Reading ahead of somebody who reads an object piece after piece, so that he does not wait for each request.

Bounded twice: windows of one reader, and windows of all readers together; a reader that finds no room reads directly.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

WINDOW = 2 * 1024 * 1024
DEPTH = 4
_READERS = 16
MOST_WINDOWS = 32

Fetch = Callable[[int, int], bytes]


class Window(NamedTuple):
    """Bytes [start, end) on their way."""

    start: int
    end: int
    coming: "Future[bytes]"


class Ahead:
    """Threads and room that all readers of a store share."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="object")
        self._room = threading.BoundedSemaphore(MOST_WINDOWS)

    def fetch(self, fetch: Fetch, start: int, end: int) -> Window | None:
        """Begin to fetch bytes; None when there is no room."""
        if not self._room.acquire(blocking=False):
            return None
        try:
            return Window(start, end, self._threads.submit(fetch, start, end))
        except BaseException:
            self._room.release()
            raise

    def done(self, window: Window) -> None:
        """Give the room of a window back, when its bytes have come if they are still on their way."""
        if window.coming.cancel():
            self._room.release()
        else:
            window.coming.add_done_callback(lambda _: self._room.release())


class Reader:
    """One reader's place in an object of `size` bytes. Thread-safe: reads come one at a time.

    The first read fetches what it asks. From the second read in a row on, windows behind it are fetched too, one more
    for each read: who reads a small part makes no further request.
    """

    def __init__(self, ahead: Ahead, fetch: Fetch, size: int) -> None:
        self._ahead = ahead
        self._fetch = fetch
        self._size = size
        self._lock = threading.Lock()
        self._windows: deque[Window] = deque()
        self._next = -1
        self._row = 0

    def read(self, start: int, end: int) -> bytes:
        with self._lock:
            if start == self._next:
                self._row += 1
            else:
                self._drop()
                self._row = 0
            self._next = -1  # when this fails, the next read begins anew
            self._plan(end)
            found = self._taken(start, end)
            self._next = end
            return found

    def _plan(self, end: int) -> None:
        begin = max(end, self._windows[-1].end) if self._windows else end
        while len(self._windows) < min(self._row, DEPTH) and begin < self._size:
            window = self._ahead.fetch(self._fetch, begin, min(begin + WINDOW, self._size))
            if window is None:
                return
            self._windows.append(window)
            begin = window.end

    def _taken(self, start: int, end: int) -> bytes:
        parts: list[bytes | memoryview] = []
        while start < end:
            window = self._windows[0] if self._windows else None
            if window is None or start < window.start:
                upto = end if window is None else min(end, window.start)
                parts.append(self._fetch(start, upto))
                start = upto
                continue
            data = window.coming.result()
            upto = min(end, window.end)
            parts.append(memoryview(data)[start - window.start : upto - window.start])
            if upto == window.end:
                self._ahead.done(self._windows.popleft())
            start = upto
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _drop(self) -> None:
        while self._windows:
            self._ahead.done(self._windows.popleft())

    def close(self) -> None:
        with self._lock:
            self._drop()
