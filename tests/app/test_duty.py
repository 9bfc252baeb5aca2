"""The work in the background while two servers are alive: one has it, none of it is lost, none is done twice."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecotone.accounts import SYSTEM
from ecotone.app.chains import settle_left
from ecotone.app.duty import Duty
from ecotone.app.services import Services, compose
from ecotone.database import utc_now
from ecotone.engines import Served
from ecotone.engines.models import DeploymentRow
from ecotone.jobs import JobContext
from ecotone.jobs.errors import JobCancelled
from ecotone.ledger import Ledger
from ecotone.settings import Settings
from ecotone.vocabulary import DeploymentState, JobState


class Nap:
    """A job that lasts until it is told to wake; how many of them run at a time."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.running = self.most = self.done = 0

    def __call__(self, context: JobContext) -> dict[str, Any]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            while not self.wake.wait(0.01):
                if context.cancelled():
                    raise JobCancelled
            self.done += 1
            return {}
        finally:
            self.running -= 1


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Services, Services]]:
    """The services of a server and of its successor, on one data folder."""
    settings = Settings(data=tmp_path)
    old = compose(settings)
    new = compose(settings, successor=True)
    yield old, new
    for services in (old, new):
        services.jobs.stop()
        services.engines.shutdown()
        services.ledger_writer.close()
        services.database.dispose()


def test_a_running_job_passes_to_the_new_server_and_runs_once(two: tuple[Services, Services]) -> None:
    old, new = two
    nap = Nap()
    for services in two:
        services.jobs.register("nap", nap)

    async def hand_over() -> None:
        giving, taking = Duty(old, lambda: 0), Duty(new, lambda: 0)
        await taking.wait()
        await giving.take()
        first = old.jobs.submit("nap", {}, "ann")
        await until(lambda: nap.running == 1)
        await giving.give(patient=True)
        assert nap.running == 0
        late = old.jobs.submit("nap", {}, "ann")  # by a request that the old server still answers
        await taking.take()
        await until(lambda: nap.running == 1)
        nap.wake.set()
        await until(lambda: new.jobs.get(first.id).state == JobState.DONE)
        await taking.left_alone()
        await until(lambda: new.jobs.get(late.id).state == JobState.DONE)

    asyncio.run(hand_over())
    assert (nap.most, nap.done) == (1, 2)


def test_a_model_that_only_the_other_server_serves_is_not_deleted(two: tuple[Services, Services]) -> None:
    old, new = two
    model = old.catalog.create("demo/x", private=False, actor=SYSTEM)
    with old.database.writing() as session:
        row = {"id": "dep-1", "model": model.id, "revision": "0" * 40, "projects": [], "options": {}, "actor": "ann"}
        session.add(DeploymentRow(**row, created=utc_now()))
    with pytest.raises(Served):
        new.catalog.delete(model, SYSTEM)
    assert new.catalog.model("demo/x", viewer=SYSTEM) == model


def test_engines_start_at_the_new_server_only_after_the_old_one_gave_them_up(two: tuple[Services, Services]) -> None:
    """Two engines of one model do not fit in one GPU. Until then it is seen as starting, so that calls wait for it."""
    old, new = two

    async def hand_over() -> None:
        calls = 1
        giving, taking = Duty(old, lambda: calls), Duty(new, lambda: 0)
        await giving.take()
        with old.database.writing() as session:
            session.add(
                DeploymentRow(
                    id="dep-1",
                    model="demo/x",
                    revision="0" * 40,
                    projects=[],
                    options={},
                    actor="ann",
                    created=utc_now(),
                )
            )
        await taking.wait()
        assert [(d.model, d.state) for d in new.engines.deployments()] == [("demo/x", DeploymentState.STARTING)]
        given = asyncio.create_task(giving.give(patient=True))
        await asyncio.sleep(0.5)
        assert not given.done(), "a call under way keeps its engine"
        assert new.engines.deployments()[0].state == DeploymentState.STARTING
        calls = 0
        await given
        await taking.take()
        # there is no such model: that it was looked for shows that the engine was let go
        await until(lambda: new.engines.deployments()[0].state == DeploymentState.FAILED)

    asyncio.run(hand_over())


