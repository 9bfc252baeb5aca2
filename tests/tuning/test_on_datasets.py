"""What a user would lose: hours of training on data that may not be trained on, and where the rows came from."""

import json
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM
from ecotone.catalog import LineageEdge
from ecotone.publishing import AddRegular, Commit
from ecotone.tuning import Tuning
from ecotone.tuning.errors import NotTunable
from ecotone.vocabulary import EdgeStatus, Invalid, Refused, Relation, RepoType
from tests.tuning.conftest import rows

OPENAI = "openai-services-agreement-2026-01-01"
EMPTY = b"\x02\0\0\0\0\0\0\0{}"


@pytest.fixture
def judging(runs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The house whose tuning judges data, with the parent `team/base`; runs are queued and not done."""
    runs.jobs.stop()
    runs.tuning = Tuning(
        runs.catalog,
        runs.publishing,
        runs.jobs,
        runs.storage,
        runs.settings,
        may_tune=runs.policy.may_tune,
        may_train=runs.policy.may_train,
    )
    runs.catalog.create("team/base", private=False, actor=SYSTEM)
    config = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).encode()
    card = b"---\nlicense: apache-2.0\n---\n# base\n"
    runs.publish("team/base", {"README.md": card, "config.json": config, "model.safetensors": EMPTY})
    return runs


def data(house: SimpleNamespace, terms: str | None, content: bytes) -> None:
    house.catalog.create("team/answers", repo_type=RepoType.DATASET, private=True, actor=SYSTEM)
    edge = LineageEdge(
        child="team/answers",
        parent="far/gpt",
        relation=Relation.GENERATED_BY,
        status=EdgeStatus.VERIFIED,
        asserted_by="ecotone ledger",
        terms=(terms or "",),
        made_from=date(2026, 2, 1),
    )
    change = Commit(message="Add", operations=(AddRegular("data/a.jsonl", content),))
    house.publishing.commit(
        "team/answers",
        "main",
        change,
        actor=SYSTEM,
        repo_type=RepoType.DATASET,
        asserted_edges=(edge,) if terms else (),
    )


def start(house: SimpleNamespace, **more: Any) -> Any:
    how = {"dataset": "team/answers", "to": "team/student", "actor": SYSTEM, **more}
    return house.tuning.start("team/base", "main", how.pop("data", None), **how)


def test_data_that_may_not_be_trained_on_is_refused_before_anything_starts(judging: SimpleNamespace) -> None:
    data(judging, OPENAI, rows(("a ?", "b .")))
    with pytest.raises(Refused) as refused:
        start(judging)
    assert "3.3(e)" in refused.value.message
    reasons = refused.value.decision["reasons"]
    paths = [(r["node"], tuple(r["path"])) for r in reasons if r.get("path")]
    assert ("far/gpt", ("generated_by", "trained_on")) in paths
    assert judging.jobs.list() == []


def test_data_that_may_be_is_queued_with_its_revision_and_unknown_terms_warn(judging: SimpleNamespace) -> None:
    pytest.importorskip("peft")
    odd = b'{"messages": []}\n{"x": 1}\n{"messages": [{"role": "user", "content": "no answer"}]}\n'
    columns = json.dumps({"request_id": "r", "messages": json.loads(rows(("q ?", "a .")))["messages"]}).encode()
    data(judging, "unknown", rows(("a ?", "b .")) + odd + columns)
    job = start(judging)
    plan = job.params
    head = judging.catalog.model("team/answers", viewer=SYSTEM, repo_type=RepoType.DATASET).head
    assert (plan["dataset"], plan["dataset_revision"], plan["rows"]) == ("team/answers", head, 2)
    assert any("3 rows of the data set cannot be learned from" in w for w in plan["warnings"])
    assert any("unknown" in w or "not known" in w for w in plan["warnings"]), plan["warnings"]


def test_rows_come_from_one_place_and_must_be_there(judging: SimpleNamespace) -> None:
    data(judging, None, b'{"x": 1}\n')
    with pytest.raises(NotTunable, match="no chat rows"):
        start(judging)
    for how in ({"dataset": None}, {"data": b"{}"}):
        with pytest.raises(Invalid):
            start(judging, **how)
