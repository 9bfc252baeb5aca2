"""Replicas of an engine: a request goes where the fewest are under way, and never to one that is gone."""

import asyncio
from pathlib import Path

import pytest

from ecotone.gateway.plane.spread import Spread
from ecotone.gateway.plane.upstreams import Place, Unreachable


async def _serving(path: Path) -> asyncio.Server:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    return await asyncio.start_unix_server(hold, str(path))


def test_requests_go_to_the_replica_with_the_fewest_and_pass_over_a_dead_one(tmp_path: Path) -> None:
    async def run() -> None:
        names = [tmp_path / "a.sock", tmp_path / "b.sock"]
        servers = [await _serving(name) for name in names]
        first, second = places = [Place(None, str(name)) for name in names]
        spread = Spread(places)
        made = [await spread.connect(2) for _ in range(6)]
        assert (first.open, second.open) == (3, 3)
        together = await asyncio.gather(*(spread.connect(2) for _ in range(6)))
        assert (first.open, second.open) == (6, 6), "also those that are dialled at the same time"
        for upstream in [u for u in (*made, *together) if u.place is first]:
            upstream.leave()
        await asyncio.sleep(0.05)
        assert first.open == 0
        assert [(await spread.connect(2)).place for _ in range(6)] == [first] * 6
        servers[0].close()
        names[0].unlink(missing_ok=True)
        assert {(await spread.connect(2)).place for _ in range(4)} == {second}
        servers[1].close()
        names[1].unlink(missing_ok=True)
        with pytest.raises(Unreachable):
            await spread.connect(2)
        for place in places:
            place.close()

    asyncio.run(run())
