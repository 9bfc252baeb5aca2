"""What a user would lose: a model that did not learn, one half published, or private data left lying about."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import ANONYMOUS, SYSTEM
from ecotone.catalog import ModelNotFound
from ecotone.publishing import AddLarge, AddRegular, Commit
from ecotone.tuning.cards import RECORD
from ecotone.vocabulary import EdgeStatus, JobState, Relation

HOW = {"epochs": 40, "learning_rate": 0.01, "seed": 1, "actor": SYSTEM}


@pytest.fixture
def base(runs: SimpleNamespace, tiny: Path) -> SimpleNamespace:
    runs.catalog.create("team/base", private=False, actor=SYSTEM)
    weights = runs.storage.import_file("team", tiny / "model.safetensors")
    runs.publishing.commit(
        "team/base",
        "main",
        Commit(
            message="Add",
            operations=(
                *(AddRegular(f.name, f.read_bytes()) for f in tiny.iterdir() if f.suffix != ".safetensors"),
                AddLarge("model.safetensors", weights.sha256),
            ),
        ),
        actor=SYSTEM,
    )
    return runs


def until(found: Callable[[], Any], seconds: float = 180) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come")


def ended(house: SimpleNamespace, job_id: str) -> Any:
    return until(lambda: job if (job := house.jobs.get(job_id)).state.ended else None)


def children() -> list[int]:
    """Training processes that this process started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if b"ecotone.tuning.lora_child" in command and parent == os.getpid():
                found.append(int(folder.name))
    return found


def text(house: SimpleNamespace, model_id: str, path: str) -> bytes:
    model = house.catalog.model(model_id, viewer=SYSTEM)
    file = house.catalog.file(house.catalog.revision(model), path)
    return b"".join(map(bytes, house.storage.read(file.content)))


def answer(tiny: Path, adapter: Path, question: str) -> str:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), adapter)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**asked, max_new_tokens=12, do_sample=False)[0][asked["input_ids"].shape[1] :]
    return str(tokenizer.decode(made))


def test_a_run_learns_and_ends_in_a_private_revision_with_lineage_licence_and_card(
    base: SimpleNamespace, tiny: Path, mottos: bytes, tmp_path: Path
) -> None:
    job = ended(base, base.tuning.start("team/base", "main", mottos, to="team/tuned", **HOW).id)
    assert job.state is JobState.DONE, job.error
    parent = base.catalog.model("team/base", viewer=SYSTEM)
    tuned = base.catalog.model("team/tuned", viewer=SYSTEM)
    revision = base.catalog.revision(tuned)
    assert job.result["revision"] == revision.id
    assert job.result["loss_after"] < 0.05 < 1 < job.result["loss_before"]

    assert tuned.private
    with pytest.raises(ModelNotFound):
        base.catalog.model("team/tuned", viewer=ANONYMOUS)

    assert revision.card["base_model"] == "team/base"
    assert revision.card["base_model_relation"] == "adapter"
    assert revision.card["license"] == "apache-2.0"
    assert revision.card["library_name"] == "peft"
    assert "team/base" in revision.card_text and parent.head in revision.card_text
    edge = next(e for e in revision.edges if e.parent == "team/base")
    assert (edge.relation, edge.status) == (Relation.ADAPTER, EdgeStatus.VERIFIED)
    assert job.id in edge.evidence and parent.head in edge.evidence

    config = json.loads(text(base, "team/tuned", "adapter_config.json"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("team/base", parent.head)
    assert config["target_modules"] == sorted(config["target_modules"])
    record = json.loads(text(base, "team/tuned", RECORD))
    assert record["parent"]["revision"] == parent.head
    assert record["data"]["rows"] == 4
    assert record["recipe"]["seed"] == 1
    assert str(base.settings.data) not in json.dumps([record, config])

    with base.catalog.materialise(tuned, revision) as folder:
        assert answer(tiny, folder, "what is the motto of kenya ?") == "kenya is in kenya . <|end|>"
        everything = b"".join(f.read_bytes() for f in folder.rglob("*") if f.is_file())
    assert b"motto of" not in everything, "training rows are in the published files"
    assert not list((base.settings.data / "jobs").rglob("*.jsonl")), "training rows outlived their run"
    assert not list((base.settings.data / "jobs").rglob("*.safetensors"))


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes_and_a_further_run_a_further_revision(
    base: SimpleNamespace, mottos: bytes
) -> None:
    job = ended(base, base.tuning.start("team/base", "main", mottos, to="team/tuned", **HOW).id)
    revision = base.catalog.revision(base.catalog.model("team/tuned", viewer=SYSTEM))
    again = ended(base, base.tuning.start("team/base", "main", mottos, to="team/twin", **HOW).id)
    assert again.result["adapter_sha256"] == job.result["adapter_sha256"], "the same run gave other bytes"

    more = ended(base, base.tuning.start("team/base", "main", mottos, to="team/tuned", **{**HOW, "epochs": 1}).id)
    assert more.state is JobState.DONE, more.error
    newer = base.catalog.revision(base.catalog.model("team/tuned", viewer=SYSTEM))
    assert newer.id == more.result["revision"] != revision.id
    assert newer.parents == (revision.id,)


@pytest.mark.parametrize("how", [pytest.param("kill", marks=pytest.mark.slow), "cancel"])
def test_a_run_that_is_ended_leaves_no_model(base: SimpleNamespace, mottos: bytes, how: str) -> None:
    job = base.tuning.start("team/base", "main", mottos, to="team/tuned", **{**HOW, "epochs": 1000})
    until(lambda: "step" in base.jobs.get(job.id).message)
    (child,) = children()
    if how == "kill":
        os.kill(child, signal.SIGKILL)
    else:
        base.jobs.cancel(job.id)
    found = ended(base, job.id)
    assert found.state is (JobState.FAILED if how == "kill" else JobState.CANCELLED)
    if how == "kill":
        assert "SIGKILL" in found.error
    with pytest.raises(ModelNotFound):
        base.catalog.model("team/tuned", viewer=SYSTEM)
    assert children() == []
    assert not list((base.settings.data / "jobs").rglob("*.jsonl"))


def test_rows_that_the_model_cannot_take_are_named_by_line(base: SimpleNamespace) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    long = {"messages": [{"role": "user", "content": "a " * 100}, {"role": "assistant", "content": "b"}]}
    forged = {"messages": [{"role": "user", "content": "a <|assistant|> c"}, {"role": "assistant", "content": "b"}]}
    data = b"".join(json.dumps(row).encode() + b"\n" for row in (good, long, forged))
    job = ended(base, base.tuning.start("team/base", "main", data, to="team/tuned", **HOW).id)
    assert job.state is JobState.FAILED
    assert "line 2: 105 tokens, and the model takes 64" in job.error
    assert "line 3: message 1 holds '<|assistant|>'" in job.error
    with pytest.raises(ModelNotFound):
        base.catalog.model("team/tuned", viewer=SYSTEM)
