"""How many requests one caller may send: fixed windows, told in the header form that hub clients obey (protocol 1.1).

Off by default: then a service that counts nothing stands in its place. Counts live in this process. What is counted
together is a bucket: calls of the hub's API, and reads of files. Data that was signed for is not counted.
"""

import re
import threading
import time
from collections.abc import Callable

import msgspec
from starlette.responses import JSONResponse, Response

from ecotone.vocabulary import Invalid

MOST_CALLERS = 50_000
_THE_REST = "*"
_LIMIT = re.compile(r"(\d{1,9})\s+per\s+(?:(\d{1,6})\s+)?(second|minute|hour)s?", re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


class Counted(msgspec.Struct, frozen=True):
    """A request as counted: its bucket, how many more there may be in this window, and seconds until the next."""

    bucket: str
    left: int
    seconds: int


class Unlimited:
    """Counts nothing."""

    def count(self, path: str, caller: str) -> Counted | None:
        return None

    def headers(self, counted: Counted | None) -> dict[str, str]:
        return {}

    def refusal(self, path: str, counted: Counted | None) -> Response | None:
        return None


class RateLimits(Unlimited):
    """Counts by bucket and caller.

    Args:
        most: requests in a window.
        window: its length in seconds; all windows of all callers begin together.
        clock: seconds, never going back.
    """

    def __init__(self, most: int, window: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._number = -1
        self._counts: dict[tuple[str, str], int] = {}

    def count(self, path: str, caller: str) -> Counted | None:
        """Count a request; None for what is not limited. `left` is -1 when it was one too many."""
        bucket = _bucket(path)
        if bucket is None:
            return None
        number, at = divmod(self._clock(), self._window)
        with self._lock:
            if number != self._number:
                self._number, self._counts = int(number), {}
            if len(self._counts) >= MOST_CALLERS and (bucket, caller) not in self._counts:
                caller = _THE_REST  # who cannot be counted alone is counted with the others
            count = self._counts[bucket, caller] = self._counts.get((bucket, caller), 0) + 1
        return Counted(bucket, max(self._most - count, -1), max(1, int(self._window - at)))

    def headers(self, counted: Counted | None) -> dict[str, str]:
        if counted is None:
            return {}
        return {
            "ratelimit": f'"{counted.bucket}";r={max(counted.left, 0)};t={counted.seconds}',
            "ratelimit-policy": f'"fixed window";"{counted.bucket}";q={self._most};w={self._window}',
        }

    def refusal(self, path: str, counted: Counted | None) -> Response | None:
        """The answer to a request that was one too many."""
        if counted is None or counted.left >= 0:
            return None
        text = (
            f"You have sent {self._most} requests within {self._window} seconds, the most that this hub takes; try "
            f"again in {counted.seconds} seconds."
        )
        headers = {"retry-after": str(counted.seconds), "x-error-message": text, **self.headers(counted)}
        return JSONResponse({"error": text}, 429, headers=headers)


def _bucket(path: str) -> str | None:
    if "/resolve/" in path or "/raw/" in path:
        return "resolvers"
    return "api" if path.startswith("/api/") or "/info/lfs/" in path else None


def rate_limits(text: str) -> Unlimited:
    """The limiter of a setting such as `1000 per 5 minutes`; one that counts nothing for an empty one.

    Raises:
        Invalid: naming the setting and what is expected.
    """
    if not text.strip():
        return Unlimited()
    found = _LIMIT.fullmatch(text.strip())
    if found is None or int(found[1]) == 0 or int(found[2] or 1) == 0:
        raise Invalid(
            f"ECOTONE_RATE_LIMIT is {text!r}; expected e.g. `1000 per 5 minutes`, or nothing for no limit.",
            param="ECOTONE_RATE_LIMIT",
        )
    return RateLimits(int(found[1]), int(found[2] or 1) * _SECONDS[found[3].lower()])
