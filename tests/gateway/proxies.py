"""An HTTP proxy that opens tunnels, or misbehaves as a test says."""

import asyncio
import base64
import contextlib
import ssl
import threading
from collections.abc import Mapping


class ConnectProxy:
    """Listens on loopback in a thread of its own. `asked` holds each HOST:PORT, `heads` what it was asked with.

    Args:
        places: port on loopback by each HOST:PORT that it can reach; others are 502.
        credentials: USER:PASSWORD that it wants; empty for none.
        tls: it is spoken to by TLS.
        answer: what it says in place of opening a tunnel; `goes_on` keeps the connection open behind that.
    """

    def __init__(
        self,
        places: Mapping[str, int] | None = None,
        *,
        credentials: str = "",
        tls: ssl.SSLContext | None = None,
        answer: bytes | None = None,
        goes_on: bool = False,
    ) -> None:
        self.places = dict(places or {})
        self.answer = answer
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.carried = 0
        """Bytes that went to upstreams."""
        self._wanted = b"basic " + base64.b64encode(credentials.encode()).lower() if credentials else b""
        self._goes_on = goes_on
        self._loop = asyncio.new_event_loop()
        self._tls = tls
        began = threading.Event()
        self.port = 0

        async def serve() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
            self.port = server.sockets[0].getsockname()[1]
            began.set()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.create_task(serve())
            self._loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        assert began.wait(90)

    def url(self, credentials: str = "") -> str:
        where = f"localhost:{self.port}" if self._tls else f"127.0.0.1:{self.port}"
        return f"{'https' if self._tls else 'http'}://{credentials + '@' if credentials else ''}{where}"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            method, authority, _ = head.split(b"\r\n")[0].decode().split(" ")
            assert method == "CONNECT"
            self.asked.append(authority)
            await self._answer(head.lower(), authority, reader, writer)
        writer.close()

    async def _answer(
        self, head: bytes, authority: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
            if self._goes_on:
                await reader.read()
            return
        if self._wanted and b"proxy-authorization: " + self._wanted not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\nno")
            return
        port = self.places.get(authority)
        if port is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno")
            return
        to, far = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.0 200 Connection established\r\nVia: a proxy\r\n\r\n")
        await asyncio.gather(self._carry(reader, far, count=True), self._carry(to, writer, count=False))
        far.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                self.carried += len(data) if count else 0
                sink.write(data)
                await sink.drain()
        sink.close()
