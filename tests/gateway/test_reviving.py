"""Requests whose engine dies under them: asked again before the first byte, told after it, booked once."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.gateway.test_tasks_face import TASKS, engine_at, place, records, settled
from tests.receiver import until


class Mortal:
    """Engines in processes of their own, each on a socket of its own: a slow one that is killed, and a quick one."""

    def __init__(self, house: Any, folder: Path) -> None:
        self.house, self.folder = house, folder
        self.processes = [self._made(number) for number in range(2)]
        self._took: Counter[int] = Counter()
        self.start()

    @property
    def took(self) -> int:
        """Requests that came to the engine that is there; what a dead one says late is not the next one's."""
        return self._took[self.processes[0].pid]

    def _made(self, number: int) -> "subprocess.Popen[bytes]":
        engine = Path(__file__).with_name("engine.py")
        made = subprocess.Popen(
            [sys.executable, engine, self.socket(number), ("90", "1")[number]], stdout=subprocess.PIPE
        )
        assert made.stdout is not None and made.stdout.readline() == b"ready\n"
        return made

    def socket(self, number: int) -> str:
        return str(self.folder / f"{number}.sock")

    def start(self) -> None:
        """The next engine is there."""
        threading.Thread(target=self._count, args=(self.processes[0],), daemon=True).start()
        self.say(socket=self.socket(2 - len(self.processes)), ready=True)

    def _count(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for _ in process.stdout:
            self._took[process.pid] += 1

    def kill(self) -> None:
        process = self.processes.pop(0)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def say(self, *, socket: str | None, ready: bool, **more: Any) -> None:
        targets = dict(self.house.snapshots.current.targets)
        for name in TASKS:
            made = engine_at(f"demo/{name}", None, ready=ready, **more)
            targets[f"demo/{name}"] = msgspec.structs.replace(made, socket=socket)
        place(self.house, targets=targets)

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + 90
        while self.took < count:
            assert time.monotonic() < end, f"{self.took} of {count} requests came"
            time.sleep(0.01)


@pytest.fixture
def patience() -> dict[str, float]:
    """The next engine comes a moment after the death of one: on a busy machine a long one."""
    return {"upstream_first": 60.0, "upstream_idle": 60.0, "engine_wait": 60.0}


@pytest.fixture
def mortal(house: Any, tmp_path: Path) -> Iterator[Mortal]:
    found = Mortal(house, tmp_path)
    yield found
    while found.processes:
        found.kill()


def ask(house: Any, number: int) -> tuple[int, str, str]:
    """One of several kinds of requests; the status, a word of the answer, how the answer says it was made."""
    said = {"messages": [{"role": "user", "content": f"slowly {number}"}], "model": "demo/llama"}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/models/demo/bert", {"inputs": f"slowly [MASK] {number}"}),
        ("/models/demo/llama", {"inputs": f"slowly {number}", "stream": True}),
        ("/v1/chat/completions", said),
        ("/v1/chat/completions", {**said, "stream": True}),
    ]
    path, body = kinds[number % len(kinds)]
    with httpx.Client(base_url=house.url, timeout=120, trust_env=False) as client:
        answer = client.post(path, json=body, headers={"authorization": "Bearer eck_shop"})
    return answer.status_code, answer.text, answer.headers["x-ecotone-reason"]


def test_requests_under_way_go_on_when_a_killed_engine_comes_back(house: Any, mortal: Mortal) -> None:
    """`kill -9` under load: what had no byte yet is asked again once, and booked once."""
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(ask, house, number) for number in range(12)]
        mortal.wait_for(12)
        mortal.kill()
        time.sleep(0.15)  # its supervisor has not noticed yet
        mortal.say(socket=None, ready=False, starting=True, note="starting")
        late = pool.submit(ask, house, 0)
        time.sleep(0.1)
        mortal.start()
        answers = [w.result() for w in [*waiting, late]]
    assert [a for a in answers if a[0] != 200] == []
    assert all("France" in text or "Paris" in text for _, text, _ in answers)
    assert all("failed" in why for _, _, why in answers[:12])
    mortal.wait_for(13)
    settled(house)
    assert mortal.took == 13
    booked = records(house, "settled")
    assert len(booked) == 13 and all(r["status"] == "done" for r in booked), "each is booked once"
    failed = records(house, "failed")
    assert len(failed) == 12 and not any("prompt_tokens" in r for r in failed), "what the dead one did costs nobody"
    assert not house.gateway.chooser.rests("demo/bert")


