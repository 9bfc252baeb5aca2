"""What only a whole look at the weights finds, as a job that may end at any point and loses nothing by it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.jobs import Job, Jobs
from ecotone.jobs import models as _jobs
from ecotone.lineage.arriving import Print
from ecotone.publishing import AddRegular, Commit, Examining, descent
from ecotone.publishing.descent import alarms_in
from ecotone.vocabulary import EdgeStatus, JobState, Relation, Role
from tests.publishing.lineage import edges, told
from tests.publishing.weights import Weights, card, fresh, packed, tuned

TABLES = (_jobs,)
A, B = fresh(1), fresh(2)


@pytest.fixture
def hub(house: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The house with jobs, which run once `hub.jobs.start()` is called."""
    house.jobs = Jobs(house.database, house.settings)
    house.examining = Examining(house.catalog, house.storage, house.publishing.descent, house.jobs, house.writer)
    house.publishing.on_weights(house.examining.arrived)
    yield house
    house.jobs.stop()


def publish(hub: SimpleNamespace, name: str, weights: Weights, text: bytes) -> Any:
    hub.catalog.create(name, private=False, actor=SYSTEM)
    return hub.publish(name, {"README.md": text, "model.safetensors": packed(weights)})


def ended(hub: SimpleNamespace, seconds: float = 120) -> list[Job]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found: list[Job] = hub.jobs.list()
        if all(job.state.ended for job in found):
            return found
        time.sleep(0.05)
    raise AssertionError(hub.jobs.list())


def permuted(weights: Weights) -> dict[str, Any]:
    """The same model with its MLP's neurons and its residual dimensions in another order."""
    drawn = np.random.default_rng(5)
    width, inner = weights["model.layers.0.mlp.up_proj.weight"].shape[::-1]
    order, neurons = drawn.permutation(width), drawn.permutation(inner)
    made = {}
    for name, value in weights.items():
        if "gate_proj" in name or "up_proj" in name:
            value = value[neurons]
        if "down_proj" in name:
            value = value[:, neurons]
        made[name] = value[order] if "o_proj" in name or "down_proj" in name else value[:, order]
    return made


def test_a_permuted_copy_under_a_wrong_base_is_found_and_the_base_refuted(hub: SimpleNamespace) -> None:
    publish(hub, "demo/base", A, card("apache-2.0"))
    publish(hub, "demo/other", B, card("apache-2.0"))
    made = publish(hub, "demo/hidden", permuted(A), card("apache-2.0", base_model="demo/other"))
    assert told(hub, "demo/hidden") == [("demo/other", Relation.FINETUNE, EdgeStatus.DECLARED)]
    hub.jobs.start()
    assert {job.state for job in ended(hub)} == {JobState.DONE}
    found = {e.parent: e for e in edges(hub, "demo/hidden")}
    assert found["demo/base"].status is EdgeStatus.VERIFIED and found["demo/base"].asserted_by == "weights"
    assert found["demo/other"].status is EdgeStatus.REFUTED
    model = hub.catalog.model("demo/hidden", viewer=SYSTEM)
    report = hub.catalog.weights(model, made.revision_id).report
    assert {a.code for a in alarms_in(report)} == {"undeclared", "refuted"}
    assert {c["checked"] for c in report["candidates"]} == {"all"}
    acts = [r for r in hub.ledger.records() if r.get("act") == "lineage.examined"]
    assert acts and acts[-1]["model"] == "demo/hidden"
    again = hub.publish("demo/hidden", {"notes.txt": b"later"})
    assert any("demo/base" in warning for warning in again.warnings)
    assert {e.parent: e.status for e in edges(hub, "demo/hidden")} == {p: e.status for p, e in found.items()}


@pytest.mark.slow
def test_a_merge_names_both_of_its_parents(hub: SimpleNamespace) -> None:
    publish(hub, "demo/base", A, card("apache-2.0"))
    publish(hub, "demo/other", B, card("apache-2.0"))
    mixed = {name: (0.5 * A[name] + 0.5 * B[name]).astype(np.float32) for name in A}
    publish(hub, "demo/mix", mixed, card("apache-2.0"))
    hub.jobs.start()
    ended(hub)
    assert {(e.parent, e.relation) for e in edges(hub, "demo/mix")} == {
        ("demo/base", Relation.MERGE),
        ("demo/other", Relation.MERGE),
    }


