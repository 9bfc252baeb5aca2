"""What a user would lose: hours of a run that could never be published, or that nobody was allowed to start."""

import importlib.util
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM, Accounts, Actor
from ecotone.catalog import BadName, ModelNotFound, ReservedId
from ecotone.jobs.models import JobRow
from ecotone.tuning import BrokenData, NotTunable, TargetTaken, TuningNotInstalled
from ecotone.vocabulary import Forbidden, Invalid, JobState, Refused, Role

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).encode()
ENCODER = json.dumps({"architectures": ["BertModel"], "model_type": "bert"}).encode()
EMPTY = b"\x02\0\0\0\0\0\0\0{}"
WRITER = Actor("user", "wren", Role.WRITE)


def card(**fields: str) -> bytes:
    return ("---\n" + "".join(f"{k}: {v}\n" for k, v in fields.items()) + "---\n").encode()


@pytest.fixture
def base(runs: SimpleNamespace) -> SimpleNamespace:
    runs.catalog.create("team/base", private=False, actor=SYSTEM)
    runs.publish(
        "team/base",
        {"config.json": CONFIG, "model.safetensors": EMPTY, "README.md": card(license="apache-2.0")},
    )
    return runs


def start(house: SimpleNamespace, data: bytes, model: str = "team/base", **more: Any) -> Any:
    given = {"to": "team/tuned", "actor": SYSTEM, **more}
    return house.tuning.start(model, "main", data, **given)


def nothing_started(house: SimpleNamespace) -> None:
    assert house.jobs.list() == []
    assert not list((house.settings.data / "jobs").rglob("*.jsonl"))
    with pytest.raises(ModelNotFound):
        house.catalog.model("team/tuned", viewer=SYSTEM)


def test_broken_row_is_named_and_nothing_starts(base: SimpleNamespace, mottos: bytes) -> None:
    with pytest.raises(BrokenData, match="line 5: message 1: 'content' is missing") as caught:
        start(base, mottos + b'{"messages": [{"role": "user"}]}\n')
    assert caught.value.rows[0].line == 5
    nothing_started(base)


def test_empty_data_is_refused(base: SimpleNamespace) -> None:
    with pytest.raises(BrokenData, match="empty"):
        start(base, b"")
    nothing_started(base)


def test_parent_that_may_not_be_tuned_is_refused_with_its_clause(base: SimpleNamespace, mottos: bytes) -> None:
    base.catalog.create("team/closed", private=False, actor=SYSTEM)
    base.publish(
        "team/closed",
        {"config.json": CONFIG, "model.safetensors": EMPTY, "README.md": card(license="cc-by-nc-4.0")},
    )
    with pytest.raises(Refused, match="clause") as caught:
        start(base, mottos, "team/closed")
    assert caught.value.decision["reasons"]
    nothing_started(base)


def test_adapter_as_parent_names_its_base(base: SimpleNamespace, mottos: bytes) -> None:
    base.catalog.create("team/adapter", private=False, actor=SYSTEM)
    config = json.dumps({"base_model_name_or_path": "team/base", "peft_type": "LORA"}).encode()
    base.publish("team/adapter", {"adapter_config.json": config, "adapter_model.safetensors": EMPTY})
    with pytest.raises(NotTunable, match="is an adapter itself; tune team/base instead"):
        start(base, mottos, "team/adapter")


def test_models_without_causal_weights_are_refused(base: SimpleNamespace, mottos: bytes) -> None:
    base.catalog.create("team/encoder", private=False, actor=SYSTEM)
    base.publish("team/encoder", {"config.json": ENCODER, "model.safetensors": EMPTY})
    with pytest.raises(NotTunable, match="causal language model"):
        start(base, mottos, "team/encoder")
    base.catalog.create("team/pickled", private=False, actor=SYSTEM)
    base.publish("team/pickled", {"config.json": CONFIG, "pytorch_model.bin": b"x"})
    with pytest.raises(NotTunable, match="safetensors"):
        start(base, mottos, "team/pickled")
    starter = next(m for m in base.catalog.models(viewer=SYSTEM, limit=50).models if m.head is None)
    with pytest.raises(NotTunable, match="no weights here"):
        start(base, mottos, starter.id)


