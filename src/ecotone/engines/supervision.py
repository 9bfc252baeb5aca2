"""One engine kept alive: started, found ready, given its adapters, watched, started again after a pause when it dies.

Knows nothing of tables and decisions; what to load comes from a function that gives the files for as long as it runs,
and how it runs from its kind.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ecotone.database import utc_now
from ecotone.engines.errors import EngineFailed, NoRoom, NotServable, NotSupported
from ecotone.engines.kinds.kind import Beat, Event, Kind, Progress, Ready, Refused, Running, Spec, Where
from ecotone.vocabulary import DeploymentState, EcotoneError, NotFound

log = logging.getLogger("ecotone.engines")

_ADAPTER_SECONDS = 60.0
_LOOK_SECONDS = 0.5
_AGAIN_SECONDS = 1.0  # after a health check that failed
_TOLD_SHARE = 0.05  # of loading, that has to be gained before listeners hear of it


@dataclass(frozen=True)
class Files:
    """Folders with whole files: the revision's, and those of its base when it is an adapter that is merged."""

    folder: Path | None
    base: Path | None = None


@dataclass(frozen=True)
class Pace:
    """Times of supervision in seconds.

    `stall`: for which requests may run without a token before the engine is asked whether it is well; `drain`: that
    requests under way get when their engine is replaced or unloaded; `settle`: after which every gateway knows of it.
    """

    start: float = 240.0
    first_pause: float = 0.5
    longest_pause: float = 60.0
    calm: float = 60.0
    probe_every: float = 5.0
    probe_within: float = 10.0
    probes: int = 3
    grace: float = 5.0
    stall: float = 15.0
    drain: float = 120.0
    settle: float = 2.5
    look: float = 0.5


