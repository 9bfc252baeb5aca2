"""A worker of `ecotone gateway`: `python -m ecotone.app.gateway_worker LISTENER COMMANDS REPORTS PLACE WORKERS`,
descriptors that its supervisor made; see `process` for what passes over them.

Loads the request path alone: no hub, no pages, no API, no database, no knowledge base. Decisions come from the snapshot
in the data folder.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from typing import Any

import uvloop

from ecotone import __version__
from ecotone.app.child import log_to_stderr, open_many_files, report
from ecotone.app.connections import Limits
from ecotone.app.front import Doorway
from ecotone.app.operating import Answer, Operations
from ecotone.app.process import DRAIN, NOT_RESTARTED, SETTLE
from ecotone.gateway.certificates import server_tls
from ecotone.gateway.chains import MACHINE, close_settled, open_chain, prefix, settle_left
from ecotone.gateway.counters import Counters, Keeper
from ecotone.gateway.following import FileSnapshots
from ecotone.gateway.leasing import LeasedPlane
from ecotone.gateway.origins import Origins, Proxies
from ecotone.gateway.waking import Caller
from ecotone.ledger import LedgerWriter
from ecotone.ledger.texts import Texts
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError

log = logging.getLogger("ecotone.gateway")

_FAREWELL_STOP, _FAREWELL_RESTART = 0.5, 5.0
_LOOK_SECONDS = 2.0
_LAST_SECONDS = 1.0
_BACKLOG = 2048


def main() -> None:
    """Serve on the inherited socket until told to end."""
    open_many_files()
    os.umask(0o077)  # data files are the owner's alone
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a restart is the supervisor's matter
    listener = socket.socket(fileno=int(sys.argv[1]))
    commands, reports, place, workers = (int(word) for word in sys.argv[2:6])
    settings = Settings.from_environment()
    log_to_stderr(settings.log_level)
    try:
        tls = server_tls(settings)
        begin = chains_of(settings)
        writer = open_chain(settings, begin, place)
        worker = _Worker(settings, writer, reports)
    except EcotoneError as error:
        print(f"ecotone: {error.message}", file=sys.stderr)
        report(reports, "failed " + " ".join(error.message.split()))
        raise SystemExit(NOT_RESTARTED) from None
    threading.Thread(target=worker.obey, args=(commands, begin, place, workers), name="supervisor", daemon=True).start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.serve(listener, tls))


def chains_of(settings: Settings) -> str:
    """How the names of this machine's chains begin."""
    return prefix(settings.secret(MACHINE) if settings.snapshot_url else None)


class _Worker:
    """One loop, from the first connection to the last."""

    def __init__(self, settings: Settings, writer: LedgerWriter, reports: int) -> None:
        self._settings = settings
        self._writer = writer
        self._reports = reports
        self._snapshots = FileSnapshots(settings.folder("snapshot"))
        counters = Counters()
        self._plane = LeasedPlane(settings, writer, counters=counters, texts=Texts.of(settings))
        self._plane.wake = Caller(settings.data)
        self._keeper = Keeper(counters, settings.data, writer.writer, lambda: len(self._plane.jobs))
        self._limits = Limits(stalled=settings.stalled_seconds, per_address=settings.connections_per_address)
        self._connections: set[Any] = set()
        self._doorway = Doorway(
            self._plane,
            self._operations,
            self._connections,
            self._limits,
            Proxies(settings.proxies),
            Origins(settings.origins),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: asyncio.Event | None = None
        self._looping = threading.Event()
        self._patience = settings.stop_seconds
        self._end_at = 0.0
        self._farewell = _FAREWELL_STOP
        self._draining = False

    async def serve(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Accept until told to end, then finish what has begun."""
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self._looping.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._plane.use(self._snapshots)
        await self._plane.share(self._settings, self._snapshots.current.limits)
        await self._plane.acquaint()  # the supervisor may still be reading the ledger
        await self._plane.start()
        self._keeper.start()
        server = await self._loop.create_server(self._doorway, sock=listener, ssl=tls, backlog=_BACKLOG)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # requests under way are no garbage; looking through them costs
        sys.setswitchinterval(0.001)  # a thread that looks through a long text gives way to the loop
        report(self._reports, "ready")
        looking = self._loop.create_task(self._look_after())
        await self._told.wait()
        self._draining = True
        server.close()
        listener.close()
        await self._drained()
        looking.cancel()
        await self._plane.stop()
        end = time.monotonic() + _LAST_SECONDS
        while self._plane.connections and time.monotonic() < end:  # noqa: ASYNC110  what was written last is on its way
            await asyncio.sleep(0.01)
        self._keeper.stop()
        close_settled(self._writer)

    # -- the end -----------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        """SIGTERM: running requests get `ECOTONE_STOP_SECONDS`, also when a longer drain is under way."""
        self._begin_end(self._settings.stop_seconds, _FAREWELL_STOP)

    def _begin_end(self, patience: float, farewell: float) -> None:
        assert self._told is not None
        end_at = time.monotonic() + patience
        self._end_at = min(self._end_at, end_at) if self._told.is_set() else end_at
        self._farewell = farewell
        self._told.set()

    async def _drained(self) -> None:
        """Wait until no connection is left, or the time is over."""
        self._limits.farewell = self._farewell
        for connection in list(self._connections):
            connection.shutdown()
        while self._connections and time.monotonic() < self._end_at:
            await asyncio.sleep(0.02)
            self._doorway.forget_lost()
        if self._plane.jobs:
            log.warning("%d requests were cut: they did not end in time", len(self._plane.jobs))

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self._settings.stalled_seconds / 4))
            if ended := self._doorway.end_stalled(time.monotonic()):
                log.info("%d connections were ended: clients took nothing", ended)

    # -- the supervisor ----------------------------------------------------------------------------------------------
    def obey(self, commands: int, begin: str, place: int, workers: int) -> None:
        """Read what the supervisor says; end in order when it is gone. Runs in a thread of its own."""
        self._settle(begin, place, workers)  # of places that there were more of, too
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are at the end anyway
            while word := os.read(commands, 1):
                if word == DRAIN:
                    self._looping.wait()
                    assert self._loop is not None
                    self._loop.call_soon_threadsafe(self._begin_end, self._settings.drain_seconds, _FAREWELL_RESTART)
                elif word == SETTLE:
                    self._settle(begin, place, workers)
            os.kill(os.getpid(), signal.SIGTERM)

    def _settle(self, begin: str, place: int, workers: int) -> None:
        """What earlier workers left open."""
        try:
            settle_left(self._settings, begin, place, workers)
        except Exception:  # what is not settled now is at the next start
            log.exception("what earlier workers left open could not be settled")

    # -- what is not the gateway's -----------------------------------------------------------------------------------
    def _operations(self) -> Operations:
        return Operations(self._answer, self._limits, self._connections)

    def _answer(self, path: str) -> Answer | None:
        if path == "/health":
            state = "draining" if self._draining else "ok"
            return 503 if self._draining else 200, {"status": state, "version": __version__}
        if path != "/health/ready":
            return None
        old = time.time() - self._snapshots.current.built > self._settings.snapshot_max_age
        checks = {
            "snapshot": "too old" if old else "ok",
            "ledger": "ok" if self._writer.writable else "closed",
            "limits": "ok" if self._plane.in_touch else "out of reach",
            "server": "draining" if self._draining else "ok",
        }
        well = all(word == "ok" for word in checks.values())
        return 200 if well else 503, {"status": "ready" if well else "not ready", "checks": checks}


if __name__ == "__main__":
    main()
