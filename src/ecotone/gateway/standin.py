"""Stands in for the data plane until that is there: the same names, with the ASGI gateway behind them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ecotone.gateway.answers import Refusal
from ecotone.gateway.face import Gateway, Snapshots
from ecotone.gateway.origins import Origins
from ecotone.gateway.paths import is_for_gateway
from ecotone.ledger import LedgerWriter
from ecotone.settings import Settings

_CUT = Refusal(503, "server_stopping", "The server is stopping and cut this answer; send the request again.")


class Plane:
    """What the processes use of the data plane.

    `closing`: answers say `connection: close` from now on. `running` counts requests under way. `outside` is the
    application through which requests of its own connections go.
    """

    def __init__(
        self, settings: Settings, ledger_writer: LedgerWriter, *, limiter: Any = None, texts: Any = None
    ) -> None:
        self._gateway = Gateway(settings, ledger_writer)
        self._origins = Origins(settings.origins)
        self._state = ServerState()
        self._config = uvicorn.Config(
            self._from_outside,
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_keep_alive=75,
        )
        self._config.load()
        self._under_way: set[_Answer] = set()
        self.connections: set[Any] = set()
        self.elsewhere: Callable[[Any, asyncio.Transport, bytes], None] | None = None
        self.closing = False
        self.outside: Any = self.asgi

    @property
    def running(self) -> int:
        return len(self._under_way)

    def use(self, snapshots: Snapshots) -> None:
        self._gateway.use(snapshots)

    async def start(self) -> None:
        await self._gateway.start()

    async def stop(self) -> None:
        """Cut what still runs, a stream with an error event, and close."""
        for answer in list(self._under_way):
            await answer.cut()
        await self._gateway.stop()

    def connection(self, *, peer_secure: bool) -> asyncio.Protocol:
        return _Connection(self, self._config, self._state)

    async def _from_outside(self, scope: Any, receive: Any, send: Any) -> None:
        await self.outside(scope, receive, send)

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        fields = dict(scope["headers"])
        lines = self._origins.preflight(scope["method"].encode(), fields)
        if lines is not None:
            await send({"type": "http.response.start", "status": 204, "headers": _pairs(lines)})
            await send({"type": "http.response.body", "body": b""})
            return
        answer = _Answer(send, _pairs(self._origins.fields(fields.get(b"origin"))))
        self._under_way.add(answer)
        try:
            await self._gateway(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not answer.was_cut:
                raise
        finally:
            self._under_way.discard(answer)


class _Answer:
    """One answer under way."""

    def __init__(self, send: Any, fields: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._fields = fields
        self._task = asyncio.current_task()
        self._begun = self._events = self._ended = self.was_cut = False

    async def send(self, message: Any) -> None:
        if self.was_cut:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": [*message["headers"], *self._fields]}
            self._events = any(v.startswith(b"text/event-stream") for n, v in message["headers"])
        elif not message.get("more_body"):
            self._ended = True
        await self._send(message)

    async def cut(self) -> None:
        self.was_cut = True
        if not self._begun:
            head = [(b"content-type", b"application/json")]
            await self._send({"type": "http.response.start", "status": 503, "headers": head})
        if not self._ended:
            body = _CUT.event() if self._events else b"" if self._begun else _CUT.body()
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, asyncio.TimeoutError):
                await asyncio.wait([self._task], timeout=5)


class _Connection(HttpToolsProtocol):
    """uvicorn's protocol, which gives the connection away between two requests."""

    def __init__(self, plane: Plane, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._plane = plane
        self._between = b""
        self._in_message = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._plane.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._plane.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        idle = not self._in_message and (self.cycle is None or self.cycle.response_complete)
        if idle:
            self._between += data
            ours = is_for_gateway(self._between)
            if ours is None:
                return
            data, self._between = self._between, b""
            if not ours and self._plane.elsewhere is not None:
                self._unset_keepalive_if_required()
                self.server_state.connections.discard(self)
                self._plane.elsewhere(self, self.transport, data)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._plane.closing and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()


def _pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b": ")
        if colon:
            found.append((name, value))
    return found
