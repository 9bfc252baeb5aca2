"""`kill -9` under load: what a client was answered before is in the ledger afterwards, and the chain is whole."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ecotone.ledger import Ledger, explain
from tests.demo.provider import Provider
from tests.running import Running, running

BODY = {"model": "far/gpt", "messages": [{"role": "user", "content": "a thought of nobody's business"}]}


@contextlib.contextmanager
def made(folder: Path) -> Iterator[Running]:
    """A server with a project and a key (`server.key`) for a backend that answers."""
    provider = Provider()
    with running(folder, FAR_API_KEY="sk-of-the-provider") as found:
        found.told("backend", "add", "far", "--url", provider.url, "--key-env", "FAR_API_KEY")
        found.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial")
        found.key = found.told("key", "create", "--project", "shop")["key"]  # type: ignore[attr-defined]
        yield found
    provider.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with made(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Running:
    """One that has answered six calls at least and was ended in order. To be read only."""
    with made(tmp_path_factory.mktemp("stopped")) as found:
        until_callable(found)
        for _ in range(5):
            call(found)
    return found


def call(server: Running, **more: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {server.key}"}  # type: ignore[attr-defined]
    return httpx.post(server.url + "/v1/chat/completions", json=BODY | more, headers=headers, timeout=120)


def until_callable(server: Running) -> None:
    end = time.monotonic() + 120
    while (answer := call(server)).status_code != 200:
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)


@pytest.mark.parametrize("whom", ["the whole installation", "the server process alone"])
def test_every_acknowledged_request_is_told_after_kill_9(server: Running, whom: str) -> None:
    until_callable(server)
    acknowledged: list[str] = []
    stop = threading.Event()

    def load(stream: bool) -> None:
        while not stop.is_set():
            try:
                answer = call(server, stream=stream)
            except httpx.HTTPError:
                continue
            if answer.status_code == 200 and (not stream or answer.text.endswith("data: [DONE]\n\n")):
                acknowledged.append(answer.headers["x-request-id"])

    threads = [threading.Thread(target=load, args=(n % 2 == 0,)) for n in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 90
    while len(acknowledged) < 40 and time.monotonic() < end:
        time.sleep(0.05)
    if whom == "the whole installation":
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        server.start()
    else:
        os.kill(server.server_pid, signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join()
        server.wait_until_it_answers()
    assert len(acknowledged) >= 40
    ledger = Ledger(server.data / "ledger")
    for request_id in acknowledged[-20:]:
        kept = explain(ledger, request_id)
        assert kept is not None and kept["status"] == "done" and kept["completion_tokens"] == 7
    told = server.told("why", acknowledged[-1])
    assert told["status"] == "done" and told["completion_tokens"] == 7
    report = server.told("ledger", "verify")
    assert report["ok"], report
    usage = server.told("ledger", "usage")
    assert sum(row["requests"] for row in usage) >= len(acknowledged)
    until_callable(server)  # and goes on


def test_prompt_and_keys_are_in_no_file_and_no_log(stopped: Running) -> None:
    words = (b"nobody's business", stopped.key.encode(), b"sk-of-the-provider")  # type: ignore[attr-defined]
    assert (stopped.data / "ledger").is_dir() and stopped.log
    held = [f for f in stopped.folder.rglob("*") if f.is_file() and any(w in f.read_bytes() for w in words)]
    assert held == []


@pytest.mark.parametrize("how", ["changed", "cut", "removed", "swapped"])
def test_a_ledger_that_somebody_touched_is_named_with_its_place(stopped: Running, tmp_path: Path, how: str) -> None:
    server = Running(tmp_path / "copy")  # at its end a checkpoint was signed and the heads were kept
    subprocess.run(["cp", "-a", stopped.data, server.data], check=True)
    (segment,) = (server.data / "ledger" / "server").glob("*.jsonl") or [None]
    whole = segment.read_bytes()
    lines = whole.splitlines(keepends=True)
    if how == "changed":
        at = len(whole) // 2
        segment.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif how == "cut":
        segment.write_bytes(b"".join(lines[:-3]))
    elif how == "removed":
        segment.write_bytes(b"".join(lines[:4] + lines[5:]))
    else:
        segment.write_bytes(b"".join([*lines[:4], lines[5], lines[4], *lines[6:]]))
    try:
        server.start()
        bad = server.cli("ledger", "verify")
    finally:
        server.stop()
    assert bad.returncode != 0
    assert segment.name in bad.stderr and "record" in bad.stderr
