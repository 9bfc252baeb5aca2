"""Where workers' limits are joined: the supervisor lends from one pool.

A worker that dies is taken out of the pool when its lease ends, with what its chain says that it spent: the rest is
free again. Imports nothing of the plane: the supervisor relays nothing.
"""

import asyncio
import contextlib
import logging
import threading
import time
from pathlib import Path

from ecotone.gateway.chains import sums_folder
from ecotone.gateway.following import FileSnapshots
from ecotone.gateway.lease_server import LeaseServer
from ecotone.gateway.spending import Totals, totals
from ecotone.ledger import Ledger
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError

log = logging.getLogger("ecotone.gateway")

_LONGEST_PATH = 107
_AGAIN_SECONDS = 1.0


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
        self._ledger = Ledger(settings.folder("ledger"), spill=settings.spill)
        self._kept = sums_folder(settings)
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
        return totals(self._ledger, self._snapshots.current.limits, time.time(), kept=self._kept)

    def _run(self) -> None:
        self._loop.run_until_complete(self._lend())

    async def _lend(self) -> None:
        while not self._over.is_set():
            try:
                await self._server.start()
                break
            except Exception:  # without it every call with a limit would be refused, for good
                log.exception("no limits can be lent yet; it is tried again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS):
                    await self._over.wait()
        await self._over.wait()
        await self._server.stop()
