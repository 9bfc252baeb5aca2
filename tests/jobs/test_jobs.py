"""The queue: order, progress, cancel, faults, and what a restart does with work that was interrupted."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ecotone.accounts import SYSTEM, Actor
from ecotone.database import Database
from ecotone.jobs import Job, JobContext, JobNotFound, Jobs, UnknownKind
from ecotone.jobs.errors import JobCancelled, JobStandsAside
from ecotone.jobs.models import JobRow
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, Forbidden, Invalid, JobState, Role
from tests.interleaving import while_held

Until = Callable[..., None]


@pytest.fixture
def jobs(database: Database, tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(database, Settings(data=tmp_path))
    yield made
    made.stop()


def ended(jobs: Jobs, job_id: str) -> Callable[[], bool]:
    return lambda: jobs.get(job_id).state.ended


def child(context: JobContext) -> dict[str, Any]:
    return context.run("workers", context.job.params)


def test_a_job_runs_its_child_and_keeps_result_progress_and_log(jobs: Jobs, until: Until) -> None:
    jobs.register("sum", child)
    jobs.start()
    job = jobs.submit("sum", {"part": "add", "numbers": [20, 22]}, "ada", "shop")
    assert job.state == JobState.QUEUED
    until(ended(jobs, job.id))
    found = jobs.get(job.id)
    assert (found.state, found.result, found.progress, found.error) == (JobState.DONE, {"sum": 42}, 1.0, None)
    assert found.actor == "ada" and found.project == "shop" and found.started and found.ended
    assert "a line of output" in jobs.log(job.id) and "done" in jobs.log(job.id)


def test_one_heavy_job_at_a_time_in_the_order_given(jobs: Jobs, until: Until) -> None:
    order: list[int] = []
    inside = threading.Semaphore(1)

    def alone(context: JobContext) -> dict[str, Any]:
        assert inside.acquire(blocking=False)
        order.append(context.job.params["n"])
        inside.release()
        return {}

    jobs.register("alone", alone)
    made = [jobs.submit("alone", {"n": n}, "ada") for n in range(5)]
    jobs.start()
    until(ended(jobs, made[-1].id))
    assert order == list(range(5))
    assert [j.id for j in jobs.list()] == [j.id for j in reversed(made)]


def test_progress_is_seen_while_it_runs(jobs: Jobs, until: Until) -> None:
    go = threading.Event()

    def slow(context: JobContext) -> dict[str, Any]:
        for fraction in (0.1, 0.2, 7.0, 0.4):
            context.progress(fraction, "step")
        go.wait(60)
        return {}

    jobs.register("slow", slow)
    jobs.start()
    job = jobs.submit("slow", {}, "ada")
    until(lambda: jobs.get(job.id).progress == 0.4)
    assert jobs.list()[0].message == "step"
    go.set()
    until(ended(jobs, job.id))


@pytest.mark.parametrize(
    ("part", "said"), [("crash", "SIGKILL"), ("error", "the data is empty"), ("silent", "without a result")]
)
def test_a_broken_child_fails_its_job_alone(part: str, said: str, jobs: Jobs, until: Until) -> None:
    jobs.register("sum", child)
    jobs.start()
    bad = jobs.submit("sum", {"part": part}, "ada")
    good = jobs.submit("sum", {"part": "add", "numbers": [1]}, "ada")
    until(ended(jobs, good.id))
    assert jobs.get(bad.id).state == JobState.FAILED
    assert said in (jobs.get(bad.id).error or "") and said in jobs.log(bad.id)
    assert jobs.get(good.id).state == JobState.DONE


def test_a_fault_of_the_runner_is_a_failed_job(jobs: Jobs, until: Until) -> None:
    def refused(context: JobContext) -> dict[str, Any]:
        raise Invalid("Row 7 has no messages; give it some.")

    jobs.register("refused", refused)
    jobs.register("broken", lambda context: {"x": 1 / 0})
    jobs.start()
    first, second = jobs.submit("refused", {}, "ada"), jobs.submit("broken", {}, "ada")
    until(ended(jobs, second.id))
    assert jobs.get(first.id).error == "Row 7 has no messages; give it some."
    assert "ZeroDivisionError" in (jobs.get(second.id).error or "")


def test_cancel_ends_the_child(jobs: Jobs, until: Until, gone: Callable[[int], bool]) -> None:
    heard: list[dict[str, Any]] = []
    jobs.register("sleep", lambda c: c.run("workers", {"part": "sleep"}, on_message=heard.append))
    jobs.start()
    running, waiting = jobs.submit("sleep", {}, "ada"), jobs.submit("sleep", {}, "ada")
    until(lambda: heard)
    assert jobs.cancel(waiting.id).state == JobState.CANCELLED
    jobs.cancel(running.id)
    until(ended(jobs, running.id))
    assert jobs.get(running.id).state == JobState.CANCELLED
    assert all(map(gone, heard[0]["pids"]))
    assert jobs.cancel(running.id).state == JobState.CANCELLED and len(heard) == 1


@pytest.mark.parametrize(("deed", "check"), [("cancel", Jobs.check_cancel), ("read the log of", Jobs.check_log)])
def test_only_who_began_a_job_and_administrators_may_cancel_it_or_read_its_log(
    jobs: Jobs, deed: str, check: Callable[[Jobs, Job, Actor], None]
) -> None:
    """Nobody but administrators, where it looks at what somebody did: who hid something would end what finds it."""
    jobs.register("work", lambda context: {})
    jobs.register("watch", lambda context: {}, watches=True)
    work, watch = jobs.submit("work", {}, "ada"), jobs.submit("watch", {}, "ada")
    ada, bob = Actor("user", "ada", Role.WRITE), Actor("user", "bob", Role.WRITE)
    for job in (work, watch):
        check(jobs, job, SYSTEM)
        with pytest.raises(Forbidden, match=f"administrator may {deed}"):
            check(jobs, job, bob)
    check(jobs, work, ada)
    with pytest.raises(Forbidden, match="ask one"):
        check(jobs, watch, ada)


def test_what_is_done_cannot_be_cancelled(jobs: Jobs, until: Until) -> None:
    jobs.register("nothing", lambda context: {})
    jobs.start()
    job = jobs.submit("nothing", {}, "ada")
    until(ended(jobs, job.id))
    with pytest.raises(Conflict, match="done"):
        jobs.cancel(job.id)


def test_what_ended_in_this_moment_cannot_be_cancelled(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the ledger tells of a cancel, and the job is done."""
    ends, said = threading.Event(), list[str]()
    end = jobs._end

    def ended_and_asked(job_id: str, *args: Any, **how: Any) -> None:
        end(job_id, *args, **how)
        try:
            said.append(jobs.cancel(job_id).state)
        except Conflict as refused:
            said.append(refused.message)
        ends.set()

    monkeypatch.setattr(jobs, "_end", ended_and_asked)
    jobs.register("nothing", lambda context: {})
    jobs.start()
    job = jobs.submit("nothing", {}, "ada")
    assert ends.wait(90)
    assert said == [f"Job {job.id} is done already; there is nothing to cancel."]


