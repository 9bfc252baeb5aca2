"""An HTTP/1.1 proxy before a real S3 server that goes wrong as networks and stores do.

Requests pass unchanged (Host included, which is signed), so that the server's own checks count.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.serving import close

SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\ncontent-length: 67\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>reduce rate</Message></Error>\n"
)
NOT_CONDITIONAL = (
    b"HTTP/1.1 501 Not Implemented\r\ncontent-type: application/xml\r\ncontent-length: 42\r\n\r\n"
    b"<Error><Code>NotImplemented</Code></Error>"
)
FULL = (
    b"HTTP/1.1 507 Insufficient Storage\r\ncontent-type: application/xml\r\ncontent-length: 47\r\n\r\n"
    b"<Error><Code>XMinioStorageFull</Code></Error>\r\n"
)


class Faulty:
    """`wrong(method, path, head)` gives None for a request that passes, or what happens to it:

    bytes: that answer; "reset in": the connection is reset in the middle of the request's body; "reset out", "cut": in
    the middle of the answer's body, by a reset or an ordinary end; "lost": done by the server, its answer never comes;
    a number: so many seconds before the answer.
    """

    def __init__(self, endpoint: str) -> None:
        self._to = urlsplit(endpoint)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.wrong: Callable[[str, str, bytes], bytes | str | float | None] = lambda *_: None
        self.asked: list[tuple[str, str]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        close(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._one(client)

    def _one(self, client: socket.socket) -> None:
        """One request for each connection."""
        head, rest = _head(client)
        if not head:
            return None
        method, path = head.split(b" ", 2)[:2]
        length = _length(head)
        self.asked.append((method.decode(), path.decode()))
        wrong = self.wrong(method.decode(), path.decode(), head)
        if wrong == "reset in":
            while len(rest) < length // 2 and (more := client.recv(65536)):
                rest += more
            return _reset(client)
        with socket.create_connection((self._to.hostname, self._to.port)) as server:
            sent = len(rest)
            if isinstance(wrong, bytes):
                while sent < length and (more := client.recv(1 << 20)):
                    sent += len(more)
                return client.sendall(wrong)
            server.sendall(_closing(head) + rest)
            while sent < length and (more := client.recv(1 << 20)):
                server.sendall(more)
                sent += len(more)
            answer, body = _head(server)
            total, told = _length(answer), len(body)
            if b"transfer-encoding: chunked" in answer.lower():
                total = 1 << 40  # until the server closes
            if wrong == "lost":
                return _reset(client)
            if isinstance(wrong, int | float):
                time.sleep(wrong)
            stop = total // 2 if wrong in ("reset out", "cut") else total
            client.sendall(_closing(answer) + body[: max(stop, 1)])
            while told < stop and (more := server.recv(1 << 16)):
                client.sendall(more[: stop - told])
                told += len(more)
            if wrong == "reset out":
                _reset(client)


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    got = b""
    while b"\r\n\r\n" not in got:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _length(head: bytes) -> int:
    if head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
        return 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _closing(head: bytes) -> bytes:
    lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
