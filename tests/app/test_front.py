"""One port for all faces: whose a connection is shows in its first line, and nothing that was sent may be lost."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ecotone.gateway.paths import is_for_gateway, is_ours
from tests.receiver import until
from tests.running import ADMIN, Running, running

PAGE = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
READY = b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n"
MODELS = f"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n\r\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("front")) as found:
        yield found
        assert "Traceback" not in found.log


class Client:
    """One connection, spoken to by hand."""

    def __init__(self, server: Running) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes, *, slowly: bool = False) -> None:
        if not slowly:
            self.socket.sendall(data)
            return
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(data)):
            self.socket.sendall(data[place : place + 1])
            time.sleep(0.001)

    def answer(self) -> tuple[int, bytes]:
        status = int(self._file.readline().split()[1])
        size = 0
        while (line := self._file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        return status, self._file.read(size)

    def rest(self) -> bytes:
        with contextlib.suppress(ConnectionResetError):
            return self._file.read()
        return b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    found = Client(server)
    yield found
    found.close()


def is_page(answer: tuple[int, bytes]) -> bool:
    return answer[0] == 200 and json.loads(answer[1])["status"] == "ok"


def is_models(answer: tuple[int, bytes]) -> bool:
    return answer[0] == 200 and json.loads(answer[1])["object"] == "list"


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("order", ["gateway first", "page first"])
def test_both_kinds_of_requests_on_one_kept_connection(client: Client, order: str, slowly: bool) -> None:
    """A proxy in front keeps connections and sends whatever comes next on them."""
    requests = [(MODELS, is_models), (PAGE, is_page)]
    if order == "page first":
        requests.reverse()
    for request, is_right in requests * 3:
        client.send(request, slowly=slowly)
        assert is_right(client.answer())


def test_a_page_and_then_the_gateway_in_one_packet_are_answered_in_order(client: Client) -> None:
    client.send((PAGE + MODELS) * 2)
    for is_right in (is_page, is_models) * 2:
        assert is_right(client.answer())


def test_a_page_asked_for_before_the_gateways_answer_came_ends_the_connection(client: Client) -> None:
    """It gets no answer at all, never a wrong one; who pipelines sends it again on another connection."""
    client.send(MODELS + PAGE + MODELS)
    assert is_models(client.answer())
    assert client.rest() == b""


def test_a_body_that_came_with_the_first_line_is_not_lost(client: Client) -> None:
    body = json.dumps({"model": "nothing", "messages": [{"role": "user", "content": "x" * 100_000}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n"
    client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    status, told = client.answer()
    assert status == 404 and b"model_not_found" in told
    client.send(PAGE)
    assert is_page(client.answer())


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_part_of_a_body_is_never_taken_for_a_request(client: Client, pieces: int) -> None:
    """Else a text that looks like a request would be answered as one, under somebody's name."""
    text = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    body = json.dumps({"model": "nothing", "messages": [{"role": "user", "content": "x"}]}).encode()
    body += b" " * 10 + text.encode()  # what follows the JSON makes it a bad one
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n"
    cut = len(body) - len(text)
    for _ in range(4):
        client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body))
        step = -(-len(text) // pieces)
        for piece in [body[:cut], *(body[at : at + step] for at in range(cut, len(body), step))]:
            time.sleep(0.03)
            client.send(piece)
        status, told = client.answer()
        assert status == 400 and b'"error"' in told
    client.send(PAGE)
    assert is_page(client.answer())


def test_empty_lines_ahead_of_the_first_request_are_passed_over(client: Client) -> None:
    client.send(b"\r\n\r\n" + MODELS)
    assert is_models(client.answer())


def test_a_first_line_that_never_ends_is_refused(client: Client) -> None:
    with contextlib.suppress(OSError):
        client.send(b"GET /" + b"x" * 70_000)
    assert client.rest().startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "greeting",
    [
        bytes.fromhex("1603010200010001fc0303") + bytes(400),  # the begin of a TLS ClientHello
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0",
        b"x" * 40 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_ended(client: Client, greeting: bytes) -> None:
    client.send(greeting)
    assert client.rest().startswith(b"HTTP/1.1 400")


def test_a_client_that_leaves_before_its_first_line_leaves_nothing_behind(server: Running) -> None:
    before = len(os.listdir(f"/proc/{server.server_pid}/fd"))
    for _ in range(50):
        gone = Client(server)
        gone.send(b"GET /v1/mod")
        gone.close()
    # some more than before: the server's own connections to its database come and go, too
    until(lambda: len(os.listdir(f"/proc/{server.server_pid}/fd")) <= before + 20)


def test_connections_of_the_gateway_count_for_their_address_until_they_end(tmp_path: Path) -> None:
    with running(tmp_path, ECOTONE_CONNECTIONS_PER_ADDRESS="4") as found:
        until(found.is_left)
        for _ in range(3):  # what ended does not count
            clients = [Client(found) for _ in range(4)]
            for number, one in enumerate(clients):
                one.send(MODELS if number % 2 else PAGE)
                assert one.answer()[0] == 200
            extra = Client(found)
            assert extra.rest().startswith(b"HTTP/1.1 429")
            extra.close()
            clients[0].send(MODELS)  # from one kind to the other and back it is one connection still
            assert is_models(clients[0].answer())
            for one in clients:
                one.close()
            until(found.is_left)


def test_connections_of_a_trusted_proxy_are_not_counted_as_one_address(tmp_path: Path) -> None:
    with running(tmp_path, ECOTONE_CONNECTIONS_PER_ADDRESS="2", ECOTONE_TRUSTED_PROXIES="127.0.0.1") as found:
        clients = [Client(found) for _ in range(5)]
        for one in clients:
            one.send(PAGE)
            assert is_page(one.answer())
            one.close()


@pytest.mark.slow  # kept connections wait five seconds for their last request
def test_a_graceful_restart_answers_what_is_on_its_way_on_kept_connections(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        clients = [Client(found) for _ in range(3)]
        for one, request in zip(clients[:2], (MODELS, PAGE), strict=True):
            one.send(request)
            assert one.answer()[0] == 200
        asking = Client(found)
        with ThreadPoolExecutor(1) as pool:
            restarting = pool.submit(found.cli, "restart", alone=True)
            asking.send(READY)
            while asking.answer()[0] == 200:  # until its server has been told to end
                time.sleep(0.02)
                asking.send(READY)
            for one, request in zip(clients, (MODELS, PAGE, MODELS), strict=True):
                one.send(request)
            for one, is_right in zip(clients, (is_models, is_page, is_models), strict=True):
                assert is_right(one.answer())
                assert one.rest() == b"", "and ends with its answer"
                one.close()
            assert restarting.result().returncode == 0
        asking.close()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"", None),
        (b"P", None),
        (b"POST /v1", None),
        (b"POST /v1 ", True),
        (b"POST /v1/chat/completions", None),
        (b"POST /v1/chat/completions HTTP/1.1\r\n", True),
        (b"GET /v1/models?x=/ HTTP", True),
        (b"GET /v1/telemetry HTTP/1.1", False),
        (b"POST /chat/completions HTTP/1.1", True),
        (b"GET /chat/completions HTTP/1.1", False),
        (b"POST /chat/completions/git-upload-pack HTTP/1.1", False),
        (b"POST /chat/comp", None),
        (b"GET /v1beta HTTP", False),
        (b"GET /v11/x HTTP", False),
        (b"GET /v", None),
        (b"GET /x", False),
        (b"GET / HTTP/1.1", False),
        (b"GET http://host/v1/models HTTP/1.1", True),
        (b"GET /%761/models HTTP/1.1", False),
        (b"GET //v1/models HTTP/1.1", False),
        (b"\x16\x03\x01", True),
        (b"PRI * HTTP/2.0", True),
        (b"GET /v1/" + b"x" * 3000, True),
        (b"A" * 30, True),
        (b"\r\n", None),
    ],
)
def test_whose_a_connection_is(first: bytes, expected: bool | None) -> None:
    assert is_for_gateway(first) is expected


def test_the_owner_does_not_depend_on_how_the_bytes_are_cut() -> None:
    """Else the same request would be served by one face or the other by chance."""
    for line in (MODELS, PAGE, b"GET /v1/telemetry?a HTTP/1.1\r\n", b"POST /v1x HTTP/1.1\r\n"):
        whole = is_for_gateway(line)
        assert whole is is_ours(line.split(b" ")[1].partition(b"?")[0])
        for cut in range(len(line)):
            assert is_for_gateway(line[:cut]) in (None, whole)