def test_target_must_be_free(base: SimpleNamespace, mottos: bytes) -> None:
    base.catalog.create("team/other", private=True, actor=SYSTEM)
    base.publish("team/other", {"config.json": CONFIG, "model.safetensors": EMPTY})
    for to, said in (("team/base", "the parent itself"), ("team/other", "no adapter of team/base")):
        with pytest.raises(TargetTaken, match=said):
            start(base, mottos, to=to)
    base.catalog.create("team/open", private=False, actor=SYSTEM)
    with pytest.raises(TargetTaken, match="is public"):
        start(base, mottos, to="team/open")
    with pytest.raises(BadName):
        start(base, mottos, to="api/x")
    with pytest.raises(BadName):
        start(base, mottos, to="../x")
    assert base.jobs.list() == []


def test_writers_need_a_namespace_that_is_there(base: SimpleNamespace, mottos: bytes) -> None:
    with pytest.raises(Forbidden, match="may only read"):
        start(base, mottos, actor=Actor("user", "reader", Role.READ))
    with pytest.raises(Forbidden, match="namespace 'nobody'"):
        start(base, mottos, to="nobody/x", actor=WRITER)
    starter = next(m for m in base.catalog.models(viewer=SYSTEM, limit=50).models if m.head is None)
    with pytest.raises((ReservedId, Forbidden)):
        start(base, mottos, to=starter.id, actor=WRITER)
    nothing_started(base)


def test_unknown_method_is_named(base: SimpleNamespace, mottos: bytes) -> None:
    with pytest.raises(Invalid, match="'full' is not known; expected lora"):
        start(base, mottos, method="full")


def test_missing_extra_names_the_command(base: SimpleNamespace, mottos: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    with pytest.raises(TuningNotInstalled, match=r'pip install "ecotone\[tune\]"'):
        start(base, mottos)
    nothing_started(base)


def test_rows_of_a_run_that_is_cancelled_before_it_began_are_gone_at_once(base: SimpleNamespace, mottos: bytes) -> None:
    """They may be private: nobody would look for them in the data folder."""
    base.jobs.stop()  # nobody works: the run waits
    job = start(base, mottos)
    folder = base.settings.data / "jobs" / "rows"
    assert len(list(folder.iterdir())) == 1
    base.jobs.cancel(job.id)
    assert list(folder.iterdir()) == []


def test_rows_of_a_run_that_is_given_up_are_gone(base: SimpleNamespace, mottos: bytes) -> None:
    base.jobs.stop()
    job = start(base, mottos)
    with base.database.writing() as session:
        session.get_one(JobRow, job.id).attempts = 3
    base.jobs.start()
    end = time.monotonic() + 60
    while not base.jobs.get(job.id).state.ended and time.monotonic() < end:
        time.sleep(0.02)
    base.jobs.stop()
    assert base.jobs.get(job.id).state is JobState.FAILED
    assert list((base.settings.data / "jobs" / "rows").iterdir()) == []


def test_rows_that_another_takes_away_meanwhile_end_no_start(
    base: SimpleNamespace, mottos: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their run has just ended, or another start sweeps at the same time."""
    base.jobs.stop()
    folder = base.tuning._rows_folder
    for number in range(3):
        (folder / f"{number}.jsonl").write_bytes(b"")
        os.utime(folder / f"{number}.jsonl", (1, 1))
    stat = Path.stat

    def late(place: Path, **how: Any) -> os.stat_result:
        if place.name == "1.jsonl":
            place.unlink(missing_ok=True)
        return stat(place, **how)

    monkeypatch.setattr(Path, "stat", late)
    job = start(base, mottos)
    assert [file.name for file in folder.iterdir()] == [job.params["rows_file"]]


def test_a_run_into_somebody_elses_namespace_is_refused_before_it_starts(base: SimpleNamespace, mottos: bytes) -> None:
    """Hours later the result could not be published."""
    Accounts(base.database, base.settings).create_token("wanda", Role.WRITE)
    with pytest.raises(Forbidden, match="belongs to the user"):
        start(base, mottos, to="wanda/tuned", actor=WRITER)
    nothing_started(base)
