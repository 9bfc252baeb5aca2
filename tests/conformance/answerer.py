"""A stand-in for an API that answers every method of a client library with the smallest answer that fits its type.

    python answerer.py API.md PORT

Runs in the environment of the library whose `api.md` it is given (openai), which lists each method with its HTTP verb,
path and the type of its answer. The type's class is imported from the file that the list links to, and a value is built
from its required fields. A body with `"stream": true` is answered with an event stream that ends at once. Paths are
taken with and without `/v1`.
"""

import collections.abc
import importlib
import json
import re
import sys
import typing
from datetime import date, datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from pydantic import BaseModel

_METHOD = re.compile(r'<code title="(\w+) (/[^"]*)">.*?</code>')
_LINK = re.compile(r'-> <a href="\./src/([^"]+)\.py">(?:(\w+)\[)?([\w.]+)\]?</a>')
_PARAMETER = re.compile(r"\{[^}]+\}")
_TEXT = "x"


class Method(typing.NamedTuple):
    """One line of `api.md`: `page` is the kind of page around the answer's type, both None where none is told."""

    verb: str
    path: re.Pattern[str]
    page: str | None
    module: str | None
    type: str | None


def methods(text: str) -> list[Method]:
    """The methods that a library's `api.md` lists, those with fixed paths first."""
    found = []
    for match in _METHOD.finditer(text):
        verb, path = match[1].upper(), match[2].split("?")[0]
        link = _LINK.search(match[0])
        pattern = re.compile("[^/]+".join(re.escape(part) for part in _PARAMETER.split(path)))
        page, module, name = (link[2], link[1].replace("/", "."), link[3]) if link else (None, None, None)
        found.append((path.count("{"), Method(verb, pattern, page, module, name)))
    return [method for _, method in sorted(found, key=lambda pair: pair[0])]


def answer(method: Method) -> Any:
    """The smallest answer of a method as a JSON value; None for one without a body."""
    if method.module is None or method.type is None:
        return None
    kind = getattr(importlib.import_module(method.module), method.type.rsplit(".", 1)[-1])
    if method.page is None:
        return smallest(kind)
    page = {"object": "list", "data": [smallest(kind)], "has_more": False}
    return page | {"first_id": None, "last_id": None}


def smallest(kind: Any) -> Any:
    """A JSON value that fits a type: required fields only, the first of several choices."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if hasattr(kind, "__value__"):  # a type by another name
        return smallest(kind.__value__)
    if origin is typing.Annotated:
        return smallest(inside[0])
    if origin is typing.Literal:
        return inside[0]
    if origin in (typing.Union, UnionType):
        return smallest(next((choice for choice in inside if choice is not NoneType), NoneType))
    if origin in (list, set, tuple, collections.abc.Iterable, collections.abc.Sequence):
        return [smallest(inside[0])]
    return _plain(kind) if isinstance(kind, type) and origin is None else {}


def _plain(kind: type) -> Any:
    if issubclass(kind, BaseModel):
        required = {name: field for name, field in kind.model_fields.items() if field.is_required()}
        return {field.alias or name: smallest(field.annotation) for name, field in required.items()}
    if issubclass(kind, Enum):
        return next(iter(kind)).value
    for known, value in _PLAIN.items():
        if issubclass(kind, known):
            return value
    return {}


_PLAIN: dict[type, Any] = {
    bool: True,
    int: 1,
    float: 0.5,
    str: _TEXT,
    datetime: "2026-01-01T00:00:00Z",
    date: "2026-01-01",
    NoneType: None,
}


class Answerer(BaseHTTPRequestHandler):
    """Answers from `listed`, over kept connections."""

    protocol_version = "HTTP/1.1"
    listed: typing.ClassVar[list[Method]] = []

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def handle_one_request(self) -> None:
        self.close_connection = True
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if self.raw_requestline and self.parse_request():
                self._answer(self._body())
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(self, body: bytes) -> None:
        path = self.path.split("?")[0].removeprefix("/v1")
        method = next((m for m in self.listed if m.verb == self.command and m.path.fullmatch(path)), None)
        if method is None:
            self._send(404, "application/json", b'{"error": {"message": "no such method in api.md"}}')
        elif _streams(body):
            self._send(200, "text/event-stream", b"data: [DONE]\n\n")
        else:
            value = answer(method)
            self._send(200, "application/json", b"" if value is None else json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _streams(body: bytes) -> bool:
    try:
        value = json.loads(body) if body[:1] == b"{" else {}
    except ValueError:
        return False
    return bool(value.get("stream"))


if __name__ == "__main__":
    Answerer.listed = methods(Path(sys.argv[1]).read_text())
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Answerer).serve_forever()