def test_what_a_living_server_has_open_is_not_settled_by_its_successor(two: tuple[Services, Services]) -> None:
    """Else a stream that lasts over the restart is counted twice, or as interrupted."""
    old, new = two
    ledger = Ledger(old.settings.folder("ledger"))
    opened = {"request_id": "r-1", "project": "shop", "model": "m", "reserved_prompt_tokens": 7}
    old.ledger_writer.append("opened", opened, flush=True)
    assert old.ledger_writer.writer != new.ledger_writer.writer
    assert settle_left(new.settings, new.ledger_heads.known(), new.ledger_writer) == 0
    old.ledger_writer.close()  # the old server is gone without settling
    assert settle_left(new.settings, new.ledger_heads.known(), new.ledger_writer) == 1
    assert settle_left(new.settings, new.ledger_heads.known(), new.ledger_writer) == 0
    settled = list(ledger.records("settled"))
    assert [(r["request_id"], r["status"], r["prompt_tokens"]) for r in settled] == [("r-1", "interrupted", 7)]
    assert ledger.verify().ok


def test_what_the_old_server_is_making_is_not_swept_by_its_successor(two: tuple[Services, Services]) -> None:
    old, new = two
    with old.storage.lfs.receiving("demo", "0" * 64, 4) as upload:
        upload.write(b"ab")
        half = old.settings.data / "materialised" / ".being-made"
        half.mkdir()
        third = compose(old.settings, successor=True)
        assert half.exists(), "folders are swept by who has the background work"
        new.storage.sweep()
        assert upload._draft.path.exists(), "an upload under way stays"
        third.ledger_writer.close()
        third.database.dispose()
    assert not half.exists()


def test_a_step_that_fails_once_does_not_keep_the_work_from_the_new_server(
    two: tuple[Services, Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one has given it up and ends: without another try nobody would run jobs and engines any more."""
    _, new = two
    nap, sweep = Nap(), new.storage.sweep
    nap.wake.set()
    new.jobs.register("nap", nap)
    failing = [OSError("the disk is full"), OSError("the disk is full still")]

    def sweep_or_fail() -> None:
        if failing:
            raise failing.pop()
        sweep()

    monkeypatch.setattr(new.storage, "sweep", sweep_or_fail)

    async def take() -> None:
        duty = Duty(new, lambda: 0)
        await duty.wait()
        await duty.take(patient=True)
        job = new.jobs.submit("nap", {}, "ann")
        await until(lambda: new.jobs.get(job.id).state == JobState.DONE)
        await duty.give()

    asyncio.run(take())


def test_a_server_that_is_told_to_end_ends_although_the_work_cannot_be_taken_up(
    two: tuple[Services, Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, new = two
    tried = threading.Event()

    def fail() -> None:
        tried.set()
        raise OSError("the disk is full")

    monkeypatch.setattr(new.storage, "sweep", fail)

    async def play() -> None:
        duty = Duty(new, lambda: 0)
        taking = asyncio.create_task(duty.take(patient=True))
        await until(tried.is_set)
        async with asyncio.timeout(90):
            await duty.give()
        with pytest.raises(OSError, match="full"):
            await taking

    asyncio.run(play())


def test_a_job_that_ends_while_its_drained_server_does_finds_the_ledger_open(two: tuple[Services, Services]) -> None:
    """The application closes ledger and database when the work was given up; with no transfer left that is at once."""
    old, _ = two
    begun, stopping, wake = threading.Event(), threading.Event(), threading.Event()

    def long(context: JobContext) -> dict[str, Any]:
        begun.set()
        while not context.cancelled():
            time.sleep(0.01)
        stopping.set()
        wake.wait(90)
        raise JobCancelled

    old.jobs.register("long", long)

    async def play() -> None:
        duty = Duty(old, lambda: 0)
        await duty.take()
        old.jobs.submit("long", {}, "ann")
        await until(begun.is_set)
        drained = asyncio.create_task(duty.give(patient=True))
        await until(stopping.is_set)
        ending = asyncio.create_task(duty.give())
        done, _ = await asyncio.wait({ending}, timeout=1)
        assert not done, "the job is still at work"
        wake.set()
        await drained
        await ending

    asyncio.run(play())


def test_work_that_ends_by_a_fault_is_told(
    two: tuple[Services, Services], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else it is missed weeks later, by what was not done."""
    old, _ = two

    async def fail() -> None:
        raise ValueError("the figures are no figures")

    monkeypatch.setattr(old.watch, "run", fail)

    async def play() -> None:
        duty = Duty(old, lambda: 0)
        await duty.take()
        await until(lambda: "the figures are no figures" in caplog.text)
        await duty.give()

    asyncio.run(play())
    assert "'watch' ended by a fault" in caplog.text


async def until(what: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to be"
        await asyncio.sleep(0.02)