def aside(_context: JobContext) -> dict[str, Any]:
    raise JobStandsAside


def until_cancelled(context: JobContext) -> dict[str, Any]:
    while not context.cancelled():
        time.sleep(0.01)
    raise JobCancelled


@pytest.mark.parametrize("how", [aside, until_cancelled])
def test_a_cancel_in_the_moment_in_which_a_job_is_queued_again_is_not_lost(
    how: Callable[[JobContext], dict[str, Any]], jobs: Jobs, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """It stood aside, or the server stopped; a second turn would publish what somebody was told is cancelled."""
    turns: list[str] = []
    queued_again = jobs._queued_again

    def queued_and_cancelled(context: JobContext, *args: str) -> None:
        queued_again(context, *args)
        jobs.cancel(context.job.id)

    def run(context: JobContext) -> dict[str, Any]:
        turns.append(context.job.id)
        return how(context) if len(turns) == 1 else {}

    monkeypatch.setattr(jobs, "_queued_again", queued_and_cancelled)
    jobs.register("work", run)
    jobs.start()
    job = jobs.submit("work", {}, "ada")
    until(lambda: turns)
    if how is until_cancelled:
        jobs.stop(None)
        jobs.start()
    after = jobs.submit("work", {}, "ada")
    until(ended(jobs, after.id))
    assert (jobs.get(job.id).state, turns) == (JobState.CANCELLED, [job.id, after.id])


def test_a_job_that_is_collected_while_it_is_submitted_waits_once(
    jobs: Jobs, database: Database, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Else the second of its places is what a cancel takes away, and the job itself runs on."""
    jobs.register("work", until_cancelled)
    jobs.start()
    writing = database.writing

    @contextlib.contextmanager
    def written_and_collected() -> Iterator[Any]:
        with writing() as session:
            yield session
        collecting = threading.Thread(target=jobs.collect)
        collecting.start()
        collecting.join(0.5)

    with monkeypatch.context() as patch:
        patch.setattr(database, "writing", written_and_collected)
        job = jobs.submit("work", {}, "ada")
    until(lambda: jobs.get(job.id).state == JobState.RUNNING)
    assert not jobs.others_wait()
    jobs.cancel(job.id)
    until(ended(jobs, job.id))
    until(lambda: "cancelled" in jobs.log(job.id))


def test_stopping_the_server_queues_the_running_job_again(jobs: Jobs, until: Until) -> None:
    heard: list[dict[str, Any]] = []
    jobs.register("sleep", lambda c: c.run("workers", {"part": "sleep"}, on_message=heard.append))
    jobs.start()
    job = jobs.submit("sleep", {}, "ada")
    until(lambda: heard)
    jobs.stop()
    assert jobs.get(job.id).state == JobState.QUEUED
    jobs.register("sleep", lambda c: {"second": True})
    jobs.start()
    until(ended(jobs, job.id))
    assert jobs.get(job.id).result == {"second": True}


def test_a_job_found_running_at_start_is_queued_again_and_says_so(jobs: Jobs, database: Database, until: Until) -> None:
    jobs.register("sum", lambda c: {"attempt": c.job.attempts})
    job, lost, poison = (jobs.submit("sum", {}, "ada") for _ in range(3))
    with database.writing() as session:
        for found, attempts, kind in ((job, 1, "sum"), (lost, 1, "gone"), (poison, 3, "sum")):
            row = session.get_one(JobRow, found.id)
            row.state, row.attempts, row.kind = JobState.RUNNING, attempts, kind
    jobs.start()
    until(ended(jobs, poison.id))
    assert jobs.get(job.id).result == {"attempt": 2}
    assert "queued again" in jobs.log(job.id)
    assert jobs.get(lost.id).state == JobState.FAILED and "gone" in (jobs.get(lost.id).error or "")
    assert jobs.get(poison.id).state == JobState.FAILED and "3 times" in (jobs.get(poison.id).error or "")


def test_a_runner_survives_the_death_of_many_children(jobs: Jobs, until: Until) -> None:
    heard: list[dict[str, Any]] = []
    jobs.register("sleep", lambda c: c.run("workers", {"part": "sleep"}, on_message=heard.append))
    jobs.start()
    for count in (1, 2):
        job = jobs.submit("sleep", {}, "ada")
        until(lambda count=count: len(heard) == count)
        os.kill(heard[-1]["pids"][0], signal.SIGKILL)
        until(ended(jobs, job.id))
        assert jobs.get(job.id).state == JobState.FAILED


@pytest.mark.parametrize("how", ["done", "failed", "cancelled", "given up"])
def test_what_a_job_leaves_behind_is_cleared_before_its_end_is_seen(
    jobs: Jobs, database: Database, until: Until, how: str
) -> None:
    """Private rows would lie there still when their owner is told that the run has ended."""
    seen: list[bool] = []

    def run(context: JobContext) -> dict[str, Any]:
        if how == "failed":
            raise Invalid("Row 7 has no messages; give it some.")
        return {}

    jobs.register("keeps", run, lambda params: seen.append(jobs.get(params["id"]).state.ended))
    job = jobs.submit("keeps", {}, "ada")
    with database.writing() as session:
        row = session.get_one(JobRow, job.id)
        row.params, row.attempts = {"id": job.id}, 3 if how == "given up" else 0
    if how == "cancelled":
        jobs.cancel(job.id)
    jobs.start()
    until(ended(jobs, job.id))
    assert seen == [False]
    assert jobs.get(job.id).state == ("failed" if how == "given up" else how)


def test_unknown_names(jobs: Jobs) -> None:
    with pytest.raises(UnknownKind):
        jobs.submit("nothing", {}, "ada")
    for ask in (jobs.get, jobs.log, jobs.cancel):
        with pytest.raises(JobNotFound):
            ask("job-0")


class Away:
    """A database that refuses some writes of one thread."""

    def __init__(self, database: Database, times: int) -> None:
        self._writing, self._left, self._thread = database.writing, times, threading.current_thread()

    def writing(self) -> Any:
        if threading.current_thread() is not self._thread and self._left > 0:
            self._left -= 1
            raise OperationalError("UPDATE", {}, Exception("the server closed the connection unexpectedly"))
        return self._writing()

    @property
    def is_back(self) -> bool:
        return self._left <= 0


def test_a_job_is_begun_although_the_database_was_away_as_its_turn_came(
    jobs: Jobs, database: Database, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """It would wait for the next start of the server, and nobody would know for what."""
    monkeypatch.setattr("ecotone.jobs.services._AGAIN_SECONDS", 0.01)
    jobs.register("work", lambda c: {})
    jobs.start()
    away = Away(database, 3)
    monkeypatch.setattr(database, "writing", away.writing)
    job = jobs.submit("work", {}, "ada")
    until(ended(jobs, job.id))
    assert (away.is_back, jobs.get(job.id).state, jobs.get(job.id).attempts) == (True, JobState.DONE, 1)


def test_a_job_is_begun_although_its_folder_could_not_be_made_at_first(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """The disk was full for a moment: it seemed to run, and could not even be cancelled."""
    monkeypatch.setattr("ecotone.jobs.services._AGAIN_SECONDS", 0.01)
    mkdir, failing = Path.mkdir, [OSError("No space left on device")]

    def make(path: Path, *args: Any, **how: Any) -> None:
        if path.name.startswith("job-") and failing:
            raise failing.pop()
        mkdir(path, *args, **how)

    monkeypatch.setattr(Path, "mkdir", make)
    jobs.register("work", lambda c: {})
    jobs.start()
    job = jobs.submit("work", {}, "ada")
    until(ended(jobs, job.id))
    assert not failing and jobs.get(job.id).state == JobState.DONE


@pytest.mark.parametrize("end", [JobState.DONE, JobState.FAILED, JobState.CANCELLED])
def test_what_became_of_a_job_is_recorded_once_the_database_is_back(
    end: JobState, jobs: Jobs, database: Database, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Its result would be lost, and it would seem to run until the server is started anew."""
    monkeypatch.setattr("ecotone.jobs.services._AGAIN_SECONDS", 0.01)
    away = Away(database, 3)

    def run(context: JobContext) -> dict[str, Any]:
        monkeypatch.setattr(database, "writing", away.writing)
        context.progress(0.5, "half")  # which must not fail it either
        if end == JobState.FAILED:
            raise Invalid("the data is empty")
        if end == JobState.CANCELLED:
            context.cancel()
            context.check()
        return {"sum": 6}

    jobs.register("work", run)
    jobs.start()
    job = jobs.submit("work", {}, "ada")
    until(ended(jobs, job.id))
    found = jobs.get(job.id)
    assert (away.is_back, found.state) == (True, end)
    assert found.result == ({"sum": 6} if end == JobState.DONE else None)
    assert found.error == ("the data is empty" if end == JobState.FAILED else None)


def test_a_server_that_ends_does_not_wait_for_a_database_that_is_away(
    jobs: Jobs, database: Database, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    away = Away(database, 1_000_000)
    tried = threading.Event()

    def run(_context: JobContext) -> dict[str, Any]:
        monkeypatch.setattr(database, "writing", away.writing)
        tried.set()
        return {}

    jobs.register("work", run)
    jobs.start()
    threads = list(jobs._threads)
    jobs.submit("work", {}, "ada")
    assert tried.wait(90)
    jobs.stop(90)
    assert not any(thread.is_alive() for thread in threads)


def test_a_job_that_is_cancelled_in_the_moment_in_which_it_would_begin_does_not(jobs: Jobs, database: Database) -> None:
    """Two servers overlap at a restart; the other one cancelled it."""
    jobs.register("sum", child)
    job = jobs.submit("sum", {"part": "add", "numbers": [20, 22]}, "ada")
    begun: list[JobContext | None] = []

    def cancel(session: Session) -> None:
        session.get_one(JobRow, job.id).state = JobState.CANCELLED

    assert while_held(database, cancel, lambda: begun.append(jobs._begin(job.id))) == "done"
    assert begun == [None] and jobs.get(job.id).state == JobState.CANCELLED
