"""Many requests on one connection, and threads that work for one: nobody else pays for it."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from ecotone.app.protocol import BoundedHttp
from ecotone.app.receiving import _Pull, turn_in
from ecotone.app.sending import _Push
from ecotone.storage.files import Draft
from tests.running import Running, free_port, running

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("pipelines")) as found:
        yield found


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_stranger_who_sends_requests_faster_than_they_are_answered_does_not_fill_the_memory(server: Running) -> None:
    head = b"GET /nope HTTP/1.1\r\nhost: 127.0.0.1\r\na: "
    many = (head + b"b" * (64 - len(head) - 4) + b"\r\n\r\n") * 1024  # whole requests in each piece that is read
    before = resident(server.server_pid)
    with socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection:
        reading = threading.Thread(target=drained, args=(connection,), daemon=True)
        reading.start()
        end = time.monotonic() + 4
        with contextlib.suppress(OSError):  # the server reads no more of them: as it should be
            while time.monotonic() < end:
                connection.sendall(many)
        assert resident(server.server_pid) - before < 60 * MIB
    assert server.http.get("/health").status_code == 200


def drained(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(MIB):
            pass


def test_all_requests_that_came_at_once_are_answered_in_turn(server: Running) -> None:
    one = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(one * 300)
        connection.sendall(one * 300 + one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        with connection.makefile("rb") as answers:
            assert answers.read().count(b"HTTP/1.1 200 OK\r\n") == 601


def test_work_for_a_client_that_left_ends_though_it_had_asked_for_more() -> None:
    """Uvicorn tells the newest request of a connection alone."""
    begun, left = threading.Event(), threading.Event()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    port = free_port()
    served = uvicorn.Server(uvicorn.Config(app, port=port, http=BoundedHttp, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    while not served.started:
        time.sleep(0.01)
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
            assert begun.wait(60)
            time.sleep(0.1)
        assert left.wait(60)
    finally:
        served.should_exit = True
        thread.join(10)


def test_a_thread_is_out_of_a_connection_before_its_descriptor_may_become_another_one() -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def turn() -> bool:
        began.set()
        assert go_on.wait(60)
        ended.set()
        return True

    async def cancelled() -> bool:
        with ThreadPoolExecutor(1) as threads:
            task = asyncio.create_task(turn_in(threads, turn))
            await asyncio.to_thread(began.wait)
            task.cancel()
            await asyncio.sleep(0.01)
            task.cancel()
            asyncio.get_running_loop().call_later(0.1, go_on.set)
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return ended.is_set() and task.cancelled()

    assert asyncio.run(cancelled())


def test_a_late_write_of_an_upload_that_was_given_up_meets_no_other_file(tmp_path: Path) -> None:
    draft = Draft(tmp_path, "object")
    draft.write(b"one")
    draft.__exit__()
    other = os.open(tmp_path / "ledger", os.O_RDWR | os.O_CREAT)  # gets the descriptor that is free now
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            draft.write(b"two")
        assert os.fstat(other).st_size == 0
    finally:
        os.close(other)


def test_an_upload_that_never_pauses_leaves_its_thread_to_others_now_and_then() -> None:
    ours, theirs = socket.socketpair()
    size, stop = 400 * MIB, threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                theirs.sendall(bytes(MIB))

    ours.setblocking(False)
    threading.Thread(target=send, daemon=True).start()
    pieces: list[int] = []

    def take(piece: memoryview) -> None:  # as a slow disk does
        pieces.append(len(piece))
        time.sleep(0.02)

    pull = _Pull(ours.fileno(), take, memoryview(b""), size, None)
    assert pull.turn() is False
    assert len(pieces) < 200  # of 800, which would take 16 s
    stop.set()
    ours.close()
    theirs.close()


def test_a_download_that_never_waits_leaves_its_thread_to_others_now_and_then() -> None:
    ours, theirs = socket.socketpair()

    unpacked: list[int] = []

    def slow() -> Iterator[bytes]:  # as chunks that take time to be unpacked
        for number in range(500):
            time.sleep(0.02)
            unpacked.append(number)
            yield bytes(100)

    ours.setblocking(False)
    reading = threading.Thread(target=drained, args=(theirs,), daemon=True)
    reading.start()
    push = _Push(ours.fileno(), slow(), None)
    assert push.turn() is False
    assert len(unpacked) < 250  # all of it would take 10 s
    push.close()
    ours.close()
    reading.join(60)
    theirs.close()
