"""The data plane's connections where other faces share the port: what begins with another's path is given back.

Also what stands between a connection and the plane only where it is set: trusted proxies, and pages of other origins.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from ecotone.gateway.answers import Refusal
from ecotone.gateway.origins import Origins, Proxies
from ecotone.gateway.paths import is_for_gateway, is_ours
from ecotone.gateway.plane.callers import Client, Desk, Work
from ecotone.gateway.plane.connections import Connection
from ecotone.gateway.plane.heads import Head

GiveBack = Callable[[Any, asyncio.Transport, bytes], None]

_USUAL: Final = (b"POST /v1/chat/", b"POST /v1/completions ", b"POST /v1/embeddings ", b"GET /v1/models")


class LentConnection(Connection):
    """A connection on which requests for other faces may come, between two of ours.

    A request for another face that was sent before our answer was complete is not answered: the connection ends, and
    who pipelines must be ready to send again (RFC 9112, section 9.3.2).

    Args:
        give_back: called with this, its transport and all bytes from the beginning of another's request.
    """

    __slots__ = ("_give_back", "_held")

    def __init__(self, desk: Desk, connections: set[Any], give_back: GiveBack) -> None:
        super().__init__(desk, connections)
        self._give_back = give_back
        self._held = b""

    def _received(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        if self._is_between and not data.startswith(_USUAL) and not self._is_ours(data):
            return
        super()._received(data)

    @property
    def _is_between(self) -> bool:
        """Whether the next byte begins a request. A part of a body must never be taken for one."""
        return self._head is None and not self._busy and not self._missing

    def _is_ours(self, data: bytes) -> bool:
        """Whether the bytes between two requests are for us; else they are held, or given away."""
        if self._ending or self._lingering:
            return True
        ours = is_for_gateway(data)
        if ours is None:
            self._held = data
        elif not ours:
            self._give_back(self, self._transport, data)
        return bool(ours)

    def finish(self) -> None:
        """The next answer is the last."""
        self._last = True

    def _start(self, head: Head, body: bytes, refusal: Refusal | None) -> None:
        if not _is_for_us(head.path, head.method):
            self._transport.close()
            return
        super()._start(head, body, refusal)


@lru_cache(maxsize=64)
def _is_for_us(path: str, method: bytes) -> bool:
    return is_ours(path.encode(), method)


class CrossingConnection(LentConnection):
    """One whose requests may come from pages of listed origins.

    Args:
        origins: whose pages may call.
    """

    __slots__ = ("_lines", "_origins")

    def __init__(self, desk: Desk, connections: set[Any], give_back: GiveBack, origins: Origins) -> None:
        super().__init__(desk, connections, give_back)
        self._origins = origins
        self._lines = b""

    def _start(self, head: Head, body: bytes, refusal: Refusal | None) -> None:
        allowed = self._origins.preflight(head.method, head.fields)
        if allowed is not None and _is_for_us(head.path, head.method):
            self._busy, self._bodiless = True, False
            self._lines = b""
            self._last = self._last or head.close
            super().whole(200, allowed, b"")
            return
        self._lines = self._origins.fields(head.fields.get(b"origin"))
        super()._start(head, body, refusal)

    def whole(self, status: int, block: bytes, body: bytes) -> None:
        super().whole(status, block + self._lines, body)

    def begin(self, block: bytes) -> None:
        super().begin(block + self._lines)


class BehindProxies:
    """The plane as connections of trusted proxies see it: the address of a request is that of the proxy's client."""

    def __init__(self, desk: Desk, proxies: Proxies) -> None:
        self._desk = desk
        self._proxies = proxies
        self.most_body = desk.most_body
        self.patience = desk.patience
        self.jobs = desk.jobs

    def refused_early(self, head: Head, address: str) -> Refusal | None:
        return self._desk.refused_early(head, self._proxies.client(address, head.fields))

    def take(self, client: Client, head: Head, body: bytes, address: str) -> Work | None:
        return self._desk.take(client, head, body, self._proxies.client(address, head.fields))

    def refuse(self, client: Client, refusal: Refusal, head: Head | None) -> None:
        self._desk.refuse(client, refusal, head)
