"""Clients that hold without giving or taking: they are ended, and meanwhile others are served and memory stays."""

import contextlib
import os
import re
import secrets
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.test_restart import MIB, publish_large, upload_address
from tests.receiver import until
from tests.running import ADMIN, Running, running

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"
HOST = "host: localhost\r\n"
MANY = 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    brief = {"ECOTONE_BODY_SECONDS": "4", "ECOTONE_STALLED_SECONDS": "4"}
    with running(tmp_path_factory.mktemp("slow"), **brief) as found:
        publish_large(found, "demo/big", secrets.token_bytes(24 * MIB))
        yield found


def opened(server: Running, *, receive: int = 0) -> socket.socket:
    made = socket.socket()
    if receive:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    made.settimeout(90)
    made.connect(("127.0.0.1", server.port))
    return made


def resident(pid: int) -> int:
    """Bytes of anonymous memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def is_ended(connection: socket.socket) -> bool:
    """Whether the other side ends the connection soon; whatever still comes is read."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_slow_uploads_and_stalled_downloads_hold_nobody_else_up(server: Running) -> None:
    """A hundred of each, on real sockets: other people's requests are answered, and all that was held is given back."""
    pid = server.server_pid
    server.http.get("/demo/big/resolve/main/big.bin")
    memory, files = resident(pid), descriptors(pid)
    data = secrets.token_bytes(64)
    address = upload_address(server, "demo/big", data).removeprefix(server.url)
    with contextlib.ExitStack() as stack:
        uploads = [stack.enter_context(opened(server)) for _ in range(MANY)]
        downloads = [stack.enter_context(opened(server, receive=4096)) for _ in range(MANY)]
        for upload in uploads:
            upload.sendall(f"PUT {address} HTTP/1.1\r\n{HOST}content-length: {len(data)}\r\n\r\n".encode() + data[:1])
        for download in downloads:
            download.sendall(f"GET /demo/big/resolve/main/big.bin HTTP/1.1\r\n{HOST}\r\n".encode())
        began, took = time.monotonic(), list[float]()
        for number in range(15):
            asked = time.monotonic()
            assert httpx.get(server.url + "/health/ready", timeout=120).status_code == 200
            server.publish(f"demo/other{number % 3}", {"README.md": CARD + bytes(str(number), "ascii")})
            took.append(time.monotonic() - asked)
        print(f"answers after {sorted(took)} s, anonymous memory {memory / MIB:.0f} -> {resident(pid) / MIB:.0f} MiB")
        assert statistics.median(took) < 10 and max(took) < 90  # others may hold this machine up, too
        assert resident(pid) - memory < 4 * MIB * MANY
        time.sleep(max(0.0, 4.5 - (time.monotonic() - began)))
        for upload in uploads:
            assert upload.recv(4096).startswith(b"HTTP/1.1 408")
        end = time.monotonic() + 90
        while descriptors(pid) > files + 40 and time.monotonic() < end:
            time.sleep(0.2)
        assert descriptors(pid) <= files + 40, "connections and files are given back"
    assert "took nothing for 4 s" in server.log
    assert "Traceback" not in server.log


def test_a_body_that_trickles_below_the_rate_is_ended_with_408(server: Running) -> None:
    """Bytes now and then keep no connection for ever."""
    data = secrets.token_bytes(100_000)
    address = upload_address(server, "demo/big", data).removeprefix(server.url)
    with opened(server) as slow:
        slow.sendall(f"PUT {address} HTTP/1.1\r\n{HOST}content-length: {len(data)}\r\n\r\n".encode())
        began, answer = time.monotonic(), b""
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 100:
                slow.sendall(b"x" * 100)
                slow.settimeout(0.3)
                with contextlib.suppress(TimeoutError):
                    if answer := slow.recv(4096):
                        break
        assert answer.startswith(b"HTTP/1.1 408") and b"connection: close" in answer
        assert 3 < time.monotonic() - began < 90  # all of it would take five minutes
    assert 'reason="body_missing"' in server.http.get("/metrics").text


