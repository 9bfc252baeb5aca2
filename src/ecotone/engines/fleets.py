"""The engines of one revision under one set of options: its replicas, their adapters, loaded or not.

Several deployments may use one fleet: a model's own, and those of adapters over it. Knows no tables and no decisions.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ecotone.engines.errors import NoRoom
from ecotone.engines.kinds import named
from ecotone.engines.kinds.kind import Options
from ecotone.engines.supervision import Pace, Supervised
from ecotone.vocabulary import DeploymentState, EcotoneError

log = logging.getLogger("ecotone.engines")

_CROWDED_LOOKS = 6
_QUIET_LOOKS = 120
Start = Callable[["Fleet", int, bool], Supervised]


def engine_options(options: Options) -> Options:
    """Those that the engines themselves depend on, without those that only say when they are loaded."""
    return msgspec.structs.replace(options, idle=None, pin=False, on_demand=False)


def key_of(model: str, revision: str, options: Options) -> tuple[str, str, bytes]:
    """What parts fleets."""
    return model, revision, msgspec.json.encode(engine_options(options), order="sorted")


def spreads(kind: str) -> bool:
    """Whether one start of this kind runs all replicas."""
    return named(kind).spreads


class Fleet:
    """All replicas of one revision.

    Args:
        start: begins one replica: the fleet, its number, whether failures of its first start are tried again.
        changed: called when what others see of it has changed.
    """

    def __init__(
        self, model: str, revision: str, options: Options, *, start: Start, changed: Callable[[], None], pace: Pace
    ) -> None:
        self.model = model
        self.revision = revision
        self.options = options
        self.key = key_of(model, revision, options)
        self.users: set[str] = set()
        """Models whose deployments use it."""
        self.replicas: list[Supervised] = []
        self.adapters: dict[str, Path] = {}
        self.leaving = False
        """Whether it is about to be unloaded: no new request is sent there."""
        self.may_evict = True
        """Whether others may be unloaded to make room for it."""
        self.touched = time.monotonic()
        self._crowded = self._quiet = 0
        self._going: list[Supervised] = []
        """Replicas that are no longer needed, until they have ended."""
        self._leave = object()
        """Marks the present unloading: one that was called off says nothing of the next."""
        self._start = start
        self._changed = changed
        self._pace = pace
        self._lock = threading.RLock()
        self._ending = False
        self._wanted = False
        self._over = False

    # -- what is seen ------------------------------------------------------------------------------------------------
    @property
    def state(self) -> DeploymentState:
        states = {replica.state for replica in self.replicas}
        if self.leaving or not states or self.lacks_room:
            return DeploymentState.IDLE
        for state in (DeploymentState.READY, DeploymentState.STARTING, DeploymentState.FAILED):
            if state in states:
                return state
        return DeploymentState.STOPPED

    @property
    def lacks_room(self) -> bool:
        """Whether it was not loaded since there was no memory for it; it is tried again when it is asked for."""
        return bool(self.replicas) and all(isinstance(r.failure, NoRoom) for r in self.replicas)

    @property
    def error(self) -> str | None:
        return next((replica.error for replica in self.replicas if replica.error), None)

    @property
    def is_loaded(self) -> bool:
        return bool(self.replicas) and not self.lacks_room

    @property
    def is_over(self) -> bool:
        """Whether it will never be loaded again."""
        return self._over

    @property
    def is_coming(self) -> bool:
        """Whether a replica loads for the first time: somebody waits for it."""
        return any(r.state == DeploymentState.STARTING and not r.restarts for r in self.replicas)

    @property
    def busy(self) -> bool:
        return any(replica.busy for replica in self.replicas)

    @property
    def used(self) -> float:
        """When it last worked, on the monotonic clock."""
        return max([self.touched, *(replica.used for replica in self.replicas)])

    # -- loading -----------------------------------------------------------------------------------------------------
    def load(self, *, patient: bool, anew: bool = False) -> None:
        """Begin to load it where it is not; one that is being unloaded stays, if it is not too late.

        Args:
            patient: whether failures are tried again.
            anew: whether one that has failed for good is tried again too.
        """
        with self._lock:
            self.touched = time.monotonic()
            if self._over:
                return
            if anew and self.state == DeploymentState.FAILED:
                self.replicas = []
            if self.leaving:
                self._wanted = True
                if not self._ending:
                    self.leaving = False
            elif not self.is_loaded:
                self.replicas = self._started(patient)
            else:
                return
        self._changed()

    def _started(self, patient: bool) -> list[Supervised]:
        self.touched = time.monotonic()
        return [self._start(self, number, patient) for number in range(self._fewest)]

    def wait_ready(self, seconds: float) -> None:
        """Return when all replicas answer; where they are just being unloaded, those that follow. Raises what the first
        that does not raises."""
        end = time.monotonic() + seconds
        while self._ending and not self._over and time.monotonic() < end:
            time.sleep(0.05)
        for replica in list(self.replicas):
            replica.wait_ready(max(0.0, end - time.monotonic()))

    def unload(self) -> bool:
        """End its engines, once every gateway sends elsewhere and nothing runs there any more. False when it is used
        again meanwhile, or not at all loaded."""
        with self._lock:
            if self.leaving or not self.is_loaded or self._over:
                return False
            self.leaving, self._wanted, self._ending = True, False, False
            mine = self._leave = object()
        self._changed()
        self.rest(self._pace.settle)
        with self._lock:
            if self._leave is not mine:
                return False
            if not self.leaving or self.busy:
                was, self.leaving = self.leaving, False
                if was:
                    self._changed()
                return False
            self._ending = True
        self._stop_all()
        with self._lock:
            again = self._wanted and not self._over
            self.replicas = self._started(patient=True) if again else []
            self.leaving = self._ending = False
        self._changed()
        return not again

    def retire(self) -> None:
        """End for good: requests under way may finish, as long as the pace allows."""
        with self._lock:
            self._over = True
        end = time.monotonic() + self._pace.drain
        self.rest(self._pace.settle)
        replicas = self.replicas
        counts = [replica.beats for replica in replicas]
        while time.monotonic() < end and not all(r.state != DeploymentState.READY for r in replicas):
            fresh = all(r.beats > count + 1 for r, count in zip(replicas, counts, strict=True))
            if fresh and not self.busy:
                break
            self.rest(0.1)
            if self._stopped_early:
                break
        self.stop()

    def close(self) -> None:
        """Load nothing any more; `stop` ends what runs."""
        self._over = True

    def stop(self) -> None:
        """End now; returns when all processes have gone."""
        with self._lock:
            self._over = True
        self._stopped_early = True
        self._stop_all()

    _stopped_early = False

    def fit(self) -> None:
        """Have as many replicas as its calls need, between the fewest and the most of its options; called now and
        then."""
        most = self.options.most_replicas or self._fewest
        if most <= self._fewest or spreads(self.options.kind):
            return
        self._crowded = self._crowded + 1 if any(r.beat.waiting for r in self.replicas) else 0
        self._quiet = 0 if self.busy else self._quiet + 1
        if self._crowded >= _CROWDED_LOOKS and all(r.state == DeploymentState.READY for r in self.replicas):
            self._crowded = 0
            with self._lock:
                if len(self.replicas) < most and not self._over and not self.leaving:
                    self.replicas = [*self.replicas, self._start(self, len(self.replicas), False)]
        elif self._quiet >= _QUIET_LOOKS and len(self.replicas) > self._fewest:
            self._quiet = 0
            with self._lock:
                if len(self.replicas) <= self._fewest or self._over or self.leaving:
                    return
                *self.replicas, last = self.replicas
                self._going.append(last)
            self._changed()
            threading.Thread(target=self._let_go, args=(last,), daemon=True).start()

    def _let_go(self, replica: Supervised) -> None:
        self.rest(self._pace.settle)
        replica.stop()
        with self._lock:
            self._going.remove(replica)

    @property
    def _fewest(self) -> int:
        return 1 if spreads(self.options.kind) else max(1, self.options.replicas)

    def rest(self, seconds: float) -> None:
        """Wait, but not beyond the fleet's end."""
        end = time.monotonic() + seconds
        while not self._stopped_early and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.1, left))

    def _stop_all(self) -> None:
        with self._lock:
            replicas = [*self.replicas, *self._going]
        threads = [threading.Thread(target=replica.stop) for replica in replicas]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # -- adapters ----------------------------------------------------------------------------------------------------
    def add(self, name: str, folder: Path) -> None:
        """Serve an adapter on all replicas, from now on.

        Raises:
            NotSupported: it takes none while it runs, or not this one; then none has it.
            EngineFailed: it did not work; then none has it.
        """
        with self._lock:
            self.adapters[name] = folder
            replicas = list(self.replicas)
        try:
            for replica in replicas:
                replica.add(name, folder)
        except EcotoneError:
            self.remove(name)
            raise

    def remove(self, name: str) -> None:
        with self._lock:
            self.adapters.pop(name, None)
            replicas = list(self.replicas)
        for replica in replicas:
            replica.remove(name)
