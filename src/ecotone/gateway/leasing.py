"""A plane that lives on slices of limits: lent by the supervisor on one machine (`lender`), by Redis across machines.

Redis knows nothing of the ledger. So a plane that shares limits by Redis tells it, too, what was spent by chains of its
own machine that nobody writes any more: the rest of what they were lent is free again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ecotone.gateway.answers import Refusal
from ecotone.gateway.chains import MACHINE, sums_folder
from ecotone.gateway.counters import Counters
from ecotone.gateway.lease_redis import RedisCoordinator
from ecotone.gateway.lease_server import SocketCoordinator
from ecotone.gateway.leases import LEASE_SECONDS, Coordinator, Slices
from ecotone.gateway.lender import socket_of
from ecotone.gateway.limits import Limiter
from ecotone.gateway.plane import Plane
from ecotone.gateway.plane.callers import Work
from ecotone.gateway.plane.lanes import Lane
from ecotone.gateway.plane.later import Asked
from ecotone.gateway.refusals import NotLeased
from ecotone.gateway.snapshot import Limit
from ecotone.gateway.spending import totals
from ecotone.ledger import Head, Ledger, LedgerBusy, LedgerWriter, unwritten
from ecotone.ledger.segments import head_of_chain
from ecotone.ledger.texts import Texts
from ecotone.settings import Settings

log = logging.getLogger("ecotone.gateway")

_ROUNDS = 5
_FIRST_SECONDS = 5.0
_LAST_SECONDS = 5.0


def coordinator_of(settings: Settings) -> Coordinator:
    """Who lends: Redis where one is set, else the supervisor.

    Raises:
        EcotoneError: the client of Redis is not installed, or its address cannot be read.
    """
    return RedisCoordinator(settings.limits_url) if settings.limits_url else SocketCoordinator(socket_of(settings))


class LeasedPlane(Plane):
    """A plane whose limits are shared with other workers: what lacks a slice waits for one.

    Raises:
        EcotoneError: as `coordinator_of`.
    """

    slices: Slices

    def __init__(
        self, settings: Settings, writer: LedgerWriter, *, counters: Counters | None = None, texts: Texts | None = None
    ) -> None:
        super().__init__(settings, writer, counters=counters, texts=texts)
        self._coordinator = coordinator_of(settings)
        self._sharing: list[asyncio.Task[None]] = []

    async def share(self, settings: Settings, limits: Mapping[str, Limit]) -> None:
        """Live on slices from now on. Called on the loop, before the first request."""
        ledger, own = Ledger(settings.folder("ledger"), spill=settings.spill), self._writer.writer
        machine = f"{settings.secret(MACHINE)[:8].hex()}." if settings.limits_url else ""
        self.slices = Slices(self._coordinator, machine + own)
        kept = sums_folder(settings)
        known = await asyncio.to_thread(totals, ledger, limits, time.time(), [own], kept=kept)
        self.limiter = Limiter(self.slices, spent=known.get(own, {}))
        loop = asyncio.get_running_loop()
        self._sharing = [loop.create_task(self.slices.run())]
        if isinstance(self._coordinator, RedisCoordinator):
            self._sharing.append(loop.create_task(self._bury(self._coordinator, ledger, kept, machine)))
        for task in self._sharing:
            task.add_done_callback(_ended)

    async def acquaint(self, seconds: float = _FIRST_SECONDS) -> None:
        """Wait for the coordinator's first answer, so that no call is refused for want of it; some seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.slices.met.wait()

    @property
    def in_touch(self) -> bool:
        """Whether the coordinator answered last."""
        return self.slices.in_touch

    async def stop(self) -> None:
        await super().stop()
        self.slices.end()
        await asyncio.wait(self._sharing[:1], timeout=_LAST_SECONDS)  # what a cut round was lent would stay lent
        for task in self._sharing:
            task.cancel()
        try:
            await self.slices.stop()
        except (OSError, ValueError, TimeoutError):
            log.warning("what was leased could not be given back; it is free again when the lease ends")

    async def _bury(self, redis: RedisCoordinator, ledger: Ledger, kept: Path, machine: str) -> None:
        """Tell Redis of each chain here that nobody writes, whenever it has changed, or Redis was emptied."""
        told: dict[str, Head] = {}
        born = ""
        while True:
            try:
                if born != (born := await redis.born()):
                    told.clear()
                for chain in await asyncio.to_thread(ledger.chains):
                    with contextlib.suppress(LedgerBusy), unwritten(chain):  # who writes one tells of it himself
                        head = await asyncio.to_thread(head_of_chain, chain)
                        if told.get(chain.name) != head:
                            limits = self._snapshots.current.limits
                            names = [chain.name]
                            found = await asyncio.to_thread(totals, ledger, limits, time.time(), names, kept=kept)
                            await redis.take_back(machine + chain.name, found.get(chain.name, {}))
                            told[chain.name] = head
            except OSError as error:
                log.warning("Redis could not be told what workers that are gone spent: %s", error)
            except Exception:  # the next round tries again
                log.exception("Redis could not be told what workers that are gone spent")
            await asyncio.sleep(LEASE_SECONDS / 4)

    def _no_room(self, asked: Asked, lane: Lane, refusal: Refusal) -> Work | None:
        if not isinstance(refusal, NotLeased):
            return super()._no_room(asked, lane, refusal)
        if asked.waits:
            raise refusal
        asked.waits = True  # what waits for a slice is no job yet
        return self._later(asked.client, self._leased(partial(self._go, asked, lane)))

    async def _leased(self, go: "Callable[[], Work | None]") -> "Work | None":
        """Try again when slices may have come. Raises Refusal."""
        refusal: Refusal | None = None
        for _ in range(_ROUNDS):
            there = asyncio.Event()
            assert self.limiter is not None
            self.limiter.park(there.set)
            await there.wait()
            try:
                return go()
            except NotLeased as found:
                refusal = found
        assert refusal is not None
        raise refusal


def _ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("limits are not shared any more; they refuse what they have not", exc_info=error)
