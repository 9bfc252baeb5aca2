"""Budgets and limits that several machines share by a real Redis: `ECOTONE_LIMITS_URL`."""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.gateways import Gateways
from tests.app.test_gateways import budgeted, outcome, spent
from tests.gateway.conftest import Provider
from tests.receiver import until
from tests.redis_server import RedisServer, needs_redis
from tests.running import running

pytestmark = [pytest.mark.slow, needs_redis]

CALL = 18 * 10**6
PASSWORD = "a-password-of-redis"


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path_factory.mktemp("r"), PASSWORD)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider()
    yield found
    found.stop()


def spend(tree: Gateways, statuses: "Counter[int | str]", until: Callable[[], bool]) -> threading.Thread:
    """Call until the budget or the time is at its end."""

    def call() -> None:
        end = time.monotonic() + 150
        while time.monotonic() < end and not until():
            # a connection for each, so that every worker has its part
            with contextlib.suppress(httpx.HTTPError), tree.client() as client:
                answer = tree.post(client, "fake/gpt-test", max_tokens=7)
                statuses[outcome(answer)] += 1
                if answer.status_code != 200:
                    time.sleep(0.2)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_machines_together_spend_one_budget_and_not_more(
    redis: RedisServer, provider: Provider, tmp_path: Path
) -> None:
    """Also when a worker is killed: what it was lent and did not spend is free again, for others too."""
    calls = 240
    trees = [
        Gateways(tmp_path / name, workers=workers, ECOTONE_LIMITS_URL=redis.url)
        for name, workers in (("a", 2), ("b", 1))
    ]
    statuses: Counter[int | str] = Counter()
    try:
        for tree in trees:
            tree.place(budgeted(provider, calls))
            tree.start()
        threads = [spend(tree, statuses, lambda: statuses["budget_exceeded"] >= 12) for tree in (*trees, *trees)]
        until(lambda: statuses[200] >= calls // 5)
        os.kill(trees[0].pids[0], signal.SIGKILL)
        for thread in threads:
            thread.join(160)
            assert not thread.is_alive()
        assert statuses["budget_exceeded"] > 0
    finally:
        for tree in trees:
            tree.stop()
    spent_by = [spent(tree) for tree in trees]
    print(f"{dict(statuses)}, calls spent {[cost / CALL for cost in spent_by]} of {calls}")
    assert 0.8 * calls * CALL <= sum(spent_by) <= calls * CALL
    assert min(spent_by) > 0, "both had a part"
    assert all(PASSWORD not in tree.log for tree in trees)


def test_without_redis_a_machine_spends_its_slice_then_refuses_and_goes_on_when_it_is_back(
    redis: RedisServer, provider: Provider, tmp_path: Path
) -> None:
    tree = Gateways(tmp_path / "a", workers=1, ECOTONE_LIMITS_URL=redis.url)
    tree.place(budgeted(provider, 10_000))
    try:
        tree.start()
        with tree.client() as client:
            until(lambda: tree.post(client, "fake/gpt-test", max_tokens=7).status_code == 200)
            redis.stop()

            def is_out_of_reach() -> bool:
                refused = tree.post(client, "fake/gpt-test", max_tokens=7)
                return outcome(refused) == "limits_unreachable" and "retry-after" in refused.headers

            until(is_out_of_reach)
            ready = client.get("/health/ready")
            assert (ready.status_code, ready.json()["checks"]["limits"]) == (503, "out of reach")
            redis.start()
            until(lambda: tree.post(client, "fake/gpt-test", max_tokens=7).status_code == 200)
            until(lambda: client.get("/health/ready").status_code == 200)
    finally:
        tree.stop()
    assert PASSWORD not in tree.log


def test_what_a_worker_that_never_comes_back_had_not_spent_is_free_again(
    redis: RedisServer, provider: Provider, tmp_path: Path
) -> None:
    """The machine died, and has fewer workers now: its ledger tells Redis what the lost one spent."""
    tree = Gateways(tmp_path / "a", workers=2, ECOTONE_LIMITS_URL=redis.url)
    tree.place(budgeted(provider, 10_000))
    tree.start()
    statuses: Counter[int | str] = Counter()
    threads = [spend(tree, statuses, lambda: tree.process is None or tree.process.poll() is not None) for _ in "1234"]
    assert tree.process is not None
    pot = "{ecotone}:lease:b@total"

    def lost_has() -> int:
        names = redis.ask("hkeys", pot).split()
        lost.extend(name[2:] for name in names if name.startswith("e:") and name.endswith("gw2a") and not lost)
        return int(redis.ask("hget", pot, f"g:{lost[0]}").strip() or 0) if lost else 0

    lost: list[str] = []
    try:
        until(lambda: lost_has() > 0 and statuses[200] > 40)
    finally:
        os.killpg(tree.process.pid, signal.SIGKILL)
        tree.process.wait(60)
    for thread in threads:
        thread.join(90)
    tree.workers = 1
    try:
        tree.start()
        until(lambda: redis.ask("hget", pot, f"e:{lost[0]}").strip() == "taken back")
        redis.ask("flushall")
        until(lambda: redis.ask("hget", pot, f"e:{lost[0]}").strip() == "taken back")
    finally:
        tree.stop()
    told = int(redis.ask("hget", pot, f"b:{lost[0]}"))
    records = tree.ledger.records("settled", writer="gw2a")  # with those that it left open, as estimates
    assert told == sum(record["cost"] or 0 for record in records) // 1000 > 0
    assert redis.ask("hget", pot, f"g:{lost[0]}").strip() == "0"


def test_a_server_and_its_gateway_count_requests_together(
    redis: RedisServer, provider: Provider, tmp_path: Path
) -> None:
    """On one data folder they counted each for itself: twice as much passed."""
    with running(tmp_path / "hub", FAR_API_KEY="sk-far", ECOTONE_LIMITS_URL=redis.url) as server:
        server.told("backend", "add", "far", "--url", provider.url, "--key-env", "FAR_API_KEY")
        server.told("project", "create", "shop", "--mode", "serve_api", "--purpose", "commercial", "--requests", "12")
        key = server.told("key", "create", "--project", "shop")["key"]
        tree = Gateways(server.folder, workers=1, ECOTONE_LIMITS_URL=redis.url, FAR_API_KEY="sk-far")
        try:
            tree.start()
            until(lambda: _models(tree.url, key) == _models(server.url, key) == 200)
            until(lambda: _chat(server.url, key)[0] == 200)  # an empty Redis lends nothing for a lease's time
            began = time.monotonic()
            statuses = [_chat(url, key) for _ in range(12) for url in (server.url, tree.url)]
            took = time.monotonic() - began
        finally:
            tree.stop()
        assert server.http.get("/health/ready").json()["checks"]["limits"] == "ok"
    print(Counter(statuses))
    assert set(statuses) == {(200, ""), (429, "rate_limit_exceeded")}
    assert 8 <= statuses.count((200, "")) <= 13 + took / 5, "12 a minute, and what some seconds give back"
    assert PASSWORD not in server.log


def _models(url: str, key: str) -> int:
    return httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code


def _chat(url: str, key: str) -> tuple[int, str]:
    """The status, and the code of a refusal; asked again where Redis took longer than it may, on a busy machine."""
    body = {"model": "far/gpt-test", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 7}
    headers = {"authorization": f"Bearer {key}"}
    end = time.monotonic() + 60
    while True:
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120)
        told = answer.status_code, answer.json().get("error", {}).get("code", "")
        if told != (503, "limits_unreachable") or time.monotonic() > end:
            return told
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://redis", "redis://, rediss:// or unix://"),
        (f"redis://:{PASSWORD}@host:port/0", "cannot be read"),
    ],
)
def test_a_wrong_address_is_told_at_the_start_without_its_password(url: str, told: str, tmp_path: Path) -> None:
    tree = Gateways(tmp_path, workers=1, ECOTONE_LIMITS_URL=url)
    tree.start(wait=False)
    assert tree.process is not None
    assert tree.process.wait(120) == 1
    assert told in tree.log and "ECOTONE_LIMITS_URL" in tree.log
    assert PASSWORD not in tree.log and "Traceback" not in tree.log
