"""The server process: `python -m ecotone.app.server LISTENER COMMANDS REPORTS first|successor`, descriptors that its
supervisor made; see `process` for what passes over them."""

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
from functools import partial
from typing import Any

import uvicorn

from ecotone.app.application import Application, build
from ecotone.app.child import log_to_stderr, open_many_files, report
from ecotone.app.connections import Limits
from ecotone.app.front import Doorway, Front
from ecotone.app.process import ALONE, DRAIN, NOT_RESTARTED, OWN
from ecotone.app.protocol import BoundedHttp
from ecotone.gateway.certificates import server_tls
from ecotone.gateway.origins import Origins, Proxies
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError

log = logging.getLogger("ecotone.app")

_FAREWELL_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_FORGET_SECONDS = 0.1


def main() -> None:
    """Build the application on the inherited socket and serve until told to end."""
    open_many_files()
    os.umask(0o077)  # data files are the owner's alone
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a restart is the supervisor's matter
    listener = socket.socket(fileno=int(sys.argv[1]))
    commands, reports, how = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    settings = Settings.from_environment()
    log_to_stderr(settings.log_level)
    try:
        tls = server_tls(settings)
        application = build(settings, successor=how == "successor")
    except EcotoneError as error:
        print(f"ecotone: {error.message}", file=sys.stderr)
        report(reports, "failed " + " ".join(error.message.split()))
        raise SystemExit(NOT_RESTARTED) from None
    gc.collect()
    gc.freeze()  # what was made until here stays, and need not be looked through again
    gc.set_threshold(50_000, 20, 100)  # requests under way are no garbage; looking through them costs
    server = _Server(application, settings, commands, reports, tls)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """uvicorn, told by the supervisor what to do.

    A stop (SIGTERM) gives running requests `ECOTONE_STOP_SECONDS`; a drain, after which another server goes on, gives
    transfers `ECOTONE_DRAIN_SECONDS`.
    """

    def __init__(
        self, application: Application, settings: Settings, commands: int, reports: int, tls: ssl.SSLContext | None
    ) -> None:
        self._limits = Limits(
            stalled=settings.stalled_seconds,
            body_seconds=settings.body_seconds,
            body_rate=settings.body_rate,
            per_address=settings.connections_per_address,
        )
        config = uvicorn.Config(
            application.asgi,
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            http=self._accept,  # type: ignore[arg-type]  # called as a protocol's class would be
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_keep_alive=75,
            lifespan="on",
            proxy_headers=False,
        )
        super().__init__(config)
        self._http = type("Http", (BoundedHttp,), {"limits": self._limits})
        self._tls = tls
        self._doorway = Doorway(
            application.plane,
            self._bounded,
            self.server_state.connections,
            self._limits,
            Proxies(settings.proxies),
            Origins(settings.origins),
        )
        self._application = application
        self._settings = settings
        self._commands = commands
        self._reports = reports
        self._patience = settings.stop_seconds
        self._looked = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.config.ssl = self._tls
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn's status would be NOT_RESTARTED, but what failed now may work soon
            raise SystemExit(1) from None
        threading.Thread(target=self._obey, args=(self._loop,), name="supervisor", daemon=True).start()
        report(self._reports, "ready")

    def _accept(self, **_: Any) -> Front:
        """The first protocol of a connection, for whatever uvicorn says about it."""
        return self._doorway()

    def _bounded(self) -> Any:
        return self._http(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=self._loop
        )

    async def on_tick(self, counter: int) -> bool:
        self._end_stalled()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM, SIGINT: end in order. Who wants it at once tells the supervisor twice."""
        if self.should_exit and self._loop is not None:  # a drain that is now a stop
            self._loop.call_soon_threadsafe(self._begin, self._hurry)
        self.should_exit = True

    def _obey(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read what the supervisor says; ask for an orderly end when it is gone."""
        duty = self._application.duty
        own = partial(duty.take, patient=True)
        words: dict[bytes, Any] = {DRAIN: self._drain, OWN: own, ALONE: duty.left_alone}
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are at the end anyway
            while word := os.read(self._commands, 1):
                loop.call_soon_threadsafe(self._begin, words[word])
            os.kill(os.getpid(), signal.SIGTERM)

    def _begin(self, what: Any) -> None:
        task = asyncio.get_running_loop().create_task(what())
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what the supervisor asked for failed", exc_info=error)

    async def _drain(self) -> None:
        """Another server is ready: accept no more, end with the transfers, give up the background work."""
        self._patience = self._settings.drain_seconds
        self._limits.farewell = _FAREWELL_SECONDS
        self.should_exit = True
        await self._application.duty.give(patient=True)
        report(self._reports, "given")

    async def _hurry(self) -> None:
        """Cut a drain short: what still runs gets the time that a stop gives."""
        if self._patience <= self._settings.stop_seconds:
            return
        self._patience = self._settings.stop_seconds
        self._limits.farewell = 0.0
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(self._patience)
        self._tell_cut()
        for task in self.server_state.tasks:
            task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.readiness.draining = True
        self.config.timeout_graceful_shutdown = max(1, round(self._patience))
        looking = asyncio.create_task(self._look_on())
        await super().shutdown(sockets)
        looking.cancel()

    async def _look_on(self) -> None:
        """End stalled clients while transfers finish, and tell what is cut in the end."""
        end = time.monotonic() + max(1, round(self._patience))
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(_FORGET_SECONDS, left))
            self._doorway.forget_lost()
            self._end_stalled()
        self._tell_cut()

    def _tell_cut(self) -> None:
        for transfer in self._application.traffic.open:
            log.warning(
                "cut after %.0f s: %s of %s, %d bytes in, %d bytes out",
                time.monotonic() - transfer.began,
                transfer.method,
                transfer.face,
                transfer.received,
                transfer.sent,
            )

    def _end_stalled(self) -> None:
        now = time.monotonic()
        if now - self._looked < min(_LOOK_SECONDS, self._settings.stalled_seconds / 4):
            return
        self._looked = now
        if ended := self._doorway.end_stalled(now):
            log.info("%d connections were ended: clients took nothing for %g s", ended, self._settings.stalled_seconds)
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedHttp) and connection.end_if_stalled(now):
                log.info("a connection was ended: its client took nothing for %g s", self._settings.stalled_seconds)


if __name__ == "__main__":
    main()
