"""Limits shared by several processes: whatever dies, is cut off or comes back, nothing is overspent."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecotone.gateway.lease_redis import RedisCoordinator
from ecotone.gateway.lease_server import LeaseServer
from ecotone.gateway.leases import Grant, Need, Renewal
from ecotone.gateway.snapshot import Budget, Limit
from tests.gateway.spender import coordinator, totals
from tests.receiver import until
from tests.redis_server import RedisServer

pytestmark = pytest.mark.slow

CALL = 2 * 10**9
LIMIT = 1500 * CALL
BUDGET = {"project:p": Limit(budgets=(Budget(id="b", limit=LIMIT, window="total"),))}
SECONDS = 1.0


class Place:
    """A coordinator that can be started, stopped and told of the dead, with the journals of its workers."""

    where: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen[str]] = []

    def start(self, *, alone: bool = True) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def bury(self, name: str) -> None:
        """A worker is dead for good."""

    def worker(self, name: str, limits: dict[str, Limit], seconds: float, call: float = 0.0) -> subprocess.Popen[str]:
        return self.together([name], limits, seconds, call)[0]

    def together(
        self, names: list[str], limits: dict[str, Limit], seconds: float, call: float = 0.0
    ) -> list[subprocess.Popen[str]]:
        """Workers that begin when all of them are ready."""
        made = [self._worker(name, limits, seconds, call) for name in names]
        for worker in made:
            assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        for worker in made:
            assert worker.stdin is not None
            worker.stdin.write("begin\n")
            worker.stdin.flush()
        return made

    def _worker(self, name: str, limits: dict[str, Limit], seconds: float, call: float) -> subprocess.Popen[str]:
        told = self.folder / f"limits-{name}.json"
        told.write_bytes(msgspec.json.encode(limits))
        journal = self.folder / f"{name}.journal"
        script = Path(__file__).with_name("spender.py")
        command = [
            sys.executable,
            script,
            self.where,
            name,
            journal,
            self.folder / f"limits-{name}.json",
            seconds,
            call,
        ]
        made = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.workers.append(made)
        return made

    def spent(self) -> int:
        return sum(by["b"][1] for by in totals(self.folder, "b", "total").values())

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.stop()


class Socket(Place):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.where = str(folder / "s")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: LeaseServer | None = None

    def start(self, *, alone: bool = True) -> None:
        def read() -> dict[str, dict[str, tuple[str, int]]]:
            return totals(self.folder, "b", "total")

        self._server = LeaseServer(Path(self.where), read, seconds=SECONDS, alone=alone)
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(60)

    def stop(self) -> None:
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(60)
            self._server = None

    def end(self) -> None:
        super().end()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)


class Redis(Place):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = RedisServer(folder)
        self.where = self._server.url

    def start(self, *, alone: bool = True) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def bury(self, name: str) -> None:
        async def told() -> None:
            coordinator = RedisCoordinator(self.where, seconds=SECONDS)
            await coordinator.take_back(name, totals(self.folder, "b", "total")[name])
            await coordinator.close()

        asyncio.run(told())


@pytest.fixture(params=[Socket, Redis], ids=["socket", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param is Redis:
        pytest.importorskip("redis", reason="the extra `redis` is not installed")
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed (Debian's package redis-server)")
    with tempfile.TemporaryDirectory(prefix="lease", dir="/tmp") as folder:
        made: Place = request.param(Path(folder))
        made.start()
        yield made
        made.end()


def said(worker: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = worker.communicate(timeout=240)
    assert worker.returncode == 0
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_three_processes_spend_one_budget_to_its_end_and_not_beyond(place: Place) -> None:
    workers = place.together(["w0", "w1", "w2"], BUDGET, 9.0, call=0.05)
    told = [said(worker) for worker in workers]
    assert LIMIT * 0.98 <= place.spent() <= LIMIT  # slices may end a little early, never late
    ended = [(each["done"], each["refused"]) for each in told]
    assert all(done > 0 and refused.get("budget_exceeded", 0) > 0 for done, refused in ended), ended


def test_who_lacks_something_is_not_asked_to_give_it_back_at_once(place: Place) -> None:
    """It would get it and give it back, round after round, as long as another one lacks more."""

    def need(least: int, granted: int = 0) -> Need:
        return Need("b", "total", "money", float("inf"), LIMIT, 0, 0, granted, 0, least, least)

    async def rounds() -> list[Grant]:
        ends = [coordinator(place.where, seconds=SECONDS) for _ in range(2)]
        (first,) = (await ends[0].renew(Renewal("a", "1", [need(LIMIT - 2 * CALL)]))).grants
        (dry,) = (await ends[1].renew(Renewal("b", "1", [need(3 * CALL)]))).grants
        (more,) = (await ends[0].renew(Renewal("a", "1", [need(CALL, first.granted)]))).grants
        for end in ends:
            await end.close()
        return [first, dry, more]

    first, dry, more = asyncio.run(rounds())
    assert dry.dry and not dry.granted
    assert more.granted >= first.granted + CALL and not more.scarce


def test_with_a_slice_of_a_rate_comes_what_nobody_has(place: Place) -> None:
    """Answers tell callers what is left: of the whole rate, not of one worker's slice."""

    async def rounds() -> list[int]:
        ends = [coordinator(place.where, seconds=SECONDS) for _ in range(2)]
        found = []
        for name, end in zip("ab", ends, strict=True):
            want = Need("r", "", "requests", float("inf"), 6000, 0, 0, 0, 0, 1000, 0)
            (grant,) = (await end.renew(Renewal(name, "1", [want]))).grants
            assert grant.granted == 1000
            found.append(grant.free)
            await end.close()
        return found

    first, second = asyncio.run(rounds())
    assert 5000 <= first < 5990 and first - 1000 <= second < first, (first, second)