def test_requests_of_a_killed_replica_go_to_the_other_at_once(house: Any, mortal: Mortal) -> None:
    sockets = (mortal.socket(0), mortal.socket(1))
    mortal.say(socket=sockets[0], ready=True, sockets=sockets)
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(ask, house, number) for number in range(12)]
        mortal.wait_for(2)
        mortal.kill()
        answers = [w.result() for w in waiting]
    assert [a for a in answers if a[0] != 200] == []
    assert 0 < sum("failed" in why for _, _, why in answers) < 12, "those of the living one were left alone"
    settled(house)
    assert len(records(house, "settled")) == 12


def test_an_engine_that_does_not_come_back_is_told_and_others_are_unharmed(house: Any, mortal: Mortal) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask, house, number) for number in range(4)]
        mortal.wait_for(4)
        other = pool.submit(house.post, "fake/gpt-slow", "Hello", stream=True)
        mortal.kill()
        mortal.say(socket=None, ready=False, note="failed: it died")
        answers = [w.result() for w in waiting]
        assert other.result().text.endswith("data: [DONE]\n\n")
    assert {status for status, _, _ in answers} == {502}
    assert all("cannot be reached" in text for _, text, _ in answers)
    settled(house)
    assert {r["status"] for r in records(house, "settled")} == {"failed", "done"}


@pytest.mark.parametrize("through", ["connections"], indirect=True)
def test_a_stream_that_began_without_an_event_goes_on_with_the_next_engine_and_shows_that_it_lives(
    house: Any, mortal: Mortal
) -> None:
    house.gateway.stream_hold = house.gateway.alive_seconds = 0.2
    body = {"model": "demo/llama", "messages": [{"role": "user", "content": "slowly"}], "stream": True}
    with house.client.stream(
        "POST", "/v1/chat/completions", json=body, headers={"authorization": "Bearer eck_shop"}, timeout=120
    ) as answer:
        parts = answer.iter_raw()
        assert next(parts).startswith(b": waiting")
        mortal.wait_for(1)
        mortal.kill()
        mortal.say(socket=None, ready=False, starting=True, note="starting")
        time.sleep(0.6)
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            assert next(parts).startswith(b": waiting"), "nothing is heard while the next engine starts"
        mortal.start()
        rest = b"".join(parts)
    assert rest.endswith(b"data: [DONE]\n\n") and b"error" not in rest and rest.count(b"[DONE]") == 1
    assert settled(house)["status"] == "done"
    assert len(records(house, "settled")) == 1


def test_a_stream_that_had_begun_is_not_begun_again(house: Any, mortal: Mortal) -> None:
    body = {"inputs": "pausing", "stream": True}
    with house.client.stream(
        "POST", "/models/demo/llama", json=body, headers={"authorization": "Bearer eck_shop"}
    ) as a:
        lines = a.iter_lines()
        assert "token" in next(lines)
        mortal.kill()
        mortal.start()
        rest = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
    assert rest[-1]["error_type"] == "incomplete_generation"
    assert mortal.took == 0
    assert settled(house)["status"] == "upstream_died"


def test_a_request_whose_client_leaves_while_the_engine_is_away_is_over(house: Any, mortal: Mortal) -> None:
    mortal.kill()
    body = b'{"inputs": "[MASK]"}'
    head = b"POST /models/demo/bert HTTP/1.1\r\nhost: x\r\nauthorization: Bearer eck_shop\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.port), timeout=60) as client:
        client.sendall(head % len(body) + body)
        until(lambda: any(job.revived for job in list(house.gateway.jobs)))
    assert settled(house)["status"] == "client_gone"
    mortal.start()
    time.sleep(0.3)
    assert mortal.took == 0 and not house.gateway.jobs
