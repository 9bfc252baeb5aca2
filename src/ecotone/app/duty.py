"""The work in the background that one process of an installation does at a time: jobs, engines, sweeping,
webhooks, upkeep of the store.

Over a graceful restart the old server gives it up before the new one takes it. Both go on answering meanwhile: calls to
a local engine wait at the new one until it runs there.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from ecotone.app.chains import settle_left
from ecotone.app.services import Services
from ecotone.app.trace_child import TraceChild

log = logging.getLogger("ecotone.app")

_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 1.0
_STOP_SECONDS = 15.0


class Duty:
    """Who does the background work.

    Args:
        calls: how many requests of the gateway are under way here; they may use this process's engines.
    """

    def __init__(self, services: Services, calls: Callable[[], int]) -> None:
        self._services = services
        self._calls = calls
        self._turn = asyncio.Lock()
        self._held = self._over = self._restored = False
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self) -> None:
        """Let engines be seen as starting, while another process has them."""
        self._services.engines.hold()
        self._restored = True
        await run_in_threadpool(self._services.engines.restore)

    async def take(self, *, patient: bool = False) -> None:
        """Begin the work; whoever had it has given it up.

        Args:
            patient: whether what fails is tried again until it is done: no other process would do the work.
        """
        async with self._turn:
            if self._over or self._held:
                return
            self._held = True
            services = self._services
            for step in (
                services.storage.sweep,
                self._settle,
                services.jobs.start,
                services.examining.resume,
                services.engines.own,
            ):
                await self._done(step, patient=patient)
            if not self._restored:
                services.engines.restore()
            self._tasks = [
                asyncio.create_task(services.courier.run(), name="webhooks"),
                asyncio.create_task(services.upkeep.run(), name="upkeep"),
                asyncio.create_task(services.watch.run(), name="watch"),
                asyncio.create_task(TraceChild(services.settings).run(), name="traces"),
            ]
            for task in self._tasks:
                task.add_done_callback(_ended)

    async def give(self, *, patient: bool = False) -> None:
        """End the work for good.

        Args:
            patient: whether calls under way may finish with their engines.
        """
        if not self._over:
            self._over = True
            self._services.builder.keep_to_itself()
            async with self._turn:
                self._services.upkeep.stop()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                # a successor would run what has not ended a second time
                await run_in_threadpool(self._services.jobs.stop, None if patient else _STOP_SECONDS)
        elif not patient:  # a drain may still wait for a job, which is to find the ledger open
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS), self._turn:
                    pass
        while patient and self._calls():  # noqa: ASYNC110  requests are counted without telling anybody
            await asyncio.sleep(_LOOK_SECONDS)
        await run_in_threadpool(self._services.engines.shutdown)
        self._held = False

    async def left_alone(self) -> None:
        """No other server is left: take up what the last one left."""
        await run_in_threadpool(self._settle)
        if self._held:
            await self._done(self._services.jobs.collect, patient=True)

    async def _done(self, step: Callable[[], object], *, patient: bool) -> None:
        while True:
            try:
                await run_in_threadpool(step)
                return
            except Exception:
                if not patient or self._over:
                    raise
                log.exception("the background work cannot be taken up yet; it is tried again")
            await asyncio.sleep(_AGAIN_SECONDS)

    def _settle(self) -> None:
        services = self._services
        try:
            settle_left(services.settings, services.ledger_heads.known(), services.ledger_writer)
        except Exception:  # what is not settled now is at the next start
            log.exception("what earlier servers left open in the ledger could not be settled")


def _ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the background work %r ended by a fault", task.get_name(), exc_info=error)