def test_a_body_that_is_slow_but_steady_arrives(server: Running) -> None:
    data = secrets.token_bytes(24_000)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), 1000):
            time.sleep(0.25)
            yield data[start : start + 1000]

    answer = httpx.put(
        upload_address(server, "demo/big", data),
        content=pieces(),
        headers={"content-length": str(len(data))},
        timeout=120,
    )
    assert answer.status_code == 200


def test_a_slow_reader_who_takes_something_is_not_ended(server: Running) -> None:
    def reads_on() -> bool:
        with opened(server, receive=16384) as reader:
            reader.sendall(f"GET /demo/big/resolve/main/big.bin HTTP/1.1\r\n{HOST}\r\n".encode())
            began = time.monotonic()
            while time.monotonic() - began < 6:
                if not reader.recv(8192):
                    return False
                time.sleep(0.05)
        return True

    assert any(
        reads_on() for _ in range(5)
    )  # the machine may hold a reader up for four seconds, who takes nothing then


def test_slow_shards_leave_room_for_others(server: Running) -> None:
    """Two places check shards: a client that sends one slowly must not hold one."""
    head = {"authorization": f"Bearer {ADMIN}"}
    told = server.http.get("/api/models/demo/big/xet-write-token/main", headers=head).json()
    path = told["casUrl"].removeprefix(server.url) + "/v1/shards"
    fields = f"{HOST}authorization: Bearer {told['accessToken']}\r\ncontent-length: 100000\r\n\r\n"
    took = []
    while not took or (min(took) >= 3 and len(took) < 5):  # others may hold this machine up, too
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(opened(server)).sendall(f"POST {path} HTTP/1.1\r\n{fields}".encode() + b"x")
            asked = time.monotonic()
            answer = httpx.post(
                told["casUrl"] + "/v1/shards",
                content=b"no shard",
                headers={"authorization": f"Bearer {told['accessToken']}"},
                timeout=120,
            )
            assert answer.status_code == 400
            took.append(time.monotonic() - asked)
    assert min(took) < 3


def test_what_all_bodies_hold_together_is_bounded(tmp_path: Path) -> None:
    """Many commits sent slowly would fill the memory of the server."""
    with running(tmp_path, ECOTONE_RECEIVING_BYTES=str(8 * MIB)) as found:
        found.publish("demo/x", {"README.md": CARD})
        fields = f"{HOST}authorization: Bearer {ADMIN}\r\ncontent-length: {64 * MIB}\r\n\r\n"
        memory = resident(found.server_pid)
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                one = stack.enter_context(opened(found))
                one.sendall(f"POST /api/models/demo/x/commit/main HTTP/1.1\r\n{fields}".encode())
                one.sendall(b"x" * (12 * MIB))
            time.sleep(1)
            held = resident(found.server_pid) - memory
            print(f"eight bodies of 12 MiB hold {held / MIB:.0f} MiB")
            assert held < 60 * MIB
            assert httpx.get(found.url + "/health/ready").status_code == 200
        until(lambda: uploads_under_way(found) == 0)  # the server has seen that they left, and has its room back
        assert found.http.post("/api/models/demo/x/paths-info/main", json={"paths": ["README.md"]}).status_code == 200
        found.publish("demo/y", {"big.txt": b"x" * (6 * MIB)})


def uploads_under_way(server: Running) -> float:
    told = re.search(r'ecotone_transfers_in_flight{direction="in",face="hub"} (\S+)', server.http.get("/metrics").text)
    assert told is not None
    return float(told[1])


def test_connections_of_one_address_can_be_bounded(tmp_path: Path) -> None:
    with running(tmp_path, ECOTONE_CONNECTIONS_PER_ADDRESS="5") as found, contextlib.ExitStack() as stack:
        until(found.is_left)
        for _ in range(5):
            stack.enter_context(opened(found))
        with opened(found) as sixth:
            assert sixth.recv(4096).startswith(b"HTTP/1.1 429")
        stack.close()
        until(found.is_left)
        assert httpx.get(found.url + "/health").status_code == 200
