"""What holds for all connections of a server, whoever speaks on them."""

from collections import Counter
from dataclasses import dataclass, field

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0

TOO_LARGE = b"431 Request Header Fields Too Large", b"The head of the request is larger than 65536 bytes."
TOO_SLOW = b"408 Request Timeout", b"The head of the request did not arrive in 30 seconds."
TOO_MANY = b"429 Too Many Requests", b"Too many connections from this address; close some first."


@dataclass
class Limits:
    """What holds for all connections of a server.

    `stalled` seconds a client may take no byte of what waits for it; of a body it must send `body_rate` bytes a second
    in each `body_seconds` that are spent waiting for it; `per_address` connections of one address, 0 for
    any number; `farewell` seconds for which an idle connection is kept once the server is ending, so that a request
    that is on its way is still answered.
    """

    stalled: float = 120.0
    body_seconds: float = 60.0
    body_rate: int = 1
    per_address: int = 0
    farewell: float = 0.0
    open: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Count a connection of an address; returns whether it is one too many."""
        if not self.per_address or not address:
            return False
        self.open[address] += 1
        return self.open[address] > self.per_address

    def leave(self, address: str) -> None:
        """A connection that was counted is gone."""
        if self.per_address and address:
            self.open[address] -= 1
            if self.open[address] <= 0:
                del self.open[address]


class Unsent:
    """Bytes that wait for a client, as looked at every few seconds: whether it takes any of them."""

    __slots__ = ("_bytes", "_since")

    def __init__(self) -> None:
        self._bytes, self._since = 0, 0.0

    def is_stalled(self, count: int, now: float, seconds: float) -> bool:
        """Whether as many bytes wait as all the time for so many seconds.

        Args:
            count: that wait now.
            now: the monotonic clock.
        """
        if count != self._bytes or not count:
            self._bytes, self._since = count, now
            return False
        return now - self._since >= seconds


def refusal(status: bytes, text: bytes) -> bytes:
    """An answer by hand, where there is no request yet that a face could answer; the connection ends with it."""
    fields = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
    return b"HTTP/1.1 " + status + b"\r\n" + fields + text
