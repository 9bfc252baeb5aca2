"""uvicorn's HTTP/1.1 protocol with bounds on what a stranger may make it hold: the size of a head, and its time,
and the time for which bytes may wait for a client that takes none."""

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ecotone.app.bodies import Pace
from ecotone.app.connections import HEAD_SECONDS, MOST_HEAD_BYTES, TOO_LARGE, TOO_SLOW, Limits, Unsent, refusal
from ecotone.app.receiving import BodyReader, announced_length
from ecotone.app.sending import FileSender
from ecotone.hub.content import BODY, FILES


class BoundedHttp(HttpToolsProtocol):
    """Ends a connection whose request line and headers are too large (431) or too slow (408).

    A head counts from its first byte until the parser has seen its end; bytes of a body are the faces' own matter.
    `counted` is the address as whose connection it was counted when it was accepted.
    """

    limits = Limits()

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.counted = ""
        self._ending = False
        self._unsent = Unsent()
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._cycles: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        self.limits.leave(self.counted)
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
            self._refuse(*TOO_LARGE)

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
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, *TOO_SLOW)

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
            self.transport.write(refusal(status, text))
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
        if not self._unsent.is_stalled(self.unsent_bytes(), now, self.limits.stalled):
            return False
        self.transport.abort()
        return True

    def unsent_bytes(self) -> int:
        """Bytes that wait for the client, beyond what the kernel holds."""
        return self.transport.get_write_buffer_size()
