"""Models from before fingerprints were kept become candidates once the job has read them."""

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from ecotone.accounts import SYSTEM
from ecotone.catalog.models import RevisionRow
from ecotone.catalog.weight_rows import WeightFileRow, WeightSetRow
from ecotone.database import utc_now
from ecotone.jobs import Jobs
from ecotone.jobs import models as _jobs
from ecotone.publishing import Backfilling, Examining, backfilling, descent
from ecotone.storage.objects import key
from ecotone.storage.prints import KIND, PrintRow
from ecotone.vocabulary import EdgeStatus, JobState, Relation
from tests.publishing.lineage import told
from tests.publishing.test_descent import publish
from tests.publishing.test_examining import ended
from tests.publishing.weights import card, fresh, packed, tuned

TABLES = (_jobs,)
A = fresh(1)


@pytest.fixture
def old(house: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """A hub whose models came before fingerprints were kept: a base of two revisions, and one that is cut off."""
    house.jobs = Jobs(house.database, house.settings)
    house.examining = Examining(house.catalog, house.storage, house.publishing.descent, house.jobs, house.writer)
    house.backfilling = Backfilling(house.catalog, house.storage, house.publishing.descent, house.jobs)
    publish(house, "demo/base", fresh(2), card("cc-by-nc-4.0"))
    house.publish("demo/base", {"model.safetensors": packed(A)})
    house.catalog.create("demo/cut", private=False, actor=SYSTEM)
    house.publish("demo/cut", {"README.md": card("mit"), "model.safetensors": packed(A)[:50_000]})
    house.catalog.create("demo/pickle", private=False, actor=SYSTEM)
    house.publish("demo/pickle", {"README.md": card("mit"), "pytorch_model.bin": b"cos\nsystem\n(S'false'\ntR."})
    forget(house)
    yield house
    house.jobs.stop()


def forget(house: SimpleNamespace) -> None:
    with house.database.writing() as session:
        for name in session.scalars(sa.select(PrintRow.name)):
            house.storage.objects.remove(key(KIND, name))
        for table in (WeightSetRow, WeightFileRow, PrintRow):
            session.execute(sa.delete(table))
        session.execute(sa.update(RevisionRow).values(date=utc_now() - timedelta(days=30)))


def test_an_old_base_is_a_candidate_once_the_job_is_done_and_still_came_first(old: SimpleNamespace) -> None:
    publish(old, "demo/early", tuned(A, 6), card("cc-by-nc-4.0"))
    assert told(old, "demo/early") == [], "the fixture must forget what was known"
    old.backfilling.start(actor=SYSTEM)
    old.jobs.start()
    (job,) = [j for j in ended(old) if j.kind == backfilling.KIND]
    assert job.state is JobState.DONE and job.result is not None
    assert job.result["revisions"] >= 3 and len(job.result["findings"]) == 1
    assert "demo/cut" in job.result["findings"][0] and "not a whole weight file" in job.result["findings"][0]
    publish(old, "demo/late", tuned(A, 7), card("cc-by-nc-4.0"))
    assert told(old, "demo/late") == [("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED)]
    old.examining.start("demo/early", "main", actor=SYSTEM)
    ended(old)
    assert told(old, "demo/early") == [("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED)]
    model = old.catalog.model("demo/cut", viewer=SYSTEM)
    assert "not a whole weight file" in old.catalog.weights(model, model.head).report["findings"][0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_that_was_killed_goes_on_behind_what_it_read(old: SimpleNamespace, monkeypatch: Any) -> None:
    monkeypatch.setattr(backfilling, "BATCH_FILES", 1)
    first = old.backfilling.start(actor=SYSTEM)
    assert old.backfilling.start(actor=SYSTEM).id == first.id, "two at once would read everything twice"
    read: list[str] = []
    keep = old.storage.prints.keep

    def killed(name: str, found: Any) -> None:
        if read:
            raise SystemExit  # the process ends here, nothing behind it runs
        read.append(name)
        keep(name, found)

    monkeypatch.setattr(old.storage.prints, "keep", killed)
    old.jobs.start()
    end = time.monotonic() + 90
    while len(read) < 1 or old.jobs._threads[0].is_alive():
        assert time.monotonic() < end
        time.sleep(0.05)
    monkeypatch.setattr(old.storage.prints, "keep", lambda name, found: (read.append(name), keep(name, found)))
    old.jobs.stop()
    old.jobs.start()
    (job,) = ended(old)
    assert job.state is JobState.DONE and job.attempts == 2
    assert len(read) == len(set(read)), "a file was read twice"


def test_a_long_backfill_lets_other_jobs_go_first(old: SimpleNamespace) -> None:
    order: list[str] = []
    old.jobs.register("other", lambda context: order.append("other") or {})
    job = old.backfilling.start(actor=SYSTEM)
    run = old.backfilling._run
    old.jobs._runners[backfilling.KIND] = lambda context: (run(context), order.append("backfill"))[0]
    old.jobs.submit("other", {}, "someone")
    old.jobs.start()
    ended(old)
    assert order == ["other", "backfill"]
    assert old.jobs.get(job.id).state is JobState.DONE and old.jobs.get(job.id).attempts == 1


def test_what_it_laid_out_for_its_child_is_not_taken_for_an_examination(
    old: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lay out the same files under other names, and one may find the folder that the other still uses."""
    monkeypatch.setattr(descent, "INLINE_BYTES", 0)
    keep = old.storage.prints.keep
    monkeypatch.setattr(old.storage.prints, "keep", lambda name, found: None)
    old.backfilling.start(actor=SYSTEM)
    old.jobs.start()
    ended(old)
    monkeypatch.setattr(old.storage.prints, "keep", keep)
    old.examining.start("demo/base", "main", actor=SYSTEM)
    (job,) = [j for j in ended(old) if j.kind != backfilling.KIND]
    assert job.state is JobState.DONE, job


def test_two_who_start_it_at_once_start_one(old: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, both = old.jobs.list, threading.Barrier(2)

    def together() -> Any:
        found = listed()
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=2)
        return found

    monkeypatch.setattr(old.jobs, "list", together)
    threads = [threading.Thread(target=old.backfilling.start, kwargs={"actor": SYSTEM}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listed()) == 1
