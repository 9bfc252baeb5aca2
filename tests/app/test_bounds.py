"""What a stranger may make the server hold, and the paths that need no login: bounded, exact."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ecotone.app import connections
from ecotone.settings import Settings
from tests.running import ADMIN, Running, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("bounds"), ECOTONE_ANONYMOUS_READ="0") as found:
        yield found


def talk(server: Running, *pieces: bytes, wait: float = 90) -> bytes:
    """Send pieces on one connection; what came back until the other side closed or fell silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while part := connection.recv(65536):
                answer += part
        except (TimeoutError, ConnectionError):
            pass
        return answer


BRIEF = {"ECOTONE_BODY_SECONDS": "1"}
HOST = b"host: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "head",
    [b"x: a\r\n" * 100_000, b"x: " + b"a" * 5_000_000, b""],
    ids=["many fields", "one long field", "a long address"],
)
def test_a_head_without_bound_is_cut_off(server: Running, head: bytes) -> None:
    first = b"GET /" + (b"" if head else b"a" * 5_000_000) + b" HTTP/1.1\r\n"
    pieces = [(first + HOST + head)[i : i + 65536] for i in range(0, len(first + head), 65536)]
    answer = talk(server, *pieces)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert httpx.get(server.url + "/health").status_code == 200


def test_a_head_of_ordinary_size_passes_and_connections_are_kept(server: Running) -> None:
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3):
            answer = client.get("/health", headers={"x-long": "a" * 30_000})
            assert answer.status_code == 200
    pipelined = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /health HTTP/1.1\r\nconnection: close\r\n" + HOST + b"\r\n"
    assert talk(server, pipelined * 3 + last).count(b"HTTP/1.1 200") == 4


def test_a_head_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert connections.HEAD_SECONDS <= 60
    slow = tmp_path / "sitecustomize.py"
    slow.write_text(
        "import importlib.abc, sys\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'ecotone.app.server':\n"
        "            from ecotone.app import connections\n"
        "            connections.HEAD_SECONDS = 1.0\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    with running(
        tmp_path / "home", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]), **BRIEF
    ) as found:
        began = time.monotonic()
        assert talk(found, b"GET /health HTTP/1.1\r\nho").startswith(b"HTTP/1.1 408")
        assert talk(found, b"").startswith(b"HTTP/1.1 408")
        fields = f"authorization: Bearer {ADMIN}\r\ncontent-length: 100\r\n\r\n".encode()
        body = talk(found, b"POST /api/ecotone/v1/projects HTTP/1.1\r\n" + HOST + fields + b'{"name"')
        assert body.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 55  # and not the minute that the rest of a head may take
        assert "Traceback" not in found.log
        assert Settings().body_seconds == 60


@pytest.mark.parametrize(
    "hosts", [b"", b"host: [\r\n", b"host: evil.example\r\n" + HOST, HOST + b"host: evil.example\r\n"]
)
def test_a_host_that_is_none_or_several_is_turned_away(server: Running, hosts: bytes) -> None:
    answer = talk(server, b"GET /health HTTP/1.1\r\nconnection: close\r\n" + hosts + b"\r\n")
    assert answer.split(b" ")[1] in (b"400", b"421")
    assert "Traceback" not in server.log


@pytest.mark.parametrize("namespace", ["v1x", "healthy", "loginx", "logout-a", "staticx", "casual"])
def test_a_name_that_begins_like_a_face_needs_a_login_as_any_other(server: Running, namespace: str) -> None:
    server.publish(f"{namespace}/m", {"README.md": b"---\nlicense: mit\n---\n# M\n"})
    for path in (f"/{namespace}/m", f"/{namespace}/m/resolve/main/README.md", f"/api/models/{namespace}/m"):
        assert httpx.get(server.url + path).status_code in (303, 401), path
        assert server.http.get(path).status_code == 200, path


def test_a_client_that_leaves_in_the_middle_of_a_body_floods_no_log(server: Running) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            fields = f"authorization: Bearer {ADMIN}\r\ncontent-length: 100000\r\n\r\n".encode()
            connection.sendall(b"POST /api/ecotone/v1/projects HTTP/1.1\r\n" + HOST + fields + b"{")
    time.sleep(0.5)
    assert "Traceback" not in server.log
