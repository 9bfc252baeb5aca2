"""uvicorn's HTTP/1.1 protocol with bounds on what a stranger may make it hold: the size of a head, and its time."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ecotone.app.receiving import BodyReader, announced_length
from ecotone.app.sending import FileSender
from ecotone.hub.content import BODY, FILES

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0

_TOO_LARGE = b"431 Request Header Fields Too Large", b"The head of the request is larger than 65536 bytes."
_TOO_SLOW = b"408 Request Timeout", b"The head of the request did not arrive in 30 seconds."


class BoundedHttp(HttpToolsProtocol):
    """Ends a connection whose request line and headers are too large (431) or too slow (408).

    A head counts from its first byte until the parser has seen its end; bytes of a body are the faces' own matter.
    """

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
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

    def _extensions(self) -> dict[str, Any]:
        """Ways past the loop, for large bodies; the request's task has not begun yet."""
        found: dict[str, Any] = {FILES: FileSender(self.transport, self.loop, self.cycle)}
        length = announced_length(self.headers)
        if length is not None:
            found[BODY] = BodyReader(self, length)
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
