"""What the engine process tells its parent while it loads and works: phases with their share, a beat each second."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Report = Callable[[dict[str, Any]], None]

_LOOK_SECONDS = 0.3
_BEAT_SECONDS = 1.0
_UNCOUNTED = ("/health", "/info", "/adapters")


class Loading:
    """Tells how far loading is. Weights are mapped into memory, so their share is taken from the memory that the
    process has gained since it began to load them; what it had before (libraries) is not counted.

    Args:
        expected: bytes of the weights as they will lie in memory.
    """

    def __init__(self, report: Report, expected: int) -> None:
        self._report = report
        self._expected = max(1, expected)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def libraries(self) -> None:
        self._report({"progress": "loading libraries"})

    def weights(self) -> None:
        self._thread = threading.Thread(target=self._watch, args=(memory(),), name="loading", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """It is loaded; returns when no more will be told."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, before: int) -> None:
        told = -1.0
        while True:
            share = min(0.99, max(0.0, (memory() - before) / self._expected))
            if share > told:
                told = share
                self._report({"progress": "loading weights", "share": round(share, 2)})
            if self._ended.wait(_LOOK_SECONDS):
                return


class Counted:
    """An ASGI application with a count of the requests that are under way, and of all so far."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.running = 0
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in _UNCOUNTED:
            await self._inner(scope, receive, send)
            return
        self.running += 1
        self.requests += 1
        try:
            await self._inner(scope, receive, send)
        finally:
            self.running -= 1


def beat(report: Report, counted: Counted, health: Callable[[], dict[str, Any]]) -> None:
    """Tell each second, in a thread of its own, what the engine does."""

    def tell() -> None:
        while True:
            state = health()
            running = max(counted.running, int(state.get("running", 0)))
            told = {
                "running": running,
                "waiting": int(state.get("waiting", 0)),
                "tokens": int(state.get("tokens", 0)),
                "requests": counted.requests,
                "memory": memory() or None,
                "well": bool(state["ok"]),
            }
            report({"beat": told})
            time.sleep(_BEAT_SECONDS)

    threading.Thread(target=tell, name="beat", daemon=True).start()


def memory() -> int:
    """Bytes of memory that this process has now; 0 where that cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0
