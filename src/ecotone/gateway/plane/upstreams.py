"""Connections to backends: pooled, one message at a time, never used again after anything that was not in order.

Names are resolved and checked here, and the connection goes to the address that was checked. A pooled connection that
turns out to be closed before it answered is replaced by a new one, once. Where calls leave by a proxy, `tunnels` dials,
and the proxy resolves.
"""

import asyncio
import socket
import ssl
import time
from collections import deque
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httptools

from ecotone.gateway.plane.heads import SeenHead
from ecotone.gateway.plane.tunnels import NoTunnel, Tunnel, told
from ecotone.gateway.plane.writing import descriptor_of, write
from ecotone.settings.addresses import is_forbidden
from ecotone.settings.egress import Egress

MOST_IDLE: Final = 128
IDLE_SECONDS: Final = 45.0
ENDING_SECONDS: Final = 2.0
DNS_SECONDS: Final = 60.0
MOST_HEAD: Final = 64 * 1024


class Unreachable(Exception):
    """No connection could be made; the text says why, without addresses."""


class Exchange(Protocol):
    """What a connection tells of the answer."""

    def answer_began(self, status: int, headers: dict[bytes, bytes]) -> None: ...

    def answer_data(self, parts: list[bytes], ended: bool) -> None: ...

    def answer_whole(self, headers: dict[bytes, bytes], body: bytes, now: float) -> None: ...

    def answer_lost(self, how: str, again: bool) -> None: ...

    def broke(self, error: Exception) -> None: ...


class _Nobody:
    """Gets what follows an answer that was complete."""

    def answer_began(self, status: int, headers: dict[bytes, bytes]) -> None: ...

    def answer_data(self, parts: list[bytes], ended: bool) -> None: ...

    def answer_whole(self, headers: dict[bytes, bytes], body: bytes, now: float) -> None: ...

    def answer_lost(self, how: str, again: bool) -> None: ...

    def broke(self, error: Exception) -> None: ...


_NOBODY: Final = _Nobody()


