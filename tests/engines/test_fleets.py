"""When the engines of a model are unloaded: never while somebody waits for one of them."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.engines.fleets import Fleet
from ecotone.engines.kinds.kind import Beat, Options
from ecotone.engines.memory import Claim, Memory
from ecotone.engines.supervision import Pace
from ecotone.engines.tending import Tending
from ecotone.vocabulary import DeploymentState
from tests.receiver import until

READY, STARTING = DeploymentState.READY, DeploymentState.STARTING
IDLE = [Options(idle=0.1)]


class Replica(SimpleNamespace):
    """One engine as a fleet sees it; `ending` holds up its end."""

    def __init__(self, state: DeploymentState, ending: threading.Event | None = None) -> None:
        super().__init__(state=state, restarts=0, used=0.0, busy=False, beat=Beat(), failure=None, stopped=False)
        self.waited = False
        self._ending = ending

    def wait_ready(self, _seconds: float) -> None:
        assert not self.stopped, "whoever deployed it is told that it was stopped"
        self.waited = True

    def stop(self) -> None:
        self.stopped = True
        if self._ending is not None:
            self._ending.wait(60)


class Scene:
    """A fleet whose replicas are made by hand, and what looks after it."""

    def __init__(self, *replicas: Replica) -> None:
        self.looks = 0
        self.users = IDLE
        self.started: list[Replica] = []
        self.fleet = Fleet(
            "demo/llama", "1", Options(), start=self._start, changed=lambda: None, pace=Pace(settle=0.05)
        )
        self.fleet.replicas = list[Any](replicas)
        self.fleet.touched = 0.0
        self.tending = Tending(Memory(100), self._fleets, 0.0, Pace(look=0.01))

    def _fleets(self) -> list[tuple[Fleet, list[Options]]]:
        self.looks += 1
        return [(self.fleet, self.users)]

    def _start(self, *_: object) -> Any:
        self.started.append(Replica(READY))
        return self.started[-1]


@pytest.fixture
def half_loaded() -> Iterator[Scene]:
    found = Scene(Replica(READY), Replica(STARTING))
    yield found
    found.tending.close()


def test_one_of_two_replicas_does_not_count_as_idle_while_the_other_loads(half_loaded: Scene) -> None:
    """Its deployment failed then: "it was stopped while it started"."""
    first = half_loaded.looks
    until(lambda: half_loaded.looks > first + 10)
    assert half_loaded.fleet.is_loaded and not half_loaded.fleet.leaving
    half_loaded.fleet.replicas[1].state = READY
    until(lambda: not half_loaded.fleet.is_loaded)


def test_one_that_comes_back_again_and_again_keeps_nothing_loaded(half_loaded: Scene) -> None:
    half_loaded.fleet.replicas[1].restarts = 1
    until(lambda: not half_loaded.fleet.is_loaded)


def test_what_loads_makes_no_room_for_others(half_loaded: Scene) -> None:
    tending, fleet = half_loaded.tending, half_loaded.fleet
    other = Fleet("demo/other", "1", Options(), start=half_loaded._start, changed=lambda: None, pace=Pace())
    assert tending.memory.claim(Claim(fleet.model, 60, lambda: None, fleet))
    assert not tending._evict(other, Claim(other.model, 60, lambda: None, other))


def test_whoever_deploys_a_model_that_is_being_unloaded_waits_for_the_engines_that_follow() -> None:
    ending = threading.Event()
    old = Replica(READY, ending)
    scene = Scene(old)
    until(lambda: old.stopped)
    scene.users = [Options(pin=True)]
    scene.fleet.load(patient=False, anew=True)
    waiting = threading.Thread(target=scene.fleet.wait_ready, args=(60,))
    waiting.start()
    assert not scene.started
    ending.set()
    waiting.join(60)
    assert [replica.waited for replica in scene.started] == [True] and not old.waited
    scene.tending.close()
