"""Loads and unloads fleets by need: idle ones go after their time, the least recently used ones for want of memory,
and one whose calls wait gets a further replica. Decides nothing about who may be served."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ecotone.engines.errors import EngineFailed
from ecotone.engines.fleets import Fleet
from ecotone.engines.kinds.kind import Options
from ecotone.engines.memory import Claim, Memory
from ecotone.engines.supervision import Pace
from ecotone.vocabulary import DeploymentState

log = logging.getLogger("ecotone.engines")

_JUST_USED = 1.5  # seconds: one that was used since the last beat may be used right now


class Tending:
    """Looks after fleets in a thread.

    Args:
        memory: for all engines.
        fleets: those there are, each with the options of the deployments that use it.
        idle: seconds for deployments that say nothing, 0 for never.
    """

    def __init__(
        self, memory: Memory, fleets: Callable[[], list[tuple[Fleet, list[Options]]]], idle: float, pace: Pace
    ) -> None:
        self.memory = memory
        self._fleets = fleets
        self._idle = idle
        self._pace = pace
        self._ended = threading.Event()
        self._evicting = threading.Lock()
        self._thread = threading.Thread(target=self._tend, name="engines-tending", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        self._ended.wait(seconds)

    def limit(self, users: Sequence[Options]) -> float | None:
        """Seconds without a call after which a fleet with these users is unloaded: the longest that one of them asks
        for; None for never."""
        longest = 0.0
        for options in users:
            idle = self._idle if options.idle is None else options.idle
            if options.pin or not idle:
                return None
            longest = max(longest, idle)
        return longest or None

    # -- memory ------------------------------------------------------------------------------------------------------
    @contextmanager
    def room(self, fleet: Fleet, number: int, need: int) -> Iterator[None]:
        """Memory for one replica. Others that are idle are unloaded for it, those first that were used longest ago;
        none where all of them together would not be enough.

        Raises:
            NoRoom: it cannot be had; with the numbers.
        """

        def measured() -> int | None:
            replicas = fleet.replicas
            ready = number < len(replicas) and replicas[number].state == DeploymentState.READY
            return replicas[number].beat.memory if ready else None

        claim = Claim(fleet.model, need, measured, fleet)
        with self._evicting:
            while not self.memory.claim(claim):
                if self._ended.is_set():
                    raise EngineFailed(f"{fleet.model} is not started: the server ends.")
                if not (fleet.may_evict and self._evict(fleet, claim)):
                    raise self.memory.refusal(claim, self._kept())
        try:
            yield
        finally:
            self.memory.leave(claim)

    def _evict(self, wanting: Fleet, claim: Claim) -> bool:
        """Unload the fleet that was used longest ago of those that may be; False when there is none, or no use."""
        now = time.monotonic()
        found = [f for f, users in self._fleets() if f is not wanting and self._why_kept(f, users, now) is None]
        if not self.memory.could(claim, found):
            return False
        for fleet in sorted(found, key=lambda f: f.used):
            log.info("%s is unloaded to make room for %s", fleet.model, wanting.model)
            if fleet.unload():
                return True
        return False

    def _kept(self) -> dict[object, str]:
        now = time.monotonic()
        return {f: self._why_kept(f, users, now) or "idle" for f, users in self._fleets()}

    def _why_kept(self, fleet: Fleet, users: Sequence[Options], now: float) -> str | None:
        if any(options.pin for options in users):
            return "pinned"
        if fleet.state != DeploymentState.READY:
            return str(fleet.state)
        if fleet.is_coming:
            return str(DeploymentState.STARTING)
        return "in use" if fleet.busy or now - fleet.used < _JUST_USED else None

    # -- time --------------------------------------------------------------------------------------------------------
    def _tend(self) -> None:
        while not self._ended.wait(self._pace.look):
            for fleet, users in self._fleets():
                try:
                    self._look(fleet, users)
                except Exception:
                    log.exception("looking after the engines of %s failed", fleet.model)

    def _look(self, fleet: Fleet, users: Sequence[Options]) -> None:
        limit = self.limit(users)
        if fleet.state != DeploymentState.READY or fleet.is_coming:
            return
        if limit is not None and not fleet.busy and time.monotonic() - fleet.used > limit:
            threading.Thread(target=fleet.unload, name="engines-unload", daemon=True).start()
        else:
            fleet.fit()