def test_fingerprints_that_are_missing_are_taken_by_the_job(hub: SimpleNamespace, monkeypatch: Any) -> None:
    publish(hub, "demo/base", A, card("apache-2.0"))
    monkeypatch.setattr(descent, "INLINE_BYTES", 0)
    made = publish(hub, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    assert edges(hub, "demo/tuned") == () and not made.warnings
    hub.jobs.start()
    assert [job.state for job in ended(hub)] == [JobState.DONE]
    assert told(hub, "demo/tuned") == [("demo/base", Relation.FINETUNE, EdgeStatus.VERIFIED)]


def test_a_job_that_is_cut_off_goes_on_and_does_nothing_twice(hub: SimpleNamespace) -> None:
    publish(hub, "demo/base", A, card("apache-2.0"))
    publish(hub, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    hub.jobs.start()
    (first,) = ended(hub)
    kept = hub.jobs.folder(first.id) / "compared.json"
    (answer,) = json.loads(kept.read_text()).values()
    before = edges(hub, "demo/tuned")
    hub.jobs.stop()
    with hub.database.writing() as session:  # as a server leaves it that was killed just before the end
        row = session.get(_jobs.JobRow, first.id)
        row.state, row.result = "running", None
    kept.write_text(json.dumps({name: answer | {"rank": 77} for name in json.loads(kept.read_text())}))
    hub.jobs.start()
    (second,) = ended(hub)
    assert second.state is JobState.DONE and second.result == first.result and second.attempts == 2
    assert edges(hub, "demo/tuned") == before
    assert next(iter(json.loads(kept.read_text()).values()))["rank"] == 77


@pytest.mark.slow
def test_weights_whose_job_was_never_given_are_examined_at_the_next_start(hub: SimpleNamespace) -> None:
    publish(hub, "demo/base", A, card("apache-2.0"))
    hub.publishing._listeners.clear()  # the server dies between the commit and the job
    publish(hub, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    assert hub.jobs.list() == []
    hub.examining.resume()
    hub.jobs.start()
    assert [job.state for job in ended(hub)] == [JobState.DONE]
    hub.examining.resume()
    assert len(hub.jobs.list()) == 1


@pytest.mark.slow
def test_an_examination_by_hand_never_accuses_who_came_first(hub: SimpleNamespace) -> None:
    publish(hub, "demo/base", A, card("apache-2.0"))
    publish(hub, "demo/tuned", tuned(A, 7), card("apache-2.0"))
    hub.examining.start("demo/base", "main", actor=SYSTEM)
    hub.jobs.start()
    ended(hub)
    assert edges(hub, "demo/base") == ()
    model = hub.catalog.model("demo/base", viewer=SYSTEM)
    assert hub.catalog.weights(model, model.head).report["alarms"] == []


def test_who_asks_a_hundred_times_for_an_examination_gets_one_job(hub: SimpleNamespace) -> None:
    publish(hub, "demo/base", A, card("apache-2.0"))
    asked = {hub.examining.start("demo/base", "main", actor=SYSTEM).id for _ in range(100)}
    assert len(asked) == 1 and len(hub.jobs.list()) == 1
    hub.jobs.start()
    ended(hub)
    assert hub.examining.start("demo/base", "main", actor=SYSTEM).id not in asked


def test_the_child_that_reads_strangers_weights_gets_no_more_than_half_of_the_memory() -> None:
    code = (
        "from ecotone.publishing.examine_child import _bound_memory as bound, _LEAST_MEMORY as least\n"
        "import os\n"
        "whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')\n"
        "bound()\n"
        "try:\n"
        "    bytearray(max(least, whole // 2) + 1)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout == "refused\n", done.stderr


def test_a_user_who_is_called_weights_does_not_lose_a_parent_by_that_name(hub: SimpleNamespace) -> None:
    publish(hub, "demo/teacher", B, card("cc-by-nc-4.0"))
    hub.catalog.create("demo/student", private=False, actor=SYSTEM)
    files = {"README.md": card("cc-by-nc-4.0", base_model="demo/teacher"), "model.safetensors": packed(A)}
    change = Commit(message="Add", operations=tuple(AddRegular(path, data) for path, data in files.items()))
    hub.publishing.commit("demo/student", "main", change, actor=Actor("user", "weights", Role.WRITE))
    hub.jobs.start()
    ended(hub)
    assert told(hub, "demo/student") == [("demo/teacher", Relation.FINETUNE, EdgeStatus.DECLARED)]


def test_a_fingerprint_that_was_laid_out_in_part_is_laid_out_anew(
    hub: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job may end at any point, or the disk be full; it takes what it finds when it begins again for whole."""
    publish(hub, "demo/base", A, card("apache-2.0"))
    model = hub.catalog.model("demo/base", viewer=SYSTEM)
    (name,) = hub.catalog.weights(model, model.head).names
    write = Path.write_bytes

    def half(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="full"):
        hub.examining._lay_out(tmp_path / "prints", [name])
    monkeypatch.setattr(Path, "write_bytes", write)
    hub.examining._lay_out(tmp_path / "prints", [name])
    assert msgspec.msgpack.decode((tmp_path / "prints" / name).read_bytes(), type=Print).fingerprint is not None
