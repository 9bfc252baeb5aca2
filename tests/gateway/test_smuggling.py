"""No bytes of a client are read in two ways: what is doubtful is refused, the rest reaches the provider as meant."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest

from tests.gateway.smuggling import HIDDEN, VECTORS, Vector, filled, whole
from tests.running import ECOTONE, Running, free_port, running
from tests.serving import close

PROVIDER_KEY = "sk-of-the-provider"
MODEL = "odd/m"
_CHAT = b"/v1/chat/completions"
PATHS = (_CHAT, b"/models/odd/m/v1/chat/completions")
_ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
_SENT_ON = {"host", "authorization", "content-type", "content-length", "accept", "accept-encoding", "user-agent"}


class Recorder:
    """A provider that keeps every byte of every connection, and answers what has a plain Content-Length."""

    def __init__(self) -> None:
        self.connections: list[bytearray] = []
        self.known: list[int] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            kept = bytearray()
            self.connections.append(kept)
            threading.Thread(target=self._serve, args=(client, kept), daemon=True).start()

    def _serve(self, client: socket.socket, kept: bytearray) -> None:
        answered = 0
        with client:
            while piece := client.recv(65536):
                kept += piece
                while (end := _end_of_first(bytes(kept[answered:]))) is not None:
                    answered += end
                    length = str(len(_ANSWER)).encode()
                    client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                    client.sendall(b"content-length: " + length + b"\r\n\r\n" + _ANSWER)

    def texts(self) -> list[str]:
        """What the messages said, over all connections; fails on anything that is not a plain request of ours."""
        found = []
        for rest in self.news():
            while rest:
                end = _end_of_first(rest)
                assert end is not None, f"an unfinished request reached the provider: {rest!r}"
                head, _, body = rest[:end].partition(b"\r\n\r\n")
                if not head.startswith(b"GET "):
                    _check_head(head)
                    found.append(json.loads(body)["messages"][0]["content"])
                rest = rest[end:]
        return found

    def news(self) -> list[bytes]:
        """What each connection brought since `forget`."""
        known = self.known + [0] * len(self.connections)
        return [bytes(kept[seen:]) for kept, seen in zip(self.connections, known, strict=False)]

    def forget(self) -> None:
        self.known = [len(kept) for kept in self.connections]


def _end_of_first(raw: bytes) -> int | None:
    head, gap, body = raw.partition(b"\r\n\r\n")
    if not gap:
        return None
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return len(head) + 4 + length if len(body) >= length else None


def _check_head(head: bytes) -> None:
    """The head that the gateway makes: its own, once each, with the provider's key."""
    line, *fields = head.decode("ascii").split("\r\n")
    assert line == "POST /v1/chat/completions HTTP/1.1", line
    pairs = [(name.lower(), value.strip()) for name, _, value in (f.partition(":") for f in fields)]
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), head
    assert set(names) - _SENT_ON <= {"connection"}, f"a client's header went on: {head!r}"
    assert dict(pairs)["authorization"] == f"Bearer {PROVIDER_KEY}"


@dataclass(frozen=True)
class Plane:
    """Where the gateway is, what it takes, and what its provider saw."""

    host: str
    port: int
    key: str
    provider: Recorder


@pytest.fixture(scope="module", params=["up", "gateway"])
def plane_address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """The public port of `ecotone up`, and that of `ecotone gateway` beside it."""
    provider = Recorder()
    with running(tmp_path_factory.mktemp("smuggling"), ODD_API_KEY=PROVIDER_KEY) as server, ExitStack() as opened:
        for path, made in (
            ("backends", {"name": "odd", "url": provider.url, "key_env": "ODD_API_KEY", "location": "local"}),
            ("rules", {"kind": "pass_unknown", "subject": "backend:odd", "reason": "the tests' own provider"}),
            ("projects", {"name": "p", "mode": "serve_api", "purpose": "commercial"}),
        ):
            answer = server.http.post(f"/api/ecotone/v1/{path}", json=made)
            assert answer.is_success, answer.text
        key = server.http.post("/api/ecotone/v1/keys", json={"project": "p"}).json()["key"]
        port = server.port if request.param == "up" else opened.enter_context(_gateway(server))
        plane = Plane(f"127.0.0.1:{port}", port, key, provider)
        _wait_for_key(plane)
        yield plane
        close(provider.listener)