def test_a_worker_that_is_killed_gives_back_what_it_had_not_spent_and_no_more(place: Place) -> None:
    slow = {"project:p": Limit(budgets=BUDGET["project:p"].budgets)}
    victim = place.worker("victim", slow, 300.0, call=0.01)
    until(lambda: place.spent() > LIMIT // 10)
    victim.kill()
    victim.wait()
    time.sleep(SECONDS * 1.5)
    place.bury("victim")
    said(place.worker("heir", BUDGET, 5.0))
    assert LIMIT * 0.98 <= place.spent() <= LIMIT  # slices may end a little early, never late


def test_a_worker_that_starts_again_knows_what_it_spent_before(place: Place) -> None:
    worker = place.worker("w", BUDGET, 300.0, call=0.01)
    until(lambda: place.spent() > LIMIT // 10)
    worker.kill()
    worker.wait()
    said(place.worker("w", BUDGET, 4.0))
    assert LIMIT * 0.98 <= place.spent() <= LIMIT  # slices may end a little early, never late


def test_without_the_coordinator_a_worker_spends_its_slice_and_then_refuses(place: Place) -> None:
    workers = place.together(["w0", "w1"], BUDGET, 7.0, call=0.1)
    until(lambda: place.spent() > LIMIT // 20)
    place.stop()
    time.sleep(SECONDS + 0.5)

    def rests() -> bool:
        before = place.spent()
        time.sleep(1.0)
        return place.spent() == before

    until(rests)  # the lease has ended: nobody spends any more
    before = place.spent()
    assert before < LIMIT
    place.start(alone=False)
    told = [said(worker) for worker in workers]
    assert before < place.spent() <= LIMIT
    assert all(each["refused"].get("limits_unreachable", 0) > 0 for each in told)


def test_slots_are_shared_and_those_of_a_dead_worker_return_when_its_lease_ends(place: Place) -> None:
    limits = {"organisation": Limit(concurrent=5)}
    workers = place.together(["w0", "w1"], limits, 3.0, call=0.05)
    ends = [said(worker) for worker in workers]
    spans = [span for each in ends for span in each["running"]]
    events = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    at_once, most = 0, 0
    for _, change in events:
        at_once += change
        most = max(most, at_once)
    if not any(each["leases_ended"] for each in ends):  # as of one that this machine kept from running for a second
        assert 4 <= most <= 5
    greedy = place.worker("greedy", limits, 300.0, call=300.0)
    until(lambda: (place.folder / "greedy.journal").exists() and _lines(place.folder / "greedy.journal") == 5)
    greedy.kill()
    greedy.wait()
    told = said(place.worker("heir", limits, 4.0, call=0.01))
    assert told["done"] > 20


def test_requests_a_minute_are_shared(place: Place) -> None:
    limits = {"key:k": Limit(requests=200)}
    began = time.monotonic()
    workers = place.together(["w0", "w1", "w2"], limits, 3.0)
    told = [said(worker) for worker in workers]
    took = time.monotonic() - began  # in which a rate goes on giving
    done = sum(each["done"] for each in told)
    assert 0 < done <= 200 + took * 200 / 60 + 3
    if not any(each["leases_ended"] for each in told):  # with one, what is left of a rate's slice is gone
        assert done >= 190


def _lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    async def told() -> int:
        server = LeaseServer(tmp_path / "s", dict, alone=True)
        await server.start()
        mode = os.stat(tmp_path / "s").st_mode & 0o777
        await server.stop()
        return mode

    assert asyncio.run(told()) == 0o600


def test_a_line_that_a_worker_is_writing_is_not_counted_yet(tmp_path: Path) -> None:
    """One across a page of the file is there in part for a moment: `2` of `2000000000`, or no cost at all."""
    whole = "+1.1 2000000000\n-1.1 7\n"
    for part in ("+1.2 2", "+1.2 ", "+1.2", "-1.1 20000", "+"):
        (tmp_path / "w.journal").write_text(whole + part)
        assert totals(tmp_path, "b", "total") == {"w": {"b": ("total", 7)}}
