"""Two acts on engines at once: what one of them began is not undone by the other, and none is lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ecotone.accounts import SYSTEM
from ecotone.engines import Engines, Options, adapting, services, stock
from ecotone.engines.errors import NotServable
from ecotone.engines.fleets import Fleet
from ecotone.engines.kinds.kind import Beat, Spec, Where
from ecotone.engines.sockets import Sockets
from ecotone.engines.supervision import Pace, Supervised
from ecotone.vocabulary import DeploymentState
from tests.engines.shelf import Shelf, running
from tests.receiver import until

OTHERS = Options(threads=1)


class Replica:
    """An engine without a process, which is ready at once."""

    all: ClassVar[list["Replica"]] = []

    def __init__(self, spec: Spec, _files: object, *, adapters: dict[str, Path], **_: object) -> None:
        self.state = DeploymentState.READY
        self.where = Where(socket=Path("/none"))
        self.adapters = dict(adapters)
        self.loaded = set(adapters)
        self.adapter_errors: dict[str, str] = {}
        self.error = self.failure = self.started = self.progress = self.pid = None
        self.info: dict[str, Any] = {}
        self.beat, self.restarts, self.speed, self.used = Beat(), 0, 0.0, 0.0
        self._beats = 0
        self.busy = self.stopped = False
        self.log_file = spec.log_file
        Replica.all.append(self)

    @property
    def beats(self) -> int:
        self._beats += 2
        return self._beats

    def wait_ready(self, _seconds: float) -> None:
        assert not self.stopped, "whoever deployed it is told that it was stopped"

    def stop(self) -> None:
        self.stopped, self.state = True, DeploymentState.STOPPED

    def add(self, name: str, folder: Path) -> None:
        self.adapters[name] = folder
        self.loaded.add(name)

    def remove(self, name: str) -> None:
        self.adapters.pop(name, None)
        self.loaded.discard(name)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A base with an adapter of two revisions, and engines that are none."""
    found = Shelf()
    for number, name in enumerate(("demo/base", "demo/a", "demo/a", "demo/x")):
        folder = tmp_path / f"files{number}"
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"number": {number}}}')
        found.put(name, folder)
    monkeypatch.setattr(Replica, "all", [])
    monkeypatch.setattr(stock, "Supervised", Replica)
    monkeypatch.setattr(services, "check_installed", lambda *_: None)
    monkeypatch.setattr(adapting, "is_adapter", lambda _catalog, revision: revision.model_id == "demo/a")
    monkeypatch.setattr(adapting, "base_for", lambda *_: _base(found))
    monkeypatch.setattr(adapting, "may_share", lambda *_: True)
    return found


def _base(shelf: Shelf) -> Any:
    model = shelf.model("demo/base", viewer=SYSTEM)
    return model, shelf.revision(model)


@pytest.fixture
def engines(tmp_path: Path, shelf: Shelf) -> Iterator[Engines]:
    with running(tmp_path, shelf) as found:
        yield found


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """When it is set, every gateway knows of what was changed."""
    found = threading.Event()
    monkeypatch.setattr(Fleet, "rest", lambda fleet, _seconds: fleet.is_over or found.wait(90))
    return found


def one(engines: Engines, model: str = "demo/a") -> Any:
    return engines._deployed[model]


def ended() -> None:
    """Whatever is done behind the callers' backs has been done."""
    until(lambda: not any(thread.name == "engines" for thread in threading.enumerate()))


def test_an_adapter_that_is_served_again_at_once_is_not_taken_away_with_its_successor(
    engines: Engines, settled: threading.Event
) -> None:
    for number in (1, 2, 1):
        engines.serve("demo/a", f"{number:040x}", (), SYSTEM)
    settled.set()
    ended()
    (replica,) = Replica.all
    assert replica.loaded == {f"demo/a@{1:040x}"} and not replica.stopped
    assert one(engines).fleet.adapters.keys() == replica.loaded


