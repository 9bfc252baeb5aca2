"""An engine that died under a request: while nothing of the answer went out, the request waits for the next one.

Repeating is safe until the first byte. It is done once for each request, on the same model alone, and booked once: what
the dead engine had done is in no account.
"""

import asyncio
from abc import abstractmethod
from typing import Any, Final

from ecotone.gateway.answers import Refusal
from ecotone.gateway.plane.course import Course
from ecotone.gateway.plane.ground import Ground
from ecotone.gateway.plane.lanes import Option
from ecotone.gateway.plane.later import Dropped
from ecotone.gateway.plane.upstreams import Unreachable
from ecotone.gateway.snapshot import Target
from ecotone.privacy import inspect

_FAILED: Final = frozenset({"upstream_failed", "upstream_busy"})
_PAUSE: Final = 0.1
_ALIVE: Final = 3
"""Looks at an engine that takes connections still, after which it did not die: it broke on this request."""
_UNNOTICED: Final = 3.0
"""Seconds for which an engine may be gone without its supervisor saying so."""


class Reviving(Ground):
    """The part of the plane that waits for engines to come back."""

    @abstractmethod
    def _look(self) -> None:
        """Take over a new snapshot. Raises Refusal."""

    def revives(self, job: Course, refusal: Refusal) -> bool:
        """Whether the request goes on by itself once its engine is back; only a local one is known to come back."""
        target = job.option.candidate.target
        if target.backend != "local" or job.revived or job.shown or isinstance(job.client, Dropped):
            return False
        lost = refusal.code == "upstream_unreachable" or (refusal.code == "upstream_died" and job.lost)
        if not lost and not (refusal.code in _FAILED and self._is_ending(job, target)):
            return False
        job.revived = True
        self.spawn(self._revive(job, refusal), job)
        return True

    def _is_ending(self, job: Course, target: Target) -> bool:
        """Whether an engine that answered with an error is one that ends."""
        now = self._snapshot.target(job.option.name)
        gone = now is None or not now.ready or _place(now) != _place(target)
        return gone or job._headers.get(b"connection", b"").lower() == b"close"

    async def _revive(self, job: Course, refusal: Refusal) -> None:
        """Go on with the next engine, or refuse when none comes in time, or when this one is alive."""
        name, before = job.option.name, _place(job.option.candidate.target)
        began, died, alive = self.now(), False, 0
        while True:
            await asyncio.sleep(_PAUSE)  # a process that ends takes connections for a moment still
            if _is_over(job):
                return
            try:
                self._look()
                option = await self._again(job)
            except Refusal as other:
                refusal = other
                break
            if _is_over(job):
                return
            target = self._snapshot.target(name)
            if target is None or not (target.ready or target.starting):
                break
            if target.wakes and not (target.ready or died):
                self.wake(name)
            alive += option is not None
            died = died or option is None or _place(target) != before
            if option is not None and (died or (alive > 1 and len(target.sockets) > 1)):
                self.chooser.health.forget(name)  # what was known is of the dead one
                job.again(option, refusal)
                return
            waited = self.now() - began
            if alive >= _ALIVE or waited > self._settings.engine_wait:
                break
            if target.ready and waited > _UNNOTICED and _place(target) == before:
                break
        job.fail(refusal)

    async def _again(self, job: Course) -> Option | None:
        """The same model where it answers now. Raises Refusal when it may not be called any more."""
        target = self._snapshot.target(job.option.name)
        if target is None or not target.ready:
            return None
        lane = job.lane
        found: Any = self._lanes.made(lane.key, lane.consumer, job.request, job.findings or inspect({}))
        option: Option | None = next((o for o in found.ready if o.name == job.option.name), None)
        if option is None:
            return None
        try:
            (await option.place.connect(lane.connect)).close()
        except Unreachable:
            return None
        return option


def _is_over(job: Course) -> bool:
    """Whether a request has its end, or nobody waits for it."""
    return job.gone or job._settled


def _place(target: Target) -> tuple[str | None, ...]:
    """Where a target's engines answer."""
    return target.socket, target.url, *target.sockets
