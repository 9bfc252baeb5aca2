"""Servers that somebody else runs, at the wire: one of OpenAI's dialect, and text-embeddings-inference (its OpenAPI
document's routes, errors and headers)."""

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.serving import Serving


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    key: str | None = None
    server: "Elsewhere"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        for name, said in {"content-type": "application/json", "content-length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), said)
        self.end_headers()
        self.wfile.write(raw)

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.close_connection |= self.server.down

    def parse_request(self) -> bool:
        return super().parse_request() and not self.server.down

    def admitted(self) -> bool:
        if self.server.key and self.headers.get("authorization") != f"Bearer {self.server.key}":
            self.answer({"error": {"message": "wrong key"}}, 401)
            return False
        return True

    def body(self) -> Any:
        found = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        self.server.asked.append((self.path, found))
        return found


class OpenAI(_Handler):
    def do_GET(self) -> None:
        if not self.admitted():
            return
        if self.path == "/v1/models":
            self.answer({"object": "list", "data": [{"id": "their-name", "object": "model"}]})
        else:
            self.answer({"error": {"message": "no such path"}}, 404)

    def do_POST(self) -> None:
        if not self.admitted():
            return
        body = self.body()
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        if self.path == "/v1/embeddings":
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            data = [{"index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(texts)]
            self.answer({"object": "list", "model": body["model"], "data": data[::-1], "usage": usage})
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            self.answer({"id": "1", "model": body["model"], "choices": [choice], "usage": usage})


class Tei(_Handler):
    kind = "embedding"

    def do_GET(self) -> None:
        if self.path == "/info":
            kind = {self.server.kind: {"pooling": "mean"} if self.server.kind == "embedding" else {"id2label": {}}}
            told = {"model_id": "their/model", "model_dtype": "float32", "model_type": kind, "max_input_length": 512}
            self.answer({**told, "version": "1.8.0", "auto_truncate": False})
        else:
            self.answer({}, 200 if self.path == "/health" else 404)

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/embed" and len(body["inputs"]) > 32:
            self.answer({"error": "batch size 33 > maximum allowed batch size 32", "error_type": "validation"}, 413)
        elif self.path == "/embed":
            self.answer([[float(len(t)), 1.0] for t in body["inputs"]], x_compute_tokens="7")
        elif self.path == "/similarity":
            self.answer([0.5 for _ in body["inputs"]["sentences"]], x_compute_tokens="9")
        elif self.path == "/predict":
            rows = [[{"label": "bad", "score": 0.1}, {"label": "good", "score": 0.9}] for _ in body["inputs"]]
            self.answer(rows, x_compute_tokens="3")
        else:
            self.answer({"error": "no such path", "error_type": "backend"}, 404)


class Elsewhere(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[_Handler], *, key: str | None = None, kind: str = "embedding", port: int = 0):
        super().__init__(("127.0.0.1", port), handler)
        self.key, self.kind = key, kind
        self.down = False
        self.asked: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def elsewhere(handler: type[_Handler], **more: Any) -> Iterator[Elsewhere]:
    server = Elsewhere(handler, **more)
    with Serving(server):
        try:
            yield server
        finally:
            server.down = True  # also on connections that clients kept
