"""uvicorn's HTTP/1.1 protocol with bounds on what a stranger may make it hold: the size of a head, and its time, the
connections of one address, and the time for which bytes may wait for a client that takes none."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ecotone.app.bodies import Pace
from ecotone.app.receiving import BodyReader, announced_length
from ecotone.app.sending import FileSender
from ecotone.hub.content import BODY, FILES

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0

_TOO_LARGE = b"431 Request Header Fields Too Large", b"The head of the request is larger than 65536 bytes."
_TOO_SLOW = b"408 Request Timeout", b"The head of the request did not arrive in 30 seconds."
_TOO_MANY = b"429 Too Many Requests", b"Too many connections from this address; close some first."


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


class BoundedHttp(HttpToolsProtocol):
    """Ends a connection whose request line and headers are too large (431) or too slow (408).

    A head counts from its first byte until the parser has seen its end; bytes of a body are the faces' own matter.
    """

    limits = Limits()

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._ending = False
        self._unsent, self._unsent_since = 0, 0.0
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._cycles: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()
        self._count(1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        self._count(-1)
        for cycle in self._cycles:  # uvicorn tells the newest one alone
            cycle.disconnected = cycle.disconnected or not cycle.response_complete
            cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(*_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._end_wait()
        super().on_headers_complete()
        if self.scheme == "http":  # what TLS is needed for lies in front of the server
            self.scope["extensions"] = self._extensions()
        if self._ending and self.cycle is not None:
            self.cycle.keep_alive = False
        if self.cycle is not None and not self.cycle.response_complete:
            self._cycles.append(self.cycle)

    def on_response_complete(self) -> None:
        self._cycles.popleft()
        super().on_response_complete()
        if self.pipeline:  # requests that wait are enough: more of them are read when these were answered
            self.flow.pause_reading()

    def _extensions(self) -> dict[str, Any]:
        """Ways past the loop, for large bodies; the request's task has not begun yet."""
        found: dict[str, Any] = {FILES: FileSender(self.transport, self.cycle, self.limits.stalled)}
        length = announced_length(self.headers)
        if length is not None:
            found[BODY] = BodyReader(self, length, Pace(self.limits.body_seconds, self.limits.body_rate))
        return found

    def _wait_for_head(self) -> None:
        self._end_wait()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, *_TOO_SLOW)

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: bytes, text: bytes) -> None:
        """Answer by hand and close: there is no request yet that a face could answer."""
        self._refused = True
        self._end_wait()
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        if not busy:  # else the bytes of another answer are on their way
            fields = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
            self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + fields + text)
        self.transport.close()

    # -- the end of the server ---------------------------------------------------------------------------------------
    def shutdown(self) -> None:
        """Called once the server is ending: busy connections end with their answer, idle ones now or after a farewell
        in which one more request is answered."""
        idle = self.cycle is None or self.cycle.response_complete
        if not idle or not self.limits.farewell:
            super().shutdown()
            return
        self._ending = True
        self.loop.call_later(self.limits.farewell, self._leave)

    def _leave(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()

    # -- clients that hold without taking ----------------------------------------------------------------------------
    def end_if_stalled(self, now: float) -> bool:
        """End the connection, and free what it holds, when bytes wait for its client and it took none for too long.

        Called every few seconds; returns whether it was ended.
        """
        unsent = self.unsent_bytes()
        if unsent != self._unsent or not unsent:
            self._unsent, self._unsent_since = unsent, now
            return False
        if now - self._unsent_since < self.limits.stalled:
            return False
        self.transport.abort()
        return True

    def unsent_bytes(self) -> int:
        """Bytes that wait for the client, beyond what the kernel holds."""
        return self.transport.get_write_buffer_size()

    def _count(self, change: int) -> None:
        """Keep count of an address's connections; one too many is closed at once."""
        if not self.limits.per_address or self.client is None:
            return
        address, open_ = self.client[0], self.limits.open
        open_[address] += change
        if open_[address] <= 0:
            del open_[address]
        elif change > 0 and open_[address] > self.limits.per_address:
            self._refuse(*_TOO_MANY)
