"""Tunnels to providers through an HTTP proxy (CONNECT; RFC 9110, section 9.3.6).

The proxy learns the host and port that are called, and carries bytes: a provider's certificate is checked inside of the
tunnel by the provider's name, as without a proxy. Which address a name leads to is the proxy's to find and to judge.
"""

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from ecotone.settings.addresses import is_forbidden
from ecotone.settings.egress import Proxy, plain_host

MOST_HEAD: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_BEGIN: Final = b"HTTP/1."


class NoTunnel(Exception):
    """The proxy opened no tunnel; the text says why, without addresses and credentials."""


class Tunnel:
    """The way to one host through the proxy.

    Args:
        host: of the upstream, as it stands in its address; port: its port.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._host = host
        name = plain_host(host)
        authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"host: {authority}", "user-agent: ecotone"]
        if proxy.authorization:
            lines.append(f"proxy-authorization: {proxy.authorization}")
        self._ask = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        self._is_name = name.isascii() and name.isprintable() and " " not in name
        self._to_proxy: ssl.SSLContext | None = None

    async def dial(self, made: Callable[[], Any], context: ssl.SSLContext | None) -> Any:
        """A new connection to the upstream.

        Args:
            made: makes its protocol, which is returned.
            context: by which TLS is spoken to the upstream; None for plain HTTP.

        Raises:
            NoTunnel: the proxy cannot be reached, or opens none.
            OSError, ssl.SSLError: the upstream at the tunnel's end; its certificate is not valid, among others.
        """
        if not self._is_name:
            raise UnicodeError("no name")
        loop = asyncio.get_running_loop()
        plain = await self._reached(loop)
        try:
            if self._proxy.tls:
                return await self._inside_tls(loop, plain, made, context)
            await self._opened(loop, plain)
            name = self._host if context is not None else None
            _, protocol = await loop.create_connection(made, sock=plain, ssl=context, server_hostname=name)
            return protocol
        except BaseException:
            plain.close()
            raise

    async def _reached(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        """A socket that is connected to the proxy. Its name is looked up each time: where it moves counts at once."""
        failed = "its name leads to no address that requests may go to"
        try:
            found = await loop.getaddrinfo(self._proxy.host, self._proxy.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NoTunnel(f"the proxy cannot be reached: {told(error)}") from None
        for family, kind, protocol, _, address in found:
            if is_forbidden(str(address[0])):
                continue
            plain = socket.socket(family, kind, protocol)
            plain.setblocking(False)
            try:
                await loop.sock_connect(plain, address)
            except OSError as error:
                plain.close()
                failed = told(error)
            except BaseException:
                plain.close()
                raise
            else:
                return plain
        raise NoTunnel(f"the proxy cannot be reached: {failed}")

    async def _opened(self, loop: asyncio.AbstractEventLoop, plain: socket.socket) -> None:
        """Ask for the tunnel on a plain socket. No byte behind the answer's head is read."""
        answer = _Answer(self._proxy)
        try:
            await loop.sock_sendall(plain, self._ask)
            while not answer.complete:
                answer.take(await loop.sock_recv(plain, MOST_HEAD))
        except OSError as error:
            raise NoTunnel(f"the proxy broke the connection: {told(error)}") from None

    async def _inside_tls(
        self, loop: asyncio.AbstractEventLoop, plain: socket.socket, made: Callable[[], Any], context: Any
    ) -> Any:
        """The same where the proxy is spoken to by TLS: that of the upstream runs inside of it."""
        if self._to_proxy is None:
            self._to_proxy = await loop.run_in_executor(None, ssl.create_default_context)
        asking = _Asking(self._proxy)
        try:
            outer, _ = await loop.create_connection(
                lambda: asking, sock=plain, ssl=self._to_proxy, server_hostname=self._proxy.host
            )
        except ssl.SSLCertVerificationError as error:
            raise NoTunnel(f"the proxy's certificate is not valid: {error.verify_message}") from None
        except (OSError, ssl.SSLError) as error:
            raise NoTunnel(f"the proxy speaks no TLS with us: {told(error)}") from None
        try:
            outer.write(self._ask)
            await asking.done
            if asking.disturbed:
                raise NoTunnel("the proxy closed the connection")
            inner: Any = outer
            if context is not None:
                between = _Between()
                inner = await loop.start_tls(outer, between, context, server_hostname=self._host)
                if between.disturbed:
                    raise ConnectionResetError(errno.ECONNRESET, "closed")
            protocol = made()
            inner.set_protocol(protocol)
            protocol.connection_made(inner)
            return protocol
        except BaseException:
            outer.abort()
            raise


class _Answer:
    """A proxy's answer while it comes."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._read = b""
        self.complete = False
        """Whether the tunnel is open."""

    def take(self, data: bytes) -> None:
        """More of it; none is its end. Raises NoTunnel."""
        if not data:
            raise NoTunnel("the proxy closed the connection")
        self._read = read = self._read + data
        if read[: len(_BEGIN)] != _BEGIN[: len(read)]:
            raise NoTunnel("the proxy did not answer in HTTP")
        end = read.find(b"\r\n\r\n")
        if end < 0:
            if len(read) > MOST_HEAD:
                raise NoTunnel("the proxy sent a head without end")
            return
        status = _STATUS.match(read)
        if status is None:
            raise NoTunnel("the proxy did not answer in HTTP")
        if status[1][:1] != b"2":
            raise NoTunnel(_refused(int(status[1]), credentials=bool(self._proxy.authorization)))
        if end + 4 != len(read):  # the upstream's, which speaks second, or the proxy's own: no tunnel begins so
            raise NoTunnel("the proxy sent more than its answer")
        self.complete = True


class _Between(asyncio.Protocol):
    """Has a connection until its protocol takes it over. Nothing may come meanwhile: who called speaks first."""

    disturbed = False

    def data_received(self, data: bytes) -> None:
        self.disturbed = True

    def connection_lost(self, error: Exception | None) -> None:
        self.disturbed = True


class _Asking(_Between):
    """Reads a proxy's answer off a connection by TLS."""

    def __init__(self, proxy: Proxy) -> None:
        self._answer = _Answer(proxy)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            self.disturbed = True
            return
        try:
            self._answer.take(data)
        except NoTunnel as error:
            self.done.set_exception(error)
        else:
            if self._answer.complete:
                self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.disturbed = True
        if not self.done.done():
            self.done.set_exception(NoTunnel("the proxy closed the connection"))
            self.done.exception()  # looked at, also where nobody waits any more


def _refused(status: int, *, credentials: bool) -> str:
    if status in (401, 407):  # tinyproxy says 401 to wrong ones
        return f"the proxy asks for {'other ' if credentials else ''}credentials ({status})"
    if status == 403:
        return "the proxy does not let it through (403)"
    if status in (502, 503, 504):
        return f"the proxy cannot reach it ({status})"
    return f"the proxy opens no tunnel ({status})"


def told(error: Exception) -> str:
    """Why a connection failed. asyncio writes the address into its text, which is not the caller's to know."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, (socket.gaierror, ssl.SSLError)):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or type(error).__name__
