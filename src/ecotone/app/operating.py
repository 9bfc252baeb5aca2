"""What a gateway's worker answers beside the gateway: `/health`, `/health/ready`, and 404 for all else.

One answer on a connection, then it ends.
"""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from ecotone.app.connections import HEAD_SECONDS, MOST_HEAD_BYTES, TOO_LARGE, TOO_SLOW, Limits, refusal

_DROP_SECONDS = 1.0
Answer = tuple[int, dict[str, Any]]


class Operations(asyncio.Protocol):
    """One connection.

    Args:
        answers: what a path is answered with; None for what is not here.
    """

    def __init__(self, answers: Callable[[str], Answer | None], limits: Limits, connections: set[Any]) -> None:
        self.counted = ""
        self._answers = answers
        self._limits = limits
        self._connections = connections
        self._head = b""
        self._answered = False
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse, *TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._limits.leave(self.counted)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._answered:  # the rest of a body that nobody takes
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._answer()
        elif len(self._head) > MOST_HEAD_BYTES:
            self._refuse(*TOO_LARGE)

    def shutdown(self) -> None:
        """The server is ending."""
        if not self._head:
            self._transport.close()

    def _answer(self) -> None:
        line = self._head.partition(b"\r\n")[0].split(b" ")
        if len(line) != 3 or not line[2].startswith(b"HTTP/1."):
            self._refuse(b"400 Bad Request", b"Invalid HTTP request received.")
            return
        method, path = line[0].decode("latin-1"), line[1].partition(b"?")[0].decode("latin-1")
        found = self._answers(path)
        if found is None:
            found = 404, _error(f"There is nothing at {path[:200]!r} here; the gateway's paths begin with /v1/.")
        elif method not in ("GET", "HEAD"):
            found = 405, _error(f"{path} takes GET.")
        status, told = found
        body = json.dumps(told).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self._end(head.encode() + (b"" if method == "HEAD" else body), wait=method not in ("GET", "HEAD"))

    def _refuse(self, status: bytes, text: bytes) -> None:
        self._end(refusal(status, text), wait=False)

    def _end(self, answer: bytes, *, wait: bool) -> None:
        """Answer and end; a client that is still sending a body gets a moment to see the answer."""
        if self._answered:
            return
        self._answered = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport.is_closing():
            return
        self._transport.write(answer)
        if wait:
            self._timer = asyncio.get_running_loop().call_later(_DROP_SECONDS, self._transport.close)
        else:
            self._transport.close()


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": "not_found", "param": None}}
