"""A receiver of webhooks on a free port of this machine: keeps what comes, answers as it is told."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ecotone.webhooks import signature
from tests.serving import Serving

Answer = Callable[[BaseHTTPRequestHandler], None]


def ok(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "2")
    handler.end_headers()
    handler.wfile.write(b"ok")


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"content-length": "0", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


class Receiver:
    """`got` holds (path, headers, raw body) in the order of arrival; `answer` is called for each request."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Answer = ok
        self.asked: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                receiver.answer(self)

            def do_GET(self) -> None:
                receiver.asked.append(self.path)
                ok(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def bodies(self, count: int, seconds: float = 120) -> list[dict[str, Any]]:
        """The first `count` bodies, waited for."""
        until(lambda: len(self.got) >= count, seconds)
        return [json.loads(body) for _, _, body in self.got[:count]]

    def check_signatures(self, secret: str) -> None:
        for _, headers, body in self.got:
            at = int(headers["x-ecotone-signature"].partition(",")[0].removeprefix("t="))
            assert abs(time.time() - at) < 600
            assert headers["x-ecotone-signature"] == signature(secret, at, body)
            assert headers["x-webhook-secret"] == secret


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    with Serving(receiver.server):
        yield receiver


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    """What `true` returns once it is something; fails after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass in time")