@contextmanager
def _gateway(server: Running) -> Iterator[int]:
    port = free_port()
    with open(server.folder / "gateway.log", "ab") as log:
        child = subprocess.Popen([ECOTONE, "gateway", "--port", str(port)], env=server.env, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 90
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                told = (server.folder / "gateway.log").read_text()
                assert child.poll() is None and time.monotonic() < end, told
                time.sleep(0.05)
        yield port
    finally:
        child.terminate()
        child.wait(90)


def _wait_for_key(plane: Plane) -> None:
    plain = next(vector for vector in VECTORS if vector.name == "a plain request")
    end = time.monotonic() + 90
    while (answer := _exchange(plane, plain)[0][0]).status != 200:
        assert time.monotonic() < end, f"the key is not taken: {answer}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes


def _exchange(plane: Plane, vector: Vector, path: bytes = _CHAT) -> tuple[list[Answer], bool]:
    """The answers to a vector, without 1xx, and whether the server ended the connection."""
    wanted = len(vector.statuses)
    parts = (vector.raw, vector.then)
    raw, then = (filled(part, key=plane.key, model=MODEL, host=plane.host).replace(_CHAT, path) for part in parts)
    received, ended = b"", False
    with socket.create_connection(("127.0.0.1", plane.port), timeout=120) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            _send(client, raw, vector.every)
            end = time.monotonic() + (60 if wanted else 1)
            while not ended and (vector.closes or not wanted or len(_answers(received)) < wanted):
                client.settimeout(max(0.01, end - time.monotonic()))
                piece = client.recv(65536)
                received += piece
                ended = not piece
                if then and _answers(received):
                    _send(client, then, 0)
                    then = b""
        except TimeoutError:
            pass
        except ConnectionError:
            ended = True
    return _answers(received), ended


def _send(client: socket.socket, raw: bytes, every: int) -> None:
    if not every:
        for number, part in enumerate(raw.split(b"{pause}")):
            time.sleep(0.05 if number else 0)
            client.sendall(part)
        return
    for at in range(0, len(raw), every):
        client.sendall(raw[at : at + every])
        time.sleep(0.01 if every > 10 else 0.001)


def _answers(received: bytes) -> list[Answer]:
    """Complete answers, without 1xx."""
    found = []
    while (gap := received.find(b"\r\n\r\n")) >= 0:
        head, rest = received[:gap].lower(), received[gap + 4 :]
        status = int(head.split(b" ", 2)[1])
        if status < 200:
            received = rest
            continue
        length = next((int(f[15:]) for f in head.split(b"\r\n") if f.startswith(b"content-length:")), None)
        if length is None:
            length = rest.find(b"0\r\n\r\n") + 5 if b"0\r\n\r\n" in rest else len(rest) + 1
        if len(rest) < length:
            break
        found.append(Answer(status, head, rest[:length]))
        received = rest[length:]
    return found


@pytest.mark.parametrize("path", PATHS, ids=["the-usual-address", "a-models-address"])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name.replace(" ", "-"))
def test_bytes_are_read_in_one_way(plane_address: Plane, vector: Vector, path: bytes) -> None:
    plane_address.provider.forget()
    answers, ended = _exchange(plane_address, vector, path)
    statuses = [answer.status for answer in answers]
    if not (vector.reset and ended and not statuses):
        assert len(statuses) == len(vector.statuses), f"{statuses} came, for {[set(s) for s in vector.statuses]}"
        for status, expected in zip(statuses, vector.statuses, strict=True):
            assert status in expected, f"{status} came: {answers[0].body[:300]!r}"
    if vector.closes:
        assert ended, "the connection was left open"
    time.sleep(0.05)
    assert plane_address.provider.texts() == list(vector.texts)
    assert not any(HIDDEN in kept for kept in plane_address.provider.news())
    for answer in answers:
        assert not any(absent in answer.head.split(b"\r\n\r\n")[0] for absent in vector.absent)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if not vector.every and not vector.then],
    ids=lambda vector: vector.name.replace(" ", "-"),
)
def test_bytes_are_read_in_the_same_way_behind_a_request_that_was_answered(
    plane_address: Plane, vector: Vector
) -> None:
    """What comes again on a connection may go another way through the gateway; it leads to the same."""
    behind = replace(
        vector,
        raw=whole(text="before"),
        then=vector.raw,
        statuses=(frozenset({200}), *vector.statuses),
        texts=("before", *vector.texts),
    )
    test_bytes_are_read_in_one_way(plane_address, behind, _CHAT)


def test_the_server_is_whole_after_all_of_it(plane_address: Plane) -> None:
    plane_address.provider.forget()
    plain = next(vector for vector in VECTORS if vector.name == "a plain request")
    answers, _ = _exchange(plane_address, plain)
    assert [answer.status for answer in answers] == [200]
    assert plane_address.provider.texts() == ["hello"]