class Place:
    """Where a backend listens, and the connections to it that wait for work.

    Args:
        egress: how calls leave this machine; None: directly.
    """

    __slots__ = (
        "_addresses", "_resolved", "_ssl", "_tunnel", "ending", "host", "idle", "open", "path", "plain", "port",
        "socket", "tls",
    )  # fmt: skip

    def __init__(self, url: str | None, unix: str | None, egress: Egress | None = None) -> None:
        parts = urlsplit(url or "http://engine/v1")
        self.socket = unix
        self.tls = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.tls else 80)
        self.path = parts.path.rstrip("/")
        self.idle: deque[Upstream] = deque()
        self.ending: set[Upstream] = set()
        self.open = 0
        """Connections that there are, at work or idle."""
        self.plain: dict[str, float] = {}
        """Models that refuse `stream_options` there, and until when they are not asked again."""
        self._addresses: list[tuple[Any, ...]] = []
        self._resolved = 0.0
        self._ssl: ssl.SSLContext | None = None
        proxy = egress.proxy_for(self.host, self.port) if egress is not None and unix is None else None
        self._tunnel = Tunnel(proxy, self.host, self.port) if proxy is not None else None

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    async def connect(self, seconds: float) -> "Upstream":
        """A new connection. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        made: Upstream
        try:
            async with asyncio.timeout(seconds):
                if self.socket is not None:
                    _, made = await loop.create_unix_connection(self._made, self.socket)
                    return made
                return await self._over_network(loop)
        except TimeoutError:
            raise Unreachable(f"no connection{' through the proxy' if self._tunnel else ''} in time") from None
        except NoTunnel as error:
            raise Unreachable(str(error)) from None
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"its certificate is not valid: {error.verify_message}") from None
        except UnicodeError:
            raise Unreachable("its host is no name") from None
        except (OSError, ssl.SSLError) as error:
            self._resolved = 0.0
            raise Unreachable(told(error)) from None

    async def _over_network(self, loop: asyncio.AbstractEventLoop) -> "Upstream":
        if self.tls and self._ssl is None:
            self._ssl = await loop.run_in_executor(None, ssl.create_default_context)
        made: Upstream
        if self._tunnel is not None:
            made = await self._tunnel.dial(self._made, self._ssl)
            return made
        if time.monotonic() > self._resolved:
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            self._addresses = [told for told in found if not is_forbidden(str(told[4][0]))]
            if not self._addresses:
                raise OSError(0, "the name leads to an address that no request may go to")
            self._resolved = time.monotonic() + DNS_SECONDS
        failed: Exception = OSError(0, "no address")
        for family, _, protocol, _, address in self._addresses:
            plain = socket.socket(family, socket.SOCK_STREAM, protocol)
            plain.setblocking(False)
            try:
                await loop.sock_connect(plain, address)
                name = self.host if self.tls else None
                _, made = await loop.create_connection(
                    self._made, sock=plain, ssl=self._ssl if self.tls else None, server_hostname=name
                )
            except (OSError, ssl.SSLError) as error:
                plain.close()
                failed = error
            except BaseException:
                plain.close()
                raise
            else:
                return made
        raise failed

    def _made(self) -> Any:
        return Upstream(self)

    def take(self) -> "Upstream | None":
        """A connection that waits, the one used last first."""
        idle = self.idle
        while idle:
            found = idle.pop()
            if not found._transport.is_closing():
                return found
        return None

    def sweep(self, now: float) -> None:
        """Close what waited for too long."""
        while self.idle and self.idle[0].since < now - IDLE_SECONDS:
            self.idle.popleft().close()
        for upstream in [u for u in self.ending if u.since < now - ENDING_SECONDS]:
            upstream.leave()

    def close(self) -> None:
        for upstream in list(self.ending):
            upstream.leave()
        while self.idle:
            self.idle.pop().close()


class Upstream:
    """One connection to a backend, a protocol of asyncio's."""

    __slots__ = (
        "_began", "_descriptor", "_ended", "_exchange", "_first", "_head", "_headers", "_keep", "_parser", "_parts",
        "_paused", "_reused", "_seen", "_transport", "place", "since",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self.place = place
        self.since = 0.0
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._head = 0
        self._first = b""
        self._descriptor = -1
        self._seen: SeenHead[dict[bytes, bytes]] | None = None
        self._began = self._ended = self._keep = self._reused = self._paused = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.place.open += 1
        self._descriptor = descriptor_of(transport)

    def send(self, exchange: Exchange, data: bytes, *, is_alone: bool = False) -> None:
        """Send one request; its answer is told to the exchange.

        Args:
            is_alone: nothing else has its turn with it.
        """
        self._exchange = exchange
        self._headers = {}
        self._head = 0
        self._began = self._ended = False
        if is_alone:
            write(self._transport, self._descriptor, data)
        else:
            self._transport.write(data)

    def send_parts(self, exchange: Exchange, parts: "tuple[bytes | memoryview, ...]") -> None:
        """Send one request that is better not copied together."""
        self._exchange = exchange
        self._headers = {}
        self._head = 0
        self._began = self._ended = False
        self._transport.writelines(parts)

    def finish(self) -> None:
        """The exchange has all that it wants: the rest is dropped, and the connection used again if it ends soon."""
        if self._paused:
            self.leave()
            return
        self._exchange = _NOBODY
        self.since = time.monotonic()
        self.place.ending.add(self)

    def leave(self) -> None:
        """The exchange wants no more of this answer."""
        self.place.ending.discard(self)
        self._exchange = None
        self._transport.abort()

    def close(self) -> None:
        self._transport.close()

    def pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # -- asyncio -----------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # what nobody asked for
            self._transport.abort()
            return
        if not self._began:
            seen = self._seen
            if seen is not None and not self._head:
                start, length = seen.begins(data)
                if start and len(data) - start == length:
                    self._again(exchange, seen.meaning, data[start:])
                    return
            if not self._head:
                self._first = data
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("switched to another protocol")
            return
        except httptools.HttpParserError:
            if self._ended:  # bytes behind a whole answer
                self._keep = False
            else:
                self._fail("did not answer in HTTP")
                return
        if not self._began:
            if self._head > MOST_HEAD:
                self._fail("sent a head without end")
            return
        parts = self._parts
        ended = self._ended
        if not parts and not ended:  # extensions of chunks, trailers
            self._head += len(data)
            if self._head > 2 * MOST_HEAD:
                self._fail("sent too much besides its answer")
            return
        self._parts = []
        if ended:
            self._exchange = None
            if self._head == len(data) == len(self._first):
                self._remember()
            self._rest()
        else:
            self._head = 1
        try:
            exchange.answer_data(parts, ended)
        except Exception as error:
            exchange.broke(error)

    def _again(self, exchange: Exchange, headers: dict[bytes, bytes], body: bytes) -> None:
        """A whole answer whose head came before on this connection: no parser is needed to know what it means."""
        self._began = self._ended = self._reused = True
        self._exchange = None
        self.since = now = time.monotonic()
        if self._paused or len(self.place.idle) >= MOST_IDLE or self._transport.is_closing():
            self._transport.close()
        else:
            self.place.idle.append(self)
        try:
            exchange.answer_whole(headers, body, now)
        except Exception as error:
            exchange.broke(error)

    def _remember(self) -> None:
        """Remember the head of an answer that came whole in one piece, if the next one may begin with the same: a plain
        200, after which the connection stays open."""
        self._seen = None
        if not self._first.startswith(b"HTTP/1.1 200 "):
            return  # an interim answer came before it in the same piece
        if (
            self._keep
            and not self._chunked()
            and b"content-length" in self._headers
            and b"content-encoding" not in self._headers
        ):
            self._seen = SeenHead(self._first, self._headers)

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        """A body that the backend does not take as fast as it is written waits in the transport; it has a bound."""

    def resume_writing(self) -> None: ...

    def connection_lost(self, error: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self.place.open -= 1
        self.place.ending.discard(self)
        self._parser = None  # they hold each other
        if exchange is None:
            if self.since and self in self.place.idle:
                self.place.idle.remove(self)
            return
        if self._began and b"content-length" not in self._headers and not self._chunked() and error is None:
            self._told(exchange.answer_data, [], True)  # a body that ends with its connection
        else:
            self._told(exchange.answer_lost, "closed the connection", self._reused and not self._head)

    # -- httptools ---------------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        if self._ended:  # an answer behind the answer
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._began and not self._ended:
            if len(self._headers) > 200:
                raise ValueError("too many headers")
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints
            return
        self._began = True
        exchange = self._exchange
        if exchange is not None:
            exchange.answer_began(status, self._headers)

    def on_body(self, data: bytes) -> None:
        if not self._ended:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if not self._began:
            self._headers = {}
            return
        if not self._ended:
            self._ended = True
            self._keep = self._parser.should_keep_alive()

    # ----------------------------------------------------------------------------------------------------------------
    def _chunked(self) -> bool:
        return b"transfer-encoding" in self._headers

    def _rest(self) -> None:
        """Wait for more work, or end."""
        self.place.ending.discard(self)
        if self._keep and not self._paused and len(self.place.idle) < MOST_IDLE and not self._transport.is_closing():
            self._reused = True
            self.since = time.monotonic()
            self.place.idle.append(self)
        else:
            self._transport.close()

    def _fail(self, how: str) -> None:
        exchange, self._exchange = self._exchange, None
        self.place.ending.discard(self)
        self._transport.abort()
        if exchange is not None:
            self._told(exchange.answer_lost, how, False)

    @staticmethod
    def _told(what: Any, *how: Any) -> None:
        try:
            what(*how)
        except Exception as error:
            what.__self__.broke(error)
