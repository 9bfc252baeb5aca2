"""One engine process kept alive: started, found ready, watched, started again after a pause when it dies.

Knows nothing of tables and decisions; what to load comes from a function that gives the files for as long as it runs.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ecotone.database import utc_now
from ecotone.engines.errors import EngineFailed, NotServable
from ecotone.engines.probing import healthy
from ecotone.engines.sockets import Sockets
from ecotone.jobs import Child, Message
from ecotone.vocabulary import DeploymentState, EcotoneError, NotFound

log = logging.getLogger("ecotone.engines")

MODULE = "ecotone.engines.server"


@dataclass(frozen=True)
class Files:
    """Folders with whole files: the revision's, and those of its base when it is an adapter."""

    folder: Path
    base: Path | None = None


@dataclass(frozen=True)
class Pace:
    """Times of supervision in seconds."""

    start: float = 240.0
    first_pause: float = 0.5
    longest_pause: float = 60.0
    calm: float = 60.0
    probe_every: float = 5.0
    probe_within: float = 10.0
    probes: int = 3
    grace: float = 5.0


class Supervised:
    """An engine that should run.

    Args:
        name: the model, for messages.
        files: gives the files; entered before each start and left when that process has ended.
        log_file: what the process writes.
        changed: called after each change of state, in this engine's thread.
        root: the data folder; messages do not tell where it lies.
        patient: whether failures at the first start are tried again too (at the server's start) or told at once.
    """

    def __init__(
        self,
        name: str,
        files: Callable[[], AbstractContextManager[Files]],
        *,
        sockets: Sockets,
        log_file: Path,
        changed: Callable[[], None],
        pace: Pace,
        info: dict[str, Any],
        root: Path,
        patient: bool,
    ) -> None:
        self.state = DeploymentState.STARTING
        self.error: str | None = None
        self.failure: EcotoneError | None = None
        self.restarts = 0
        self.started: datetime | None = None
        self.socket: Path | None = None
        self.pid: int | None = None
        self.info: dict[str, Any] = {}
        self.log_file = log_file
        self._name = name
        self._files = files
        self._sockets = sockets
        self._changed = changed
        self._pace = pace
        self._more = info
        self._root = root
        self._patient = patient
        self._ready = threading.Event()
        self._was_ready = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def wait_ready(self, seconds: float) -> None:
        """Return when it answers.

        Raises:
            EngineFailed, NotServable: it does not, and why.
        """
        end = time.monotonic() + seconds
        while not self._ready.wait(0.05):
            if self.failure is not None:
                raise self.failure
            if self._stopping.is_set():
                raise EngineFailed(f"{self._name} was stopped while it started.")
            if time.monotonic() > end:
                raise EngineFailed(f"{self._name} did not begin to answer within {seconds:g} s. {self.error or ''}")

    def stop(self) -> None:
        """End the process; returns when it has gone and its files are free."""
        self._stopping.set()
        self._thread.join(self._pace.grace + 10)

    # -- the engine's thread -----------------------------------------------------------------------------------------
    def _keep(self) -> None:
        pause = self._pace.first_pause
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._run()
                break  # it was asked to stop
            except (NotServable, NotFound) as error:
                self._fail(self._without_places(error))
                return
            except EcotoneError as error:
                failure = error
            except Exception as error:
                log.exception("supervising the engine of %s failed", self._name)
                failure = EngineFailed(f"{self._name} could not be started: {type(error).__name__}: {error}")
            failure = self._without_places(failure)
            if self._stopping.is_set():
                break
            if not self._was_ready and not self._patient:
                self._fail(failure)
                return
            if time.monotonic() - began > self._pace.calm:
                pause = self._pace.first_pause
            self.restarts += 1
            log.warning("the engine of %s failed; it is started again in %.1f s", self._name, pause)
            self._set(DeploymentState.STARTING, error=f"{failure.message}\nIt is started again after {pause:g} s.")
            self._stopping.wait(pause)
            pause = min(pause * 2, self._pace.longest_pause)
        self._set(DeploymentState.STOPPED, error=self.error)

    def _without_places(self, error: EcotoneError) -> EcotoneError:
        """The error, with the data folder's files named from that folder on."""
        error.message = error.message.replace(f"{self._root}/", "")
        return error

    def _run(self) -> None:
        """One life of the process; returns when it was asked to stop, raises when it failed."""
        with self._files() as files:
            socket = self._sockets.new()
            heard: list[Message] = []
            told = threading.Event()

            def hear(message: Message) -> None:
                heard.append(message)
                if "ready" in message or "refused" in message:
                    told.set()

            spec = {
                "folder": str(files.folder),
                "base": None if files.base is None else str(files.base),
                "socket": str(socket),
                "info": self._more,
            }
            child = Child(MODULE, spec, log=self.log_file, on_message=hear)
            self.pid = child.pid
            try:
                self._await_ready(child, heard, told)
                self.socket, self.started = socket, utc_now()
                self.info = next(message["ready"] for message in heard if "ready" in message)
                self._set(DeploymentState.READY, error=None)
                self._was_ready = True
                self._ready.set()
                self._watch(child, socket)
            finally:
                self._ready.clear()
                self.socket = self.pid = None
                child.stop(self._pace.grace)
                self._sockets.drop(socket)

    def _await_ready(self, child: Child, heard: list[Message], told: threading.Event) -> None:
        end = time.monotonic() + self._pace.start
        while not told.wait(0.05):
            if self._stopping.is_set():
                raise EngineFailed(f"{self._name} was stopped while it started.")
            if child.poll() is not None and not told.is_set():
                raise EngineFailed(child.failure(f"The engine of {self._name} did not start").message)
            if time.monotonic() > end:
                raise EngineFailed(
                    f"{self._name} did not load within {self._pace.start:g} s; ECOTONE_ENGINE_START sets how long it "
                    f"may take. The end of its log:\n{child.tail()}"
                )
        refused = next((message["refused"] for message in heard if "refused" in message), None)
        if refused is not None:
            raise NotServable(f"{self._name} cannot be served: {refused}")

    def _watch(self, child: Child, socket: Path) -> None:
        misses = 0
        probe = time.monotonic() + self._pace.probe_every
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                child.wait(0.1)
                raise EngineFailed(child.failure(f"The engine of {self._name} died").message)
            if time.monotonic() < probe:
                continue
            misses = 0 if healthy(socket, self._pace.probe_within) else misses + 1
            if misses >= self._pace.probes and child.poll() is None:
                raise EngineFailed(f"The engine of {self._name} hangs: {misses} health checks in a row failed.")
            probe = time.monotonic() + self._pace.probe_every

    def _fail(self, error: EcotoneError) -> None:
        self.failure = error
        self._set(DeploymentState.FAILED, error=error.message)

    def _set(self, state: DeploymentState, *, error: str | None) -> None:
        self.state, self.error = state, error
        try:
            self._changed()
        except Exception:  # whoever listens must not end the engine
            log.exception("a listener of the engines failed")
