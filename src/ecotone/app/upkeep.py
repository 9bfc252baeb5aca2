"""Upkeep of the store: garbage collection, conversion and checks, as jobs that somebody asks for and by the clock."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool

from ecotone.accounts import SYSTEM
from ecotone.app.checking import Check
from ecotone.catalog.living import Living
from ecotone.database import Database
from ecotone.jobs import JobContext, Jobs
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage.collecting import Collector
from ecotone.storage.converting import Converter
from ecotone.vocabulary import EcotoneError, Invalid

log = logging.getLogger("ecotone.upkeep")

COLLECT, CONVERT, CHECK = "collect", "convert", "fsck"
_File = tuple[str, str, int]  # namespace, sha256, size
_MOST_WAITING = 10_000
_FIRST_SECONDS = 300.0
_LOOK_SECONDS = 600.0
_SHARE = 0.5
_LONGEST_REST = 0.5


class Pace:
    """Rests as long as was worked, so that requests come first; ends the work when told to."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._began = time.monotonic()

    def __call__(self) -> None:
        self._check()
        worked = time.monotonic() - self._began
        if worked > 0.01:
            time.sleep(min(worked * (1 - _SHARE) / _SHARE, _LONGEST_REST))
            self._began = time.monotonic()


class Upkeep:
    """The work and its clock. One piece of it runs at a time in a process; several processes may run theirs at once."""

    def __init__(
        self, settings: Settings, database: Database, storage: Storage, jobs: Jobs, note: Callable[..., None]
    ) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._note = note
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._soon = _Soon(self._convert_arrived)
        if settings.convert_soon > 0:
            storage.lfs.on_arrival(self._arrived)
        jobs.register(COLLECT, self._collect_job)
        jobs.register(CONVERT, self._convert_job)
        jobs.register(CHECK, self._check_job)

    # -- the work ----------------------------------------------------------------------------------------------------
    def collect(
        self, *, dry_run: bool = False, grace: float | None = None, check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Collect garbage; returns the report (see `storage.collecting.Collected`).

        Args:
            grace: seconds, by default as the settings tell.
            check: raises when the work shall end.
        """
        seconds = self._settings.collect_grace if grace is None else grace
        if not 0 <= seconds < 1e9:
            raise Invalid(f"grace is {seconds:g}; seconds from 0 on are expected.", param="grace")
        with self._turn:
            if not dry_run:
                self._storage.lfs.sweep(seconds)
            collector = Collector(
                self._database,
                self._storage.objects,
                Living(self._database),
                grace=timedelta(seconds=seconds),
                delay=timedelta(seconds=self._settings.collect_delay),
                dry_run=dry_run,
                rest=Pace(check),
                removed=lambda _kind, _name: self._storage.xet.index.cache_clear(),
            )
            try:
                collector.run()
                old, rest = collector.done.started - timedelta(seconds=seconds), Pace(check)
                named = Living(self._database).weights
                prints = self._storage.prints.collect(named, old, dry_run=dry_run, rest=rest)
                if prints:
                    collector.done.rows["weight_prints"] = prints
            finally:
                told: dict[str, Any] = msgspec.to_builtins(collector.done, str_keys=True)
                if not dry_run and (collector.done.rows or collector.done.removed):
                    self._note("store.collected", SYSTEM, grace=seconds, **told)
        return told

    def convert(self, check: Callable[[], None] = lambda: None, *, most: int | None = None) -> dict[str, Any]:
        """Turn whole files, up to `most` bytes, into Xet files; returns the report (see `storage.converting`)."""
        with self._turn:
            converter = Converter(self._database, self._storage.lfs, self._storage.xet, most=most, rest=Pace(check))
            try:
                converter.run()
            finally:
                told: dict[str, Any] = msgspec.to_builtins(converter.done)
                if converter.done.files:
                    self._note("store.converted", SYSTEM, **told)
        return told

    def _arrived(self, tenant: str, sha256: str, size: int) -> None:
        if 0 < size <= self._settings.convert_soon and not self._stopping.is_set():
            self._soon.put((tenant, sha256, size))

    def _convert_arrived(self, files: Iterator[_File]) -> None:
        rest = Pace(self._check_stopping)
        converter = Converter(self._database, self._storage.lfs, self._storage.xet, rest=rest)
        for tenant, sha256, size in files:
            try:
                converter.convert(tenant, sha256, size)
            except _Stopped:
                raise
            except EcotoneError as error:
                log.warning("%s of %s stays whole for now: %s", sha256, tenant, error.message)
            except Exception:
                log.exception("%s of %s stays whole for now", sha256, tenant)

    def _collect_job(self, context: JobContext) -> dict[str, Any]:
        params = context.job.params
        return self.collect(dry_run=params.get("dry_run", False), grace=params.get("grace"), check=context.check)

    def _convert_job(self, context: JobContext) -> dict[str, Any]:
        return self.convert(context.check)

    def _check_job(self, context: JobContext) -> dict[str, Any]:
        deep = bool(context.job.params.get("deep"))
        check = Check(self._settings, self._database, self._storage, deep=deep, rest=Pace(context.check))
        told: dict[str, Any] = msgspec.to_builtins(check.run())
        return told

    # -- the clock ---------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Collect, and convert where that is set, now and then; again soon after objects were condemned."""
        interval = self._settings.collect_seconds
        if interval <= 0:
            return
        wait = min(interval, _FIRST_SECONDS)
        while True:
            await asyncio.sleep(wait)
            wait = interval
            try:
                told = await run_in_threadpool(self._by_the_clock)
                if told.get("waiting"):
                    wait = min(interval, self._settings.collect_delay + _LOOK_SECONDS)
            except _Stopped:
                return
            except Exception:  # the next round tries again
                log.exception("the store could not be cleaned up")

    def _by_the_clock(self) -> dict[str, Any]:
        if self._settings.convert:
            self.convert(self._check_stopping)
        elif self._settings.convert_soon > 0:  # those that an end of the server, or a full disk, left
            self.convert(self._check_stopping, most=self._settings.convert_soon)
        return self.collect(check=self._check_stopping)

    def stop(self) -> None:
        """End what the clock began; a job ends by itself when the server stops."""
        self._stopping.set()

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise _Stopped


class _Stopped(Exception):
    pass


class _Soon:
    """Files that wait for a thread, which begins with the first of them and ends when none is left."""

    def __init__(self, work: Callable[[Iterator[_File]], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._waiting: deque[_File] = deque(maxlen=_MOST_WAITING)
        self._running = False

    def put(self, file: _File) -> None:
        with self._lock:
            self._waiting.append(file)
            if not self._running:
                thread = threading.Thread(target=self._run, name="convert", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread can be had; the next file brings one, or the clock takes them up
                    log.warning("files that arrived stay whole for now: no thread can be started")
                    return
                self._running = True

    def _run(self) -> None:
        try:
            self._work(self._taken())
        except _Stopped:
            pass
        except Exception:
            log.exception("files that arrived stay whole for now")
            with self._lock:
                self._running = False

    def _taken(self) -> Iterator[_File]:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running = False
                    return
                file = self._waiting.popleft()
            yield file
