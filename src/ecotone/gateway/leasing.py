"""A worker's plane, which lives on slices of limits that the supervisor lends (`lender`)."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from ecotone.gateway.answers import Refusal
from ecotone.gateway.lease_server import SocketCoordinator
from ecotone.gateway.leases import Slices
from ecotone.gateway.lender import socket_of
from ecotone.gateway.limits import Limiter
from ecotone.gateway.plane import Plane
from ecotone.gateway.plane.callers import Work
from ecotone.gateway.plane.lanes import Lane
from ecotone.gateway.plane.later import Asked
from ecotone.gateway.refusals import NotLeased
from ecotone.gateway.snapshot import Snapshot
from ecotone.gateway.spending import totals
from ecotone.ledger import Ledger
from ecotone.settings import Settings

log = logging.getLogger("ecotone.gateway")

_ROUNDS = 5


class LeasedPlane(Plane):
    """A plane whose limits are shared with other workers: what lacks a slice waits for one."""

    slices: Slices

    def share(self, settings: Settings, snapshot: Snapshot) -> None:
        """Live on slices from the supervisor's socket. Called on the loop, before the first request."""
        self.slices = Slices(SocketCoordinator(socket_of(settings)), self._writer.writer)
        known = totals(Ledger(settings.folder("ledger")), snapshot.limits, time.time(), [self._writer.writer])
        self.limiter = Limiter(self.slices, spent=known.get(self._writer.writer, {}))
        self._renewing = asyncio.get_running_loop().create_task(self.slices.run())
        self._renewing.add_done_callback(_ended)

    async def stop(self) -> None:
        await super().stop()
        self._renewing.cancel()
        try:
            await self.slices.stop()
        except (OSError, ValueError, TimeoutError):
            log.warning("what was leased could not be given back; it is free again when the lease ends")

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


def _ended(renewing: "asyncio.Task[None]") -> None:
    if not renewing.cancelled() and (error := renewing.exception()) is not None:
        log.error("slices are not renewed any more; limits refuse what they have not", exc_info=error)