@pytest.mark.parametrize(("number", "options"), [(1, OTHERS), (2, Options()), (1, Options())])
def test_what_serves_a_model_goes_on_when_the_next_deployment_cannot_be_kept(
    engines: Engines, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, number: int, options: Options
) -> None:
    made = engines.serve("demo/a", f"{1:040x}", (), SYSTEM)
    with monkeypatch.context() as patched:
        patched.setattr(shelf, "hold", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engines.serve("demo/a", f"{number:040x}", ("shop",), SYSTEM, options)
    (replica,) = [replica for replica in Replica.all if not replica.stopped]
    assert replica.loaded == {f"demo/a@{1:040x}"} and engines.deployments() == [made]
    assert shelf.in_use == 1 and list(engines._fleets.values()) == [one(engines).fleet]


def test_an_adapter_that_comes_back_to_a_copy_of_its_base_keeps_it(engines: Engines, settled: threading.Event) -> None:
    for options in (Options(), OTHERS, Options()):
        engines.serve("demo/a", f"{1:040x}", (), SYSTEM, options)
    settled.set()
    ended()
    first, other = Replica.all
    assert other.stopped and not first.stopped and first.loaded == {f"demo/a@{1:040x}"}
    assert one(engines).fleet.users == {"demo/a"}


def test_an_adapter_that_comes_while_its_base_is_stopped_has_an_engine_of_its_own(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Fleet.stop

    def after_another(fleet: Fleet) -> None:
        if "demo/a" not in engines._deployed:
            engines.serve("demo/a", "main", (), SYSTEM)
        stop(fleet)

    engines.serve("demo/base", "main", (), SYSTEM)
    with monkeypatch.context() as patched:
        patched.setattr(Fleet, "stop", after_another)
        engines.stop("demo/base")
    first, second = Replica.all
    assert first.stopped and not second.stopped and second.loaded == {f"demo/a@{2:040x}"}
    assert [(d.model, d.state) for d in engines.deployments()] == [("demo/a", DeploymentState.READY)]


def test_an_adapter_that_is_stopped_while_it_moves_to_its_base_is_left_nowhere(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.serve("demo/a", "main", (), SYSTEM)
    stopping = threading.Thread(target=engines.stop, args=("demo/a",))
    add = Fleet.add

    def while_it_is_stopped(fleet: Fleet, name: str, folder: Path) -> None:
        add(fleet, name, folder)
        stopping.start()
        stopping.join(1)  # it ends here, unless it waits for us

    monkeypatch.setattr(Fleet, "add", while_it_is_stopped)
    engines.serve("demo/base", "main", (), SYSTEM, OTHERS)
    stopping.join(90)
    ended()
    assert one(engines, "demo/base").fleet.users == {"demo/base"} and not Replica.all[-1].loaded
    assert Replica.all[0].stopped


def test_two_who_stop_the_same_model_are_both_told_that_it_is_stopped(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.serve("demo/x", "main", (), SYSTEM)
    lock, left = engines._lock, ExitStack()
    left.callback(engines.stop, "demo/x")

    class Lock:
        """After whose first use another stops the model."""

        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()
            left.pop_all().close()

    monkeypatch.setattr(engines, "_lock", Lock())
    engines.stop("demo/x")
    assert engines.deployments() == [] and Replica.all[0].stopped


def test_files_are_free_when_the_engines_have_ended(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = threading.Event()
    monkeypatch.setattr(Fleet, "rest", lambda *_: late.wait(1))
    with running(tmp_path, shelf) as engines:
        for number in (1, 2):
            engines.serve("demo/a", f"{number:040x}", (), SYSTEM)
        engines.shutdown()
        assert shelf.in_use == 0


def test_what_begins_just_as_the_engines_end_is_waited_for(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, done = threading.Thread.start, threading.Event()
    ends: list[str] = []

    def end() -> None:
        try:
            engines.shutdown()
            ends.append("in order")
        except RuntimeError as error:
            ends.append(str(error))

    ending = threading.Thread(target=end)

    def while_they_end(thread: threading.Thread) -> None:
        if thread.name == "engines":
            begin(ending)
            ending.join(1)  # it ends here, unless it waits for us
        begin(thread)

    with running(tmp_path, shelf) as engines:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", while_they_end)
            engines._behind(done.set)
        ending.join(90)
        assert ends == ["in order"] and done.is_set()


def test_who_takes_the_engines_over_knows_what_was_deployed_and_stopped_meanwhile(tmp_path: Path, shelf: Shelf) -> None:
    """A model that was deployed during a graceful restart was forgotten, and one that was stopped came back."""
    with running(tmp_path, shelf) as old:
        old.serve("demo/x", "main", (), SYSTEM)
        old.serve("demo/base", "main", (), SYSTEM)
        with running(tmp_path, shelf) as new:
            new.hold()
            new.restore()
            old.stop("demo/x")
            old.serve("demo/base", "main", ("shop",), SYSTEM, OTHERS)
            old.serve("demo/a", f"{1:040x}", (), SYSTEM)
            old.shutdown()
            new.own()
            until(lambda: all(d.state == DeploymentState.READY for d in new.deployments()))
            found = {d.model: (d.projects, d.options) for d in new.deployments()}
            assert found == {"demo/a": ((), Options()), "demo/base": (("shop",), OTHERS)}
            alive = {id(replica) for replica in Replica.all if not replica.stopped}
            assert alive == {id(replica) for fleet in new._fleets.values() for replica in fleet.replicas}


def test_who_takes_the_engines_over_leaves_what_a_request_is_about_to_deploy(tmp_path: Path, shelf: Shelf) -> None:
    with running(tmp_path, shelf) as new:
        new.hold()
        new.restore()
        waits, may = threading.Event(), threading.Event()
        describe: Callable[..., Any] = new._on_base

        def waiting(*args: Any) -> Any:
            waits.set()
            assert may.wait(90)
            return describe(*args)

        new._on_base = waiting  # type: ignore[method-assign, assignment]
        serving = threading.Thread(target=new.serve, args=("demo/x", "main", (), SYSTEM))
        serving.start()
        assert waits.wait(90)
        new.own()
        may.set()
        serving.join(90)
        assert [d.model for d in new.deployments()] == ["demo/x"]


def test_an_unloading_that_was_called_off_does_not_end_engines_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways that do not know of the next one yet would still send calls there."""
    turns = [threading.Event(), threading.Event()]
    begun: list[threading.Event] = []

    def rest(_fleet: Fleet, _seconds: float) -> None:
        begun.append(turns[len(begun)])
        assert begun[-1].wait(90)

    monkeypatch.setattr(Fleet, "rest", rest)
    fleet = Fleet("demo/x", "1", Options(), start=lambda *_: _replica(tmp_path), changed=lambda: None, pace=Pace())
    fleet.load(patient=False)
    (replica,) = fleet.replicas
    first, second = threading.Thread(target=fleet.unload), threading.Thread(target=fleet.unload)
    first.start()
    until(lambda: len(begun) == 1)
    fleet.load(patient=True)
    second.start()
    until(lambda: len(begun) == 2)
    turns[0].set()
    first.join(90)
    assert fleet.leaving and not replica.stopped  # type: ignore[attr-defined]
    turns[1].set()
    second.join(90)
    assert replica.stopped and not fleet.is_loaded  # type: ignore[attr-defined]


def test_a_fleet_that_is_unloaded_just_now_lets_no_replica_go(tmp_path: Path) -> None:
    fleet = Fleet(
        "demo/x", "1", Options(most_replicas=2), start=lambda *_: _replica(tmp_path), changed=lambda: None, pace=Pace()
    )
    fleet.replicas = [_replica(tmp_path), _replica(tmp_path)]
    fleet._quiet = 1000

    class Lock:
        """Held by who unloads, as long as whoever wants it waits."""

        def __enter__(self) -> None:
            fleet.replicas = []

        def __exit__(self, *_: object) -> None:
            pass

    fleet._lock = Lock()  # type: ignore[assignment]
    fleet.fit()
    assert fleet.replicas == []


def test_a_replica_that_is_let_go_ends_with_its_fleet(tmp_path: Path) -> None:
    fleet = Fleet(
        "demo/x", "1", Options(most_replicas=2), start=lambda *_: _replica(tmp_path), changed=lambda: None,
        pace=Pace(settle=600),
    )  # fmt: skip
    both = fleet.replicas = [_replica(tmp_path), _replica(tmp_path)]
    fleet._quiet = 1000
    fleet.fit()
    assert len(fleet.replicas) == 1
    fleet.stop()
    assert all(replica.stopped for replica in both)  # type: ignore[attr-defined]


def test_whoever_is_told_that_an_engine_failed_sees_it_so(tmp_path: Path) -> None:
    seen: list[DeploymentState] = []

    class Watched(Supervised):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "failure" and value is not None:
                seen.append(self.state)

    def files() -> Any:
        raise NotServable("it has no weights")

    kind: Any = None
    replica = Watched(_spec(tmp_path), files, kind=kind, changed=lambda: None, pace=Pace(), patient=False, adapters={})
    with pytest.raises(NotServable):
        replica.wait_ready(90)
    assert seen == [DeploymentState.FAILED]


def _spec(folder: Path) -> Spec:
    return Spec(
        model="demo/x",
        revision="1",
        options=Options(),
        replica=0,
        sockets=Sockets(folder),
        log_file=folder / "log",
        root=folder,
    )


def _replica(folder: Path) -> Any:
    return Replica(_spec(folder), None, adapters={})