class Supervised:
    """An engine that should run.

    Args:
        spec: what its kind is told, but for the files.
        files: gives the files; entered before each start and left when that process has ended.
        changed: called after each change of state, in this engine's thread.
        patient: whether failures at the first start are tried again too (at the server's start) or told at once.
        adapters: folders by the names under which it serves them, from its start on.
    """

    def __init__(
        self,
        spec: Spec,
        files: Callable[[], AbstractContextManager[Files]],
        *,
        kind: Kind,
        changed: Callable[[], None],
        pace: Pace,
        patient: bool,
        adapters: Mapping[str, Path],
    ) -> None:
        self.state = DeploymentState.STARTING
        self.error: str | None = None
        self.failure: EcotoneError | None = None
        self.restarts = 0
        self.started: datetime | None = None
        self.where: Where | None = None
        self.pid: int | None = None
        self.info: dict[str, Any] = {}
        self.progress: Progress | None = None
        self.beat = Beat()
        self.beats = 0
        self.speed = 0.0
        """Tokens a second over the last beats."""
        self.used = time.monotonic()
        """When it was last seen working."""
        self.log_file = spec.log_file
        self.adapters = dict(adapters)
        self.loaded: set[str] = set()
        self.adapter_errors: dict[str, str] = {}
        self._name = spec.model
        self._files = files
        self._kind = kind
        self._spec = spec
        self._changed = changed
        self._pace = pace
        self._patient = patient
        self._ready = threading.Event()
        self._was_ready = False
        self._stopping = threading.Event()
        self._running: Running | None = None
        self._told: Ready | Refused | None = None
        self._heard = threading.Event()
        self._beat_at = self._moved = time.monotonic()
        self._has_beaten = False
        self._adapting = threading.RLock()
        self._thread = threading.Thread(target=self._keep, name=f"engine-{spec.model}", daemon=True)
        self._thread.start()

    def wait_ready(self, seconds: float) -> None:
        """Return when it answers.

        Raises:
            EngineFailed, NotServable, NoRoom: it does not, and why.
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
        running = self._running
        if running is not None:
            running.stop(self._pace.grace)
        self._thread.join(self._pace.grace + 10)

    @property
    def busy(self) -> bool:
        return self.beat.running > 0 or self.beat.waiting > 0

    # -- adapters ----------------------------------------------------------------------------------------------------
    def add(self, name: str, folder: Path) -> None:
        """Serve an adapter from now on, also after each restart.

        Raises:
            NotSupported: the engine takes none while it runs.
            EngineFailed: it did not work.
        """
        with self._adapting:
            if self.state == DeploymentState.READY and self._running is not None:
                self._running.load(name, folder, _ADAPTER_SECONDS)
                self.loaded.add(name)
            self.adapters[name] = folder
        self._changed()

    def remove(self, name: str) -> None:
        """Forget an adapter, once the last answer with it has ended."""
        with self._adapting:
            self.adapters.pop(name, None)
            self.adapter_errors.pop(name, None)
            was_loaded = name in self.loaded
            self.loaded.discard(name)
            running = self._running
        if was_loaded and running is not None and not self._stopping.is_set():
            try:
                running.unload(name, _ADAPTER_SECONDS)
            except EcotoneError as error:
                log.warning("%s", self._without_places(error).message)

    def _load_adapters(self, running: Running) -> None:
        """Give a new process the adapters of the one before; one that fails is left out and says why."""
        self.loaded.clear()
        self.adapter_errors.clear()
        for name, folder in self.adapters.items():
            try:
                running.load(name, folder, _ADAPTER_SECONDS)
                self.loaded.add(name)
            except (EngineFailed, NotSupported) as error:
                self.adapter_errors[name] = self._without_places(error).message
                log.warning("%s", self.adapter_errors[name])

    # -- the engine's thread -----------------------------------------------------------------------------------------
    def _keep(self) -> None:
        pause = self._pace.first_pause
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._run()
                break  # it was asked to stop
            except (NotServable, NotFound, NoRoom) as error:
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
        error.message = error.message.replace(f"{self._spec.root}/", "")
        return error

    def _run(self) -> None:
        """One life of the engine; returns when it was asked to stop, raises when it failed."""
        with self._files() as files:
            self._told = None
            self._heard.clear()
            self.beat, self.speed, self.progress = Beat(), 0.0, Progress("starting")
            self._has_beaten = False
            running = self._kind.start(replace(self._spec, folder=files.folder, base=files.base), self._hear)
            self._running, self.pid = running, running.pid
            try:
                told = self._await_ready(running)
                with self._adapting:
                    self._load_adapters(running)
                    self.where, self.info, self.started = told.where, told.info, utc_now()
                    self.progress = None
                    self.used = self._beat_at = self._moved = time.monotonic()
                    self._was_ready = True
                    self._set(DeploymentState.READY, error=None)
                self._ready.set()
                self._watch(running)
            finally:
                self._ready.clear()
                with self._adapting:
                    self.where = self.pid = self._running = None
                    self.loaded.clear()
                running.stop(self._pace.grace)

    def _hear(self, event: Event) -> None:
        match event:
            case Ready() | Refused():
                self._told = event
                self._heard.set()
            case Progress():
                before, self.progress = self.progress, event
                if before is None or _differ(before, event):
                    self._tell()
            case Beat():
                self._take(event)

    def _take(self, beat: Beat) -> None:
        now = time.monotonic()
        before, self.beat = self.beat, beat
        self.beats += 1
        moved = beat.tokens != before.tokens or beat.requests != before.requests
        seconds = now - self._beat_at
        if seconds > 0 and self._has_beaten:  # what the first one counts was made while it loaded
            self.speed += 0.5 * (max(0, beat.tokens - before.tokens) / seconds - self.speed)
        self._beat_at, self._has_beaten = now, True
        if moved or not self.busy:
            self._moved = now
        if moved or self.busy:
            self.used = now

    def _await_ready(self, running: Running) -> Ready:
        end = time.monotonic() + self._pace.start
        while not self._heard.wait(0.05):
            ended = running.wait(0)
            if self._stopping.is_set():
                raise EngineFailed(f"{self._name} was stopped while it started.")
            if ended and not self._heard.is_set():
                raise EngineFailed(running.failure(f"The engine of {self._name} did not start"))
            if time.monotonic() > end:
                raise EngineFailed(
                    running.failure(
                        f"{self._name} did not load within {self._pace.start:g} s; ECOTONE_ENGINE_START sets how long "
                        "it may take"
                    )
                )
        told = self._told
        if isinstance(told, Refused):
            raise NotServable(f"{self._name} cannot be served: {told.reason}")
        assert isinstance(told, Ready)
        return told

    def _watch(self, running: Running) -> None:
        """Until it ends or hangs. Its end is seen at once, as the wait is for the process itself."""
        misses = 0
        probe = time.monotonic() + self._pace.probe_every
        while not self._stopping.is_set():
            if running.wait(_LOOK_SECONDS):
                if self._stopping.is_set():
                    return
                raise EngineFailed(running.failure(f"The engine of {self._name} died"))
            now = time.monotonic()
            stalls = self.busy and now - self._moved > self._pace.stall
            if now < probe and not (stalls and not misses):
                continue
            well = running.probe(self._pace.probe_within) and self.beat.well
            misses = 0 if well else misses + 1
            if well and stalls:
                self._moved = now  # it computes something long; it is asked again after as long a time
            if misses >= self._pace.probes and not running.wait(0):
                raise EngineFailed(f"The engine of {self._name} hangs: {misses} health checks in a row failed.")
            probe = time.monotonic() + (
                min(_AGAIN_SECONDS, self._pace.probe_every) if misses else self._pace.probe_every
            )

    def _fail(self, error: EcotoneError) -> None:
        self.error, self.state = error.message, DeploymentState.FAILED
        self.failure = error  # last: whoever waits for it finds the state as it is
        self._tell()

    def _set(self, state: DeploymentState, *, error: str | None) -> None:
        self.error, self.state = error, state  # who sees the state finds its reason
        self._tell()

    def _tell(self) -> None:
        try:
            self._changed()
        except Exception:  # whoever listens must not end the engine
            log.exception("a listener of the engines failed")


def _differ(before: Progress, after: Progress) -> bool:
    return before.phase != after.phase or abs((after.share or 0.0) - (before.share or 0.0)) >= _TOLD_SHARE
