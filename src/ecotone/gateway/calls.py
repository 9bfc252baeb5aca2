"""One ASGI request: reading its body, writing its answer, noticing that the client has gone. Decides nothing."""

import asyncio
import hashlib
from typing import Any

import msgspec

from ecotone.gateway.answers import Refusal

_BODY_SECONDS = 300.0
_NO_CONTROL = dict.fromkeys((*range(32), 127), " ")


class Call:
    """The connection to a client for one request.

    Args:
        scope: ASGI's scope.
        receive: ASGI's receive.
        send: ASGI's send.
        call_id: our id of the request.
        patience: seconds that a client may take to read a piece of the answer.
    """

    def __init__(self, scope: Any, receive: Any, send: Any, call_id: str, patience: float) -> None:
        self.scope = scope
        self.id = call_id
        self.gone = False
        self._receive = receive
        self._send = send
        self._patience = patience
        self._begun = self._ended = False
        self._headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.caller_id = self._headers.get("x-request-id", "")[:128] or None

    def credential(self) -> tuple[str | None, str]:
        """SHA-256 of the key that was sent, None when there is none, and the letters that tell its kind.

        Raises:
            Refusal: 401 when more than one was sent: which of them would be meant?
        """
        if sum(name.lower() == b"authorization" for name, _ in self.scope["headers"]) > 1:
            raise Refusal(401, "several_keys", "More than one Authorization header was sent; send one key.")
        scheme, _, key = self._headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            return None, ""
        return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest(), key[:4]

    async def body(self, most: int) -> bytes:
        """The whole body.

        Raises:
            Refusal: 413 as soon as it is too large, 408 when it does not come, 415 when it is packed.
        """
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > most:
            raise Refusal(413, "body_too_large", f"The body has {length[:20]} bytes; at most {most} are taken.")
        if self._headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "encoded_body", "The body has a content-encoding; send it as plain JSON.")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await self._collected(most)
        except TimeoutError:
            raise Refusal(408, "body_too_slow", "The body did not arrive in time; send it again.") from None

    async def _collected(self, most: int) -> bytes:
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ConnectionError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise Refusal(413, "body_too_large", f"The body is larger than {most} bytes, the most that is taken.")
            if not message.get("more_body"):
                return b"".join(parts)

    async def watch(self, work: asyncio.Task[Any]) -> None:
        """Cancel the work when the client goes away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._ended:
            self.gone = True
            work.cancel()

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        self._begun = True
        fields = [
            (n.encode(), v.translate(_NO_CONTROL).encode("latin-1", "replace"))
            for n, v in {"x-request-id": self.id, **headers}.items()
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, data: bytes, more: bool) -> None:
        """Send a piece. Raises ConnectionError when the client has not read for too long."""
        self._ended = not more
        try:
            async with asyncio.timeout(self._patience):
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            self.gone = True
            raise ConnectionAbortedError("the client does not read") from None

    async def json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        told = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        await self.begin(status, told)
        await self.write(b"" if self.scope["method"] == "HEAD" else data, False)

    async def refuse(self, refusal: Refusal) -> None:
        """Say why; as an event when the answer has begun."""
        if self._ended or self.gone:
            return
        if self._begun:
            await self.write(refusal.event(), False)
            return
        headers = dict(refusal.headers)
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        headers.setdefault("x-ecotone-reason", refusal.code)
        headers.setdefault("x-ecotone-backend", "none")
        await self.json(refusal.status, refusal.body(), headers)
