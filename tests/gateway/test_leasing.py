"""A worker begins when its coordinator has answered: until then it would refuse what has a limit."""

import asyncio
from pathlib import Path

import pytest

from ecotone.gateway.lease_server import LeaseServer
from ecotone.gateway.leasing import LeasedPlane
from ecotone.gateway.lender import socket_of
from ecotone.ledger import LedgerWriter
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
