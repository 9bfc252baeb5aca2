"""Streams that become longer than what was reserved for them, at several machines at once, on one budget in Redis."""

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import pytest

from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Budget, Limit
from tests.app.gateways import Gateways
from tests.app.test_gateways import spent
from tests.gateway.conftest import Provider, snapshot
from tests.gateway.wires import DONE, EACH, STREAM, Wire, chunked, delta, whole
from tests.receiver import until
from tests.redis_server import RedisServer, needs_redis
from tests.running import free_port

pytestmark = [pytest.mark.slow, needs_redis]

STREAMS = 18
RESERVED = 4096
"""Tokens that a request holds money for whose length nobody limits."""
POT = "{ecotone}:lease:b@total"


class Machines:
    """Two process trees, of two workers and of one, with one budget of so many tokens, each of 10^-6 USD."""

    def __init__(self, folder: Path, redis: RedisServer, tokens: int) -> None:
        self.redis, self.tokens, self.longest = redis, tokens, 0
        self.provider, self.wire = Provider(), Wire(self._answer)
        self.trees = [
            Gateways(folder / name, workers=workers, ECOTONE_LIMITS_URL=redis.url)
            for name, workers in (("a", 2), ("b", 1))
        ]
        self._together = threading.Barrier(STREAMS)

    def _answer(self, connection: socket.socket, number: int) -> None:
        """As many tokens as were thought of; then, once all have them, 500 a second and more."""
        if not self.wire.bodies[number - 1].get("stream"):
            connection.sendall(whole())
            return
        connection.sendall(STREAM + chunked(*[delta("word")] * RESERVED, end=False))
        with contextlib.suppress(threading.BrokenBarrierError):
            self._together.wait(90)
        for _ in range(self.longest // 50):
            connection.sendall(chunked(*[delta("word")] * 50, end=False))
            time.sleep(0.1)
        connection.sendall(chunked(delta(finish="stop"), DONE))

    def start(self) -> None:
        found = snapshot(self.provider, free_port())
        fake = msgspec.structs.replace(found.backends["fake"], url=f"http://127.0.0.1:{self.wire.port}/v1")
        price = Price(version="test", scale=(Rates(EACH, EACH, EACH, EACH, EACH, EACH, EACH),))
        limit = Limit(budgets=(Budget(id="b", limit=self.tokens * EACH, window="total"),))
        for tree in self.trees:
            tree.place(
                msgspec.structs.replace(
                    found,
                    backends={**found.backends, "fake": fake},
                    prices={"fake/gpt-test": price},
                    limits={"project:shop": limit},
                )
            )
            tree.start()
        for tree in self.trees:  # an empty Redis lends nothing for a lease's time
            until(partial(_answers, tree), 90)

    def stream(self, number: int) -> str:
        """How one stream ended: `stop`, the code of its error event, or of its refusal."""
        tree = self.trees[number % 3 == 2]
        with tree.client() as client:
            body = {"model": "fake/gpt-test", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
            headers = {"authorization": "Bearer eck_shop"}
            with client.stream("POST", "/v1/chat/completions", json=body, headers=headers, timeout=120) as answer:
                raw = b"".join(answer.iter_raw())
        if answer.status_code != 200:
            return f"refused {json.loads(raw)['error']['code']}"
        if raw.endswith(DONE):
            return "stop"
        (error,) = [json.loads(event[6:])["error"] for event in raw.split(b"\n\n") if b'"error"' in event]
        return str(error["code"])

    def run(self) -> "Counter[str]":
        with ThreadPoolExecutor(STREAMS) as pool:
            return Counter(pool.map(self.stream, range(STREAMS)))

    def stop(self) -> None:
        for tree in self.trees:
            tree.stop()
        self.wire.stop()
        self.provider.stop()

    def lent(self) -> tuple[int, int]:
        """What Redis says was spent, and what is lent to anyone still; 10^-12 USD."""
        words = self.redis.ask("hgetall", POT).split()
        pot = dict(zip(words[::2], words[1::2], strict=True))
        workers = [name[2:] for name in pot if name.startswith("e:")]
        of = {w: {letter: int(pot.get(f"{letter}:{w}", 0)) for letter in "bugk"} for w in workers}
        used = sum(each["b"] + each["u"] for each in of.values())
        return used * 1000, sum(max(each["g"] - each["k"] - each["u"], 0) for each in of.values()) * 1000


def _answers(tree: Gateways) -> bool:
    with tree.client() as client:
        return bool(tree.post(client, "fake/gpt-test", max_tokens=7).status_code == 200)


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path_factory.mktemp("r"))
    found.start()
    yield found
    found.stop()


def test_streams_of_several_machines_that_outgrow_one_budget_are_cut_when_it_is_spent(
    redis: RedisServer, tmp_path: Path
) -> None:
    machines = Machines(tmp_path, redis, tokens=STREAMS * (RESERVED + 1500))
    machines.longest = 60_000
    try:
        machines.start()
        ends = machines.run()
        assert ends == {"budget_exceeded": STREAMS}, ends
    finally:
        machines.stop()
    cost = sum(spent(tree) for tree in machines.trees)
    limit = machines.tokens * EACH
    print(f"{cost / limit:.3f} of the budget spent, {(cost - limit) / EACH / STREAMS:.0f} tokens more for each stream")
    assert 0.9 * limit < cost < limit + STREAMS * 1000 * EACH, "what comes in two seconds"
    for tree in machines.trees:
        assert len(list(tree.ledger.records("opened"))) == len(list(tree.ledger.records("settled")))
    assert machines.lent() == (cost, 0), "all that was held is given back, and what was spent is told"


def test_streams_that_outgrow_their_reservation_at_once_go_on_while_there_is_money(
    redis: RedisServer, tmp_path: Path
) -> None:
    """And when their gateways end, what they did not use is free for others."""
    machines = Machines(tmp_path, redis, tokens=STREAMS * (RESERVED + 6000))
    machines.longest = 3000
    try:
        machines.start()
        assert machines.run() == {"stop": STREAMS}
    finally:
        machines.stop()
    assert machines.lent() == (sum(spent(tree) for tree in machines.trees), 0)
