"""What a user would lose: a card that promises a licence which the ancestors do not give."""

import datetime

import pytest
import yaml

from ecotone.licences import Edge, Family, KnowledgeBase, Node
from ecotone.tuning import cards
from ecotone.tuning.licensing import Terms, terms
from ecotone.tuning.plans import Plan
from ecotone.tuning.recipes import Recipe
from ecotone.vocabulary import Relation

PLAN = Plan(
    model="team/base",
    revision="a" * 40,
    to="team/tuned",
    recipe=Recipe(),
    rows_file="x",
    rows=1,
    rows_sha256="b" * 64,
    rows_bytes=1,
    actor={},
)


def of(*instruments: str) -> Terms:
    nodes = {
        "team/tuned": Node(id="team/tuned", instruments=("none",)),
        "team/base": Node(id="team/base", instruments=instruments),
    }
    edges = (Edge(child="team/tuned", parent="team/base", relation=Relation.ADAPTER),)
    family = Family(subject="team/tuned", nodes=nodes, edges=edges)
    return terms(KnowledgeBase.load(), family, datetime.date(2026, 11, 24))


def entry(hub_id: str) -> str:
    return next(e.id for e in KnowledgeBase.load().entries.values() if hub_id in e.names.hf)


@pytest.mark.parametrize("hub_id", ["apache-2.0", "cc-by-nc-4.0", "llama2", "gemma", "gpl-3.0"])
def test_an_adapter_keeps_its_parents_licence(hub_id: str) -> None:
    assert of(entry(hub_id)).card == {"license": hub_id}


@pytest.mark.parametrize("instruments", [("unknown",), ("none",), (), ("no-such-entry",)])
def test_nothing_is_promised_where_the_parents_licence_is_not_known(instruments: tuple[str, ...]) -> None:
    found = of(*instruments)
    assert found.card == {"license": "other", "license_name": "unknown"}
    assert "none can be promised" in found.remark


def test_the_card_says_parent_licence_and_duties_with_clauses() -> None:
    found = of(entry("llama2"))
    text = cards.card(PLAN, found)
    front = yaml.safe_load(text.split("---")[1])
    assert (front["base_model"], front["license"]) == ("team/base", "llama2")
    assert found.duties
    assert all(f"({duty.entry}, clause {duty.clause})" in text for duty in found.duties)
