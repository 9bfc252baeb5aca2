"""Limits are shared from the start on and as long as the processes live: a worker begins when its coordinator has
answered, as until then it would refuse what has a limit, and no error ends the lending."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import pytest

from ecotone.gateway import leasing, lender, spending
from ecotone.gateway.lease_server import LeaseServer, SocketCoordinator
from ecotone.gateway.leases import Need, Renewal
from ecotone.gateway.leasing import LeasedPlane
from ecotone.gateway.lender import socket_of
from ecotone.ledger import Ledger, LedgerWriter
from ecotone.ledger.segments import head_of_chain
from ecotone.settings import Settings


@pytest.fixture
def plane(tmp_path: Path) -> LeasedPlane:
    settings = Settings(data=tmp_path)
    return LeasedPlane(settings, LedgerWriter(settings.folder("ledger"), "worker1"))


def test_a_worker_waits_for_a_coordinator_that_comes_later(plane: LeasedPlane, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)

    async def play() -> None:
        await plane.share(settings, {})
        waiting = asyncio.create_task(plane.acquaint(300))
        while plane.in_touch:  # until a round has found nobody
            await asyncio.sleep(0.01)
        assert not waiting.done()
        server = LeaseServer(socket_of(settings), dict, alone=True)
        await server.start()
        await asyncio.wait_for(waiting, 200)
        assert plane.slices.met.is_set()
        await plane.stop()
        await server.stop()

    asyncio.run(play())


def test_a_worker_begins_without_a_coordinator_that_does_not_come(plane: LeasedPlane, tmp_path: Path) -> None:
    async def play() -> None:
        await plane.share(Settings(data=tmp_path), {})
        await asyncio.wait_for(plane.acquaint(0.05), 200)
        assert not plane.slices.met.is_set()
        await plane.stop()

    asyncio.run(play())


def test_a_lender_that_could_not_read_the_ledger_once_lends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers would refuse what has a limit until somebody started the gateway anew."""
    settings, failing = Settings(data=tmp_path), [OSError("too many open files"), ValueError("half a record")]
    settings.folder("gateway")

    def totals(*args: Any, **how: Any) -> Any:
        if failing:
            raise failing.pop()
        return spending.totals(*args, **how)

    monkeypatch.setattr(lender, "totals", totals)
    monkeypatch.setattr(lender, "_AGAIN_SECONDS", 0.01)
    lending = lender.Lender(settings)
    lending.start()

    async def play() -> None:
        coordinator = SocketCoordinator(socket_of(settings))
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(OSError):
                    assert not (await coordinator.renew(Renewal("worker1", "epoch", []))).expired
                    break
                await asyncio.sleep(0.02)
        await coordinator.close()

    asyncio.run(play())
    lending.stop()


def test_slices_of_the_dead_return_although_the_ledger_could_not_be_read_once(tmp_path: Path) -> None:
    failing, asked = [ValueError("half a record")], []

    def totals() -> Any:
        asked.append(True)
        if len(asked) > 1 and failing:
            raise failing.pop()
        return {}

    async def play() -> None:
        server = LeaseServer(tmp_path / "leases", totals, alone=True, seconds=0.1)
        await server.start()
        coordinator = SocketCoordinator(tmp_path / "leases")
        need = Need("b1", "total", "slots", float("inf"), 10, 0, 0, 0, 0, 5, 5)
        granted = (await coordinator.renew(Renewal("worker1", "epoch", [need]))).grants[0].granted
        assert granted
        await coordinator.close()
        async with asyncio.timeout(120):
            while failing or server._pool.ended(server._clock()) or len(asked) < 3:
                await asyncio.sleep(0.01)
        await server.stop()

    asyncio.run(play())


def test_redis_is_told_of_the_dead_although_a_chain_could_not_be_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, failing, told = Settings(data=tmp_path), [ValueError("half a record")], []
    LedgerWriter(settings.folder("ledger"), "worker9").close()
    plane = LeasedPlane(settings, LedgerWriter(settings.folder("ledger"), "worker1"))

    class Redis:
        async def born(self) -> str:
            return "1"

        async def take_back(self, worker: str, total: Any) -> None:
            told.append(worker)

    def head(chain: Path) -> Any:
        if failing:
            raise failing.pop()
        return head_of_chain(chain)

    monkeypatch.setattr(leasing, "head_of_chain", head)
    monkeypatch.setattr(leasing, "LEASE_SECONDS", 0.04)

    async def play() -> None:
        ledger = Ledger(settings.folder("ledger"))
        burying = asyncio.create_task(plane._bury(cast(Any, Redis()), ledger, tmp_path / "sums", "m."))
        async with asyncio.timeout(120):
            while not told and not burying.done():
                await asyncio.sleep(0.01)
        burying.cancel()

    asyncio.run(play())
    assert told == ["m.worker9"]
