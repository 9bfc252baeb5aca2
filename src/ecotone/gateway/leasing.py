"""Where workers' limits are joined: the supervisor lends from one pool, each worker lives on slices.

The one place that knows both ends. A worker that dies is taken out of the pool when its lease ends, with what its chain
says that it spent: the rest is free again.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ecotone.gateway.answers import Refusal
from ecotone.gateway.following import FileSnapshots
from ecotone.gateway.lease_server import LeaseServer, SocketCoordinator
from ecotone.gateway.leases import Slices
from ecotone.gateway.limits import Limiter
from ecotone.gateway.parsing import Request
from ecotone.gateway.plane import Plane
from ecotone.gateway.plane.connections import Client, Work
from ecotone.gateway.plane.heads import Head
from ecotone.gateway.plane.lanes import Lane, Option
from ecotone.gateway.refusals import NotLeased
from ecotone.gateway.snapshot import Snapshot
from ecotone.gateway.spending import Totals, totals
from ecotone.ledger import Ledger
from ecotone.privacy import Findings
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError

log = logging.getLogger("ecotone.gateway")

_LONGEST_PATH = 107
_ROUNDS = 5


def socket_of(settings: Settings) -> Path:
    """Where the supervisor lends.

    Raises:
        EcotoneError: the data folder's path is too long for a socket.
    """
    path = settings.folder("gateway") / "leases"
    if len(str(path).encode()) > _LONGEST_PATH:
        raise EcotoneError(f"The path {path} is too long for a socket (107 bytes); choose a shorter ECOTONE_DATA.")
    return path


class Lender:
    """The pool, in a thread of the supervisor. No other supervisor lends there: the data folder is held."""

    def __init__(self, settings: Settings) -> None:
        self._ledger = Ledger(settings.folder("ledger"))
        self._snapshots = FileSnapshots(settings.folder("snapshot"))
        self._server = LeaseServer(socket_of(settings), self._totals, alone=True)
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)

    def _totals(self) -> Totals:
        self._snapshots.look()
        return totals(self._ledger, self._snapshots.current.limits, time.time())

    def _run(self) -> None:
        self._loop.run_until_complete(self._lend())

    async def _lend(self) -> None:
        await self._server.start()
        await self._over.wait()
        await self._server.stop()


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

    def _go(  # type: ignore[override]  # what waits for a slice is no job yet
        self,
        client: Client,
        head: Head,
        request: Request,
        lane: Lane,
        ready: list[Option],
        findings: Findings | None,
    ) -> "Work | None":
        try:
            return super()._go(client, head, request, lane, ready, findings)
        except NotLeased:
            go = partial(super()._go, client, head, request, lane, ready, findings)
            return self._later(client, self._leased(go))

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
