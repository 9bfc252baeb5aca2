"""What passes through this server, counted in plain integers: requests, their times, bytes, transfers under way.

A bare ASGI layer outside of all others. Counting happens in the event loop's thread alone, so that it needs no lock,
and no label is made for a request: `metrics` turns the figures into Prometheus' form when somebody reads them.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecotone.gateway.paths import is_task

KEY = "ecotone.transfer"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
FACES = ("hub", "xet", "lfs", "web", "api", "gateway", "operations")
NO_ROUTE = "(none)"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BY_SEGMENT = {
    "cas": "xet",
    "lfs": "lfs",
    "v1": "gateway",
    "health": "operations",
    "metrics": "operations",
    "login": "web",
    "logout": "web",
    "static": "web",
    "ecotone": "web",
}
_UPLOADS = frozenset({"hub", "xet", "lfs"})


class Transfer:
    """One request: what it is, and the bytes that have passed so far.

    `template` is the route that took it, never its path; `refused` the code of the reason for which it was refused.
    Whoever sends bytes past `send` adds them to `sent`.
    """

    __slots__ = ("began", "face", "method", "received", "refused", "sent", "status", "template")

    def __init__(self, face: str, method: str) -> None:
        self.face = face
        self.method = method if method in _METHODS else "OTHER"
        self.template = NO_ROUTE
        self.refused: str | None = None
        self.status = 0
        self.received = self.sent = 0
        self.began = time.monotonic()


class Durations:
    """A histogram: counts by bound, and the sum of seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Traffic:
    """Wraps the whole application.

    Args:
        app: what answers.
        templates: the path template of each endpoint of the router, by the endpoint's identity.
        prefix: the path of the public address, without a slash at the end.
    """

    def __init__(self, app: ASGIApp, templates: Mapping[int, str], prefix: str) -> None:
        self._app = app
        self._templates = templates
        self._prefix = prefix + "/" if prefix else ""
        self.open: set[Transfer] = set()
        self.requests: Counter[tuple[str, str, str, int]] = Counter()
        self.durations = {face: Durations() for face in FACES}
        self.refused: Counter[tuple[str, str]] = Counter()
        self._received = dict.fromkeys(FACES, 0)
        self._sent = dict.fromkeys(FACES, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        transfer = scope[KEY] = Transfer(self._face(scope["path"], scope["method"]), scope["method"])

        async def receiving() -> Message:
            message = await receive()
            if body := message.get("body"):
                transfer.received += len(body)
            return message

        async def sending(message: Message) -> None:
            if body := message.get("body"):
                transfer.sent += len(body)
            elif "status" in message:
                transfer.status = message["status"]
            await send(message)

        self.open.add(transfer)
        try:
            await self._app(scope, receiving, sending)
        finally:
            self._close(transfer)

    def routed(self, transfer: Transfer | None, endpoint: Any) -> None:
        """Note which endpoint took a request."""
        if transfer is not None and endpoint is not None:
            transfer.template = self._templates.get(id(endpoint), NO_ROUTE)

    def calls(self) -> int:
        """Requests of the gateway that are under way."""
        return sum(t.face == "gateway" for t in self.open)

    def received(self, face: str) -> int:
        """Bytes of bodies that came, those of requests under way too."""
        return self._received[face] + sum(t.received for t in self.open if t.face == face)

    def sent(self, face: str) -> int:
        return self._sent[face] + sum(t.sent for t in self.open if t.face == face)

    def under_way(self) -> Iterator[tuple[str, str, int]]:
        """Face, direction and number of requests under way: in for those whose method brings a body, out for others."""
        found = Counter((t.face, "in" if t.method in ("PUT", "POST", "PATCH") else "out") for t in self.open)
        for face in FACES:
            for direction in ("in", "out"):
                yield face, direction, found[face, direction]

    def _face(self, path: str, method: str) -> str:
        if self._prefix and path.startswith(self._prefix):
            path = path[len(self._prefix) - 1 :]
        if is_task(path.encode("utf-8", "replace"), method.encode("ascii", "replace")):
            return "gateway"
        first, _, rest = path[1:].partition("/")
        if first == "api":
            return "api" if rest.startswith("ecotone/") else "hub"
        if first in _BY_SEGMENT:
            return _BY_SEGMENT[first]
        return "hub" if "/resolve/" in rest or "/raw/" in rest or "/info/" in rest or ".git/" in rest else "web"

    def _close(self, transfer: Transfer) -> None:
        self.open.discard(transfer)
        face = transfer.face
        self.requests[face, transfer.template, transfer.method, transfer.status // 100] += 1
        self.durations[face].add(time.monotonic() - transfer.began)
        self._received[face] += transfer.received
        self._sent[face] += transfer.sent
        if transfer.refused is not None and face in _UPLOADS and transfer.method in ("PUT", "POST"):
            self.refused[face, transfer.refused] += 1
