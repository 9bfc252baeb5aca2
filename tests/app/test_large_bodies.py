"""Large bodies go past the loop, by threads of their own: exact, shared fairly, and nothing is left behind."""

import contextlib
import hashlib
import json
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from huggingface_hub import HfApi

from tests.receiver import until
from tests.running import ADMIN, Running, running

MIB = 1024 * 1024
HEAD = f"host: 127.0.0.1\r\nauthorization: Bearer {ADMIN}\r\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("bodies"), ECOTONE_CONVERT_SOON="0") as found:
        yield found


@pytest.fixture(scope="module")
def files(server: Running) -> dict[str, bytes]:
    """Bytes by path: of raw chunks, of packed ones, of both, and one that is kept whole."""
    noise = random.Random(5).randbytes(6 * MIB)
    packed = b"".join(struct.pack("<Q", n // 50) for n in range(MIB // 2))
    made = {"raw.bin": noise, "packed.bin": packed, "both.bin": noise[: 2 * MIB] + packed + noise[3 * MIB : 5 * MIB]}
    api = HfApi(endpoint=server.url, token=ADMIN)
    api.create_repo("team/bodies")
    for name, data in made.items():
        api.upload_file(path_or_fileobj=data, path_in_repo=name, repo_id="team/bodies")
    whole = noise[: 4 * MIB] + b"whole"
    assert put(server, whole).status_code == 200
    line = {"path": "whole.bin", "algo": "sha256", "oid": hashlib.sha256(whole).hexdigest(), "size": len(whole)}
    lines = [{"key": "header", "value": {"summary": "whole"}}, {"key": "lfsFile", "value": line}]
    commit = "\n".join(json.dumps(text) for text in lines)
    assert server.http.post("/api/models/team/bodies/commit/main", content=commit).status_code == 200
    return made | {"whole.bin": whole}


def address(server: Running, data: bytes, name: str | None = None) -> str:
    """A signed address to send an object to."""
    item = {"oid": name or hashlib.sha256(data).hexdigest(), "size": len(data)}
    body = {"operation": "upload", "transfers": ["basic"], "objects": [item]}
    found = server.http.post("/team/bodies.git/info/lfs/objects/batch", json=body).json()["objects"][0]
    href: str = found["actions"]["upload"]["href"]
    return href


def put(server: Running, data: bytes, name: str | None = None) -> httpx.Response:
    return httpx.put(address(server, data, name), content=data, timeout=60)


def connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=120)


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of the next answers on a connection."""
    file, found = connection.makefile("rb"), []
    for _ in range(count):
        status = int(file.readline().split()[1])
        size = 0
        while (line := file.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        found.append((status, file.read(size)))
    return found


def descriptors(server: Running) -> int:
    """Open files and sockets of all processes of the server."""
    assert server.process is not None
    found, count = [server.process.pid], 0
    for pid in found:
        with contextlib.suppress(OSError):  # a child that ends meanwhile has none open
            found += [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            count += len(os.listdir(f"/proc/{pid}/fd"))
    return count


def settled(server: Running, most: int) -> bool:
    for _ in range(1200):
        if descriptors(server) <= most:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", ["raw.bin", "packed.bin", "both.bin", "whole.bin"])
def test_every_range_of_every_form_is_exact(server: Running, files: dict[str, bytes], name: str) -> None:
    data, draw = files[name], random.Random(name)
    at = f"/team/bodies/resolve/main/{name}"
    assert server.http.get(at).content == data
    for _ in range(12):
        start = draw.randrange(len(data) - MIB)
        end = draw.randrange(start + MIB, len(data))
        answer = server.http.get(at, headers={"range": f"bytes={start}-{end}"})
        assert answer.status_code == 206 and answer.content == data[start : end + 1]


def test_requests_that_follow_on_one_connection_get_their_own_answers(server: Running, files: dict[str, bytes]) -> None:
    get = b"GET /team/bodies/resolve/main/both.bin HTTP/1.1\r\n" + HEAD + b"\r\n"
    small = b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n"
    with connect(server) as connection:
        connection.sendall(get + small + get + get + small)
        found = answers(connection, 5)
    assert [status for status, _ in found] == [200] * 5
    assert [body == files["both.bin"] for _, body in found] == [True, False, True, True, False]


def test_an_upload_and_what_follows_it_come_in_one_stream(server: Running, files: dict[str, bytes]) -> None:
    data = os.urandom(3 * MIB + 17)
    path = urlsplit(address(server, data)).path.encode()
    head = b"PUT " + path + b" HTTP/1.1\r\n" + HEAD + b"content-length: %d\r\n\r\n" % len(data)
    with connect(server) as connection:
        connection.sendall(head + data + b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n" + head + data)
        assert [status for status, _ in answers(connection, 3)] == [200, 200, 200]


@pytest.mark.parametrize("form", ["length", "chunked", "expect", "trickle"])
def test_a_body_comes_in_any_form(server: Running, files: dict[str, bytes], form: str) -> None:
    data = os.urandom(2 * MIB)
    path = urlsplit(address(server, data)).path.encode()
    more = b"transfer-encoding: chunked\r\n" if form == "chunked" else b"content-length: %d\r\n" % len(data)
    more += b"expect: 100-continue\r\n" if form == "expect" else b""
    with connect(server) as connection:
        connection.sendall(b"PUT " + path + b" HTTP/1.1\r\n" + HEAD + more + b"\r\n")
        if form == "expect":
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        if form == "chunked":
            connection.sendall(b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n")
        elif form == "trickle":
            for at in range(0, len(data), MIB // 4):
                connection.sendall(data[at : at + MIB // 4])
                time.sleep(0.03)
        else:
            connection.sendall(data)
        assert answers(connection, 1)[0][0] == 200


def test_a_body_that_is_refused_is_answered_and_the_connection_serves_on(
    server: Running, files: dict[str, bytes]
) -> None:
    data = os.urandom(2 * MIB)
    path = urlsplit(address(server, data, "a" * 64)).path.encode()
    head = b"PUT " + path + b" HTTP/1.1\r\n" + HEAD
    with connect(server) as connection:
        for _ in range(2):
            connection.sendall(head + b"content-length: %d\r\n\r\n" % len(data) + data)
            status, body = answers(connection, 1)[0]
            assert status == 400 and b"sha256" in body
        longer = data + bytes(20 * MIB)
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(longer) + longer)
        status, body = answers(connection, 1)[0]
        assert status == 413 and b"bytes announced" in body
        connection.sendall(b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert answers(connection, 1)[0][0] == 200


def test_clients_that_leave_in_the_middle_leave_nothing_behind(server: Running, files: dict[str, bytes]) -> None:
    data = os.urandom(3 * MIB)
    path = urlsplit(address(server, data)).path.encode()

    def leave(times: int) -> None:
        for _ in range(times):
            with connect(server) as connection:
                connection.sendall(b"GET /team/bodies/resolve/main/both.bin HTTP/1.1\r\n" + HEAD + b"\r\n")
                connection.recv(1000)
            with connect(server) as connection:
                head = b"PUT " + path + b" HTTP/1.1\r\n" + HEAD + b"content-length: %d\r\n\r\n" % len(data)
                connection.sendall(head + data[: 2 * MIB])

    before = descriptors(server)
    leave(30)
    # the pool of the database grows by some while several work at a time, and keeps them
    assert settled(server, before + 20), (before, descriptors(server))
    until(lambda: not list(server.data.joinpath("staging").iterdir()))
    assert put(server, data).status_code == 200


def test_a_hundred_clients_that_do_not_read_hold_up_nobody(server: Running, files: dict[str, bytes]) -> None:
    stalled: list[Any] = []
    try:
        for _ in range(100):
            connection = connect(server)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /team/bodies/resolve/main/raw.bin HTTP/1.1\r\n" + HEAD + b"\r\n")
            stalled.append(connection)
        began = time.monotonic()
        with ThreadPoolExecutor(4) as clients:
            found = list(
                clients.map(lambda name: server.http.get(f"/team/bodies/resolve/main/{name}").content, sorted(files))
            )
        assert found == [files[name] for name in sorted(files)]
        assert time.monotonic() - began < 60
    finally:
        for connection in stalled:
            connection.close()
