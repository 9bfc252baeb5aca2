"""A request that came through an ASGI server, answered by the same core."""

import asyncio
from collections import deque
from typing import Any, Final

from ecotone.gateway.answers import Refusal
from ecotone.gateway.plane.callers import Desk
from ecotone.gateway.plane.connections import STREAM
from ecotone.gateway.plane.heads import Head, bad, check_twice

_MOST_WAITING: Final = 256 * 1024
_BODY_SECONDS: Final = 300.0


class AsgiClient:
    """One request. What the core writes waits here until the server takes it."""

    def __init__(self, desk: Desk, scope: Any, receive: Any, send: Any) -> None:
        self._desk = desk
        self._scope = scope
        self._receive = receive
        self._send = send
        self._waiting: deque[dict[str, Any]] = deque()
        self._size = 0
        self._there = asyncio.Event()
        self._over = False
        self._work: Any = None
        self.slow = False

    async def run(self) -> None:
        """Until the answer is sent or the client has gone."""
        head: Head | None = None
        try:
            head = _head_of(self._scope)
            client = self._scope.get("client")
            address = client[0] if client else ""
            refusal = self._desk.refused_early(head, address)
            if refusal is not None:
                raise refusal
            body = await self._body(head)
        except Refusal as refusal:
            self._desk.refuse(self, refusal, head)
            await self._deliver()
            return
        except ConnectionError:
            return
        self._work = self._desk.take(self, head, body, address)
        watching = asyncio.create_task(self._watch())
        try:
            await self._deliver()
        finally:
            watching.cancel()
            work, self._work = self._work, None  # they hold each other, and with them a body and its answer
            if not self._over and work is not None:
                work.client_gone()

    async def _body(self, head: Head) -> bytes:
        most = self._desk.most_body
        if head.length is not None and head.length > most:
            raise Refusal(413, "request_too_large", f"The body has {head.length} bytes; at most {most} are taken.")
        parts, size = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise Refusal(413, "request_too_large", f"The body is larger than {most} bytes.")
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refusal(408, "body_too_slow", "The body did not arrive in time; send it again.") from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._over:
            self._over = True
            if self._work is not None:
                self._work.client_gone()
            self._there.set()

    async def _deliver(self) -> None:
        while True:
            while self._waiting:
                message = self._waiting.popleft()
                self._size -= len(message.get("body", b""))
                try:
                    async with asyncio.timeout(self._desk.patience):
                        await self._send(message)
                except TimeoutError:  # the client does not read
                    return
                if self.slow and self._size < _MOST_WAITING // 2:
                    self.slow = False
                    if self._work is not None:
                        self._work.client_ready()
            if self._over:
                return
            self._there.clear()
            await self._there.wait()

    # -- the core's side ---------------------------------------------------------------------------------------------
    def whole(self, status: int, block: bytes, body: bytes) -> None:
        headers = [*_fields(block), (b"content-length", b"%d" % len(body))]
        self._put({"type": "http.response.start", "status": status, "headers": headers})
        self._put({"type": "http.response.body", "body": b"" if self._scope["method"] == "HEAD" else body})
        self._over = True
        self._there.set()

    def begin(self, block: bytes) -> None:
        self._put({"type": "http.response.start", "status": 200, "headers": _fields(block + STREAM)})

    def write(self, data: bytes) -> None:
        if data:
            self._put({"type": "http.response.body", "body": data, "more_body": True})

    def end(self, data: bytes) -> None:
        self._put({"type": "http.response.body", "body": data, "more_body": False})
        self._over = True

    def cut(self) -> None:
        self._over = True
        self._there.set()

    def _put(self, message: dict[str, Any]) -> None:
        self._waiting.append(message)
        self._size += len(message.get("body", b""))
        self.slow = self._size > _MOST_WAITING
        self._there.set()


def _head_of(scope: Any) -> Head:
    head = Head()
    head.method = scope["method"].encode()
    head.path = scope["path"]
    head.query = scope.get("query_string", b"")
    head.fields = {name.lower(): value for name, value in scope["headers"]}
    if len(head.fields) != len(scope["headers"]):
        check_twice([name.lower() for name, _ in scope["headers"]])
    length = head.fields.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 15:
            raise bad("Content-Length is no plain decimal number.")
        head.length = int(length)
    elif b"transfer-encoding" in head.fields:
        head.length = None
    return head


def _fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """Header lines as ASGI has them."""
    found = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b": ")
        if colon:
            found.append((name, value))
    return found
