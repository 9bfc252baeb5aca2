"""A provider that speaks bytes as a test says, behind the running gateway, with prices, limits and a look at the books.

`Scene.settle` waits until nothing runs and says whether all is back where it began: no job, no task, no reservation, no
slot, no connection that nobody wants; one `opened` and one end for each attempt; the budgets' sum that of the ledger.
"""

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ecotone.gateway.limits import Limiter
from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Budget, Limit, Route, RouteCandidate, Target
from ecotone.ledger import Ledger
from ecotone.vocabulary import Location
from tests.serving import close, wake

EACH = 10**6
PRICE = Price(version="test", scale=(Rates(EACH, EACH, EACH, EACH, EACH, EACH, EACH),))
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
MUCH = 10**15

Script = Callable[[socket.socket, int], Any]
"""Answers request number n on a connection whose request was read; returns whether the connection goes on."""


class Wire:
    """Listens, reads each request whole, and lets the script answer."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests = self.connections = 0
        self.bodies: list[dict[str, Any]] = []
        self.closed_by_gateway = threading.Event()
        self.over = threading.Event()
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=300)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, ValueError), plain, self._secured(plain) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            try:
                while self._one(connection):
                    pass
            finally:
                self._open.remove(connection)

    def _secured(self, plain: socket.socket) -> socket.socket:
        return self._tls.wrap_socket(plain, server_side=True) if self._tls is not None else plain

    def _one(self, connection: socket.socket) -> bool:
        got = b""
        while b"\r\n\r\n" not in got:
            piece = connection.recv(65536)
            if not piece:
                self.closed_by_gateway.set()
                return False
            got += piece
        head, _, body = got.partition(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < size:
            piece = connection.recv(65536)
            if not piece:  # else this thread would turn for good, and take every test behind this one half its time
                self.closed_by_gateway.set()
                return False
            body += piece
        with self._lock:
            self.requests += 1
            number = self.requests
            self.bodies.append(json.loads(body))
        try:
            if self.script(connection, number) is False:
                return False
        except OSError:
            self.closed_by_gateway.set()
            raise
        return True

    def hold(self, connection: socket.socket, seconds: float = 90) -> bool:
        """Say nothing until the gateway has gone, or the test."""
        connection.settimeout(0.05)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.over.is_set():
            try:
                if not connection.recv(1):
                    self.closed_by_gateway.set()
                    return False
            except TimeoutError:
                continue
            except OSError:
                self.closed_by_gateway.set()
                return False
        return False

    def stop(self) -> None:
        self.over.set()
        close(self._listener)
        for connection in list(self._open):
            wake(connection)


def was_read(connection: socket.socket) -> None:
    """Wait until the gateway has read what was sent: a reset would throw away what lies in its buffer still."""
    near, far = (f":{connection.getsockname()[1]:04X}", f":{connection.getpeername()[1]:04X}")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if local.endswith(far) and remote.endswith(near):
                if queues.endswith(":00000000"):
                    time.sleep(0.1)  # it goes to the client in the same turn of the loop
                    return
                break
        time.sleep(0.01)
    raise AssertionError("the gateway read nothing")


def begun(scene: "Scene") -> None:
    """Wait until the gateway has begun an answer by itself, while its provider is silent."""
    end = time.monotonic() + 60
    while not any(job._begun for job in list(scene.house.gateway.jobs)):
        assert time.monotonic() < end, "no answer was begun"
        time.sleep(0.01)


def reset(connection: socket.socket) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return False


def whole(value: Any = None, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(ANSWER if value is None else value).encode()
    lines = [b"HTTP/1.1 " + status, b"content-type: application/json", b"content-length: %d" % len(data), *fields]
    return b"\r\n".join([*lines, b"", data])


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(text: str | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    part = {**({"content": text} if text is not None else {}), **more}
    choice = {"index": index, "delta": part, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def last(usage: Any = USAGE) -> bytes:
    return event(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage}
    )


DONE = b"data: [DONE]\n\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWER: dict[str, Any] = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi you"}, "finish_reason": "stop"}],
}  # fmt: skip
EVENTS = (delta("Hi", role="assistant"), delta(" you"), delta(finish="stop"), last(), DONE)


def chunked(*parts: bytes, end: bool = True) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + (b"0\r\n\r\n" if end else b"")


class Scene:
    """A running gateway with scripted providers, budgets on every scope, and its books."""

    def __init__(self, house: Any, sdk: Any) -> None:
        self.house, self.sdk = house, sdk
        self.wires: list[Wire] = []
        self.limiter = house.gateway.limiter = Limiter()
        scopes = ("key:shop", "project:shop", "organisation", "backend:wire", "backend:other")
        self.limits = {
            scope: Limit(
                requests=10**6, tokens=10**9, concurrent=1000, budgets=(Budget(id=scope, limit=MUCH, window="total"),)
            )
            for scope in scopes
        }

    def wire(self, script: Script, *, name: str = "wire", url: str = "http://127.0.0.1:{port}/v1", **how: Any) -> Wire:
        """A provider `NAME/anything` whose tokens cost 10^-6 USD each."""
        made = Wire(script, **how)
        self.wires.append(made)
        target = Target(
            name=name, backend=name, url=url.format(port=made.port), legal="free", location=Location.EXTERNAL,
            key_env="FAKE_API_KEY",
        )  # fmt: skip
        found = self.house.snapshots.current
        self.place(backends={**found.backends, name: target}, prices={**found.prices, f"{name}/*": PRICE})
        return made

    def place(self, **changed: Any) -> None:
        """Another snapshot in force."""
        found = self.house.snapshots.current
        changed.setdefault("limits", found.limits or self.limits)
        self.house.snapshots.current = msgspec.structs.replace(found, version=found.version + 1, **changed)

    def route(self, name: str, *models: str, **how: Any) -> None:
        made = Route(name=name, candidates=tuple(RouteCandidate(model=m) for m in models), **how)
        self.place(routes={**self.house.snapshots.current.routes, name: made})

    def call(self, model: str = "wire/m", **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.sdk.call(self.house.url, model=model, **body)
        return found

    @property
    def records(self) -> list[dict[str, Any]]:
        kinds = ("opened", "failed", "settled", "refused")
        return list(Ledger(self.house.folder / "ledger").records(*kinds))

    def ends(self) -> list[dict[str, Any]]:
        return [r for r in self.records if r["kind"] == "settled"]

    def spent(self) -> dict[str, int]:
        return {name: spent for name, (_, spent, _) in self.limiter.spent().items()}

    def settle(self, attempts: int | None = 1, status: str | None = None, *, seconds: float = 90.0) -> dict[str, Any]:
        """The last settled record, once all is back where it began. Raises AssertionError that says what is not."""
        end = time.monotonic() + seconds
        while (wrong := self._not_back()) and time.monotonic() < end:
            time.sleep(0.02)
        assert not wrong, wrong
        records = self.records
        opened = Counter(r["request_id"] for r in records if r["kind"] == "opened")
        assert all(n == 1 for n in Counter(r["request_id"] for r in records if r["kind"] == "settled").values())
        if attempts is not None:
            assert sum(opened.values()) == attempts
        costs = sum(r.get("cost") or 0 for r in records if r["kind"] in ("settled", "failed"))
        assert self.spent().get("organisation", 0) == costs, "a budget and the ledger differ"
        ends = [r for r in records if r["kind"] == "settled"]
        if status is not None:
            assert ends[-1]["status"] == status, ends[-1]
        return ends[-1] if ends else {}

    def _not_back(self) -> str:
        plane = self.house.gateway
        if plane.jobs:
            return f"{len(plane.jobs)} jobs are left"
        if plane._tasks:
            return f"{len(plane._tasks)} tasks are left"
        held = {name: held for name, (_, _, held) in self.limiter.spent().items() if held}
        if held:
            return f"reserved still: {held}"
        running = [m.slots.running for m in self.limiter._meters._meters.values() if m is not None and m.slots]
        if any(running):
            return f"slots are taken: {running}"
        if any(place.ending for place in plane._lanes.places):
            return "a connection to a backend is left over"
        records = self.records  # an end is written after all of this was given back; who has left is not told behind it
        opened = Counter(r["request_id"] for r in records if r["kind"] == "opened")
        closed = Counter(r["request_id"] for r in records if r["kind"] in ("settled", "failed"))
        return "" if opened == closed else f"opened: {opened}, ended: {closed}"

    def pooled(self, name: str = "wire") -> int:
        """Connections to a backend that wait for work."""
        url = self.house.snapshots.current.backends[name].url
        return sum(len(p.idle) for (at, _), p in self.house.gateway._lanes._places.items() if at == url)

    def rests(self, model: str = "wire/m") -> bool:
        """Whether the routes were told that it failed."""
        return bool(self.house.gateway.chooser.rests(model))

    def stop(self) -> None:
        for wire in self.wires:
            wire.stop()
