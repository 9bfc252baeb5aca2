"""Streams that outgrow what was reserved for them, where the money is lent by a coordinator."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from ecotone.gateway.lease_pool import Pool
from ecotone.gateway.leases import Renewal, Renewed, Slices
from ecotone.gateway.limits import Limiter
from ecotone.gateway.snapshot import Budget, Limit
from tests.gateway.wires import DONE, EACH, MUCH, STREAM, Scene, chunked, delta

pytestmark = pytest.mark.parametrize("through", ["connections"], indirect=True)

RESERVED = 4096
BODY = {"model": "wire/m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


class Lender:
    """A coordinator in this process, and a stream that has as many tokens as money is held for, until it `grows`.

    Args:
        tokens: what the budget of the project holds.
        more: by which the stream grows; it ends when it is cut, or with the test.
    """

    def __init__(self, scene: Scene, tokens: int, more: int) -> None:
        self.url = scene.house.url
        self.away = False
        self.grows, self._over = threading.Event(), threading.Event()
        self._more = more
        self._pool = Pool(10.0, {})
        self._slices = Slices(self, "w", every=0.02)
        scene.limiter = scene.house.gateway.limiter = Limiter(self._slices)
        scene.wire(self._answer)
        budgets = {"project:shop": tokens * EACH, "organisation": MUCH}
        scene.place(
            limits={n: Limit(budgets=(Budget(id=n, limit=most, window="total"),)) for n, most in budgets.items()}
        )
        self._loop: asyncio.AbstractEventLoop = scene.house.gateway._loop
        self._running = asyncio.run_coroutine_threadsafe(self._slices.run(), self._loop)

    async def renew(self, renewal: Renewal) -> Renewed:
        if self.away:
            raise ConnectionError("away")
        return self._pool.renew(renewal, self._loop.time())

    async def close(self) -> None: ...

    def _answer(self, s: socket.socket, _: int) -> None:
        s.sendall(STREAM + chunked(*[delta("word")] * RESERVED, end=False))
        self.grows.wait(90)
        s.sendall(chunked(*[delta("word")] * self._more, end=False))
        self._over.wait(90)
        s.sendall(chunked(delta(finish="stop"), DONE))

    def stream(self) -> Iterator[str]:
        """A word when it has begun, then the code of the error that it ended with."""
        headers = {"authorization": "Bearer eck_shop"}
        began = False
        with httpx.Client(base_url=self.url, timeout=90, trust_env=False) as client:
            while not began:  # this plane does not wait for its first slice
                with client.stream("POST", "/v1/chat/completions", json=BODY, headers=headers) as answer:
                    raw = b""
                    for piece in answer.iter_raw():
                        if answer.status_code == 200 and not began:
                            began = True
                            yield "begun"
                        raw = (raw + piece)[-4000:]
        assert b'"error"' in raw, raw[-300:]
        yield json.loads(raw.rpartition(b"data: ")[2])["error"]["code"]

    def on_loop(self, call: Callable[[], object]) -> None:
        async def called() -> None:
            call()

        asyncio.run_coroutine_threadsafe(called(), self._loop).result(60)

    def stop(self) -> None:
        self.away = False
        self.grows.set()
        self._over.set()
        self.on_loop(self._slices.end)  # an event of that loop is for its own thread
        self._running.result(60)


def test_a_stream_is_cut_when_the_coordinator_says_that_its_budget_is_dry(scene: Scene) -> None:
    """In the same turn, not in the next: what comes until then is money that nobody has."""
    lender, plane = Lender(scene, 5000, 1500), scene.house.gateway
    followed = threading.Event()

    def turn() -> None:
        """Turns come by hand from now on; one when all has come."""
        plane._sweeping.cancel()
        plane._pause = 3600.0
        if followed.is_set():
            plane._sweep()

    try:
        stream = lender.stream()
        assert next(stream) == "begun"
        lender.on_loop(turn)
        (job,) = plane.jobs
        lender.grows.set()
        while job._passing.pieces < RESERVED + 1500:
            lender.on_loop(lambda: None)
        followed.set()
        lender.on_loop(turn)
        assert next(stream) == "budget_exceeded"
        scene.settle(1, "failed")
    finally:
        lender.stop()


def test_a_stream_that_no_slice_can_be_had_for_is_not_told_that_its_budget_is_spent(scene: Scene) -> None:
    lender = Lender(scene, 60_000, 50_000)
    try:
        stream = lender.stream()
        assert next(stream) == "begun"
        lender.away = True
        lender.grows.set()
        assert next(stream) == "limits_unreachable"
    finally:
        lender.stop()
