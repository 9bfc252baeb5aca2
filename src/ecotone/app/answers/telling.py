"""What whoever made a data set of answers is told: who made them, and what a model trained on them is bound by."""

from collections.abc import Iterable
from typing import Any

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, LineageEdge
from ecotone.licences import Node, Use
from ecotone.policy import Policy
from ecotone.vocabulary import Mode, Purpose, Relation

_TRAINED = "a model trained on it"
_MOST_REASONS = 5


def told_makers(edges: Iterable[LineageEdge]) -> list[dict[str, Any]]:
    """The edges to what made answers, as JSON values."""
    return [
        {
            "model": e.parent,
            "revision": e.parent_revision,
            "terms": list(e.terms),
            "from": str(e.made_from) if e.made_from else None,
            "to": str(e.made_until) if e.made_until else None,
        }
        for e in edges
        if e.relation is Relation.GENERATED_BY
    ]


def told_verdict(catalog: Catalog, policy: Policy, dataset: str, viewer: Actor) -> dict[str, Any]:
    """The verdict on a model of one's own that was trained on a data set to do the same, and is used in trade."""
    edge = LineageEdge(child=_TRAINED, parent=dataset, relation=Relation.TRAINED_ON)
    family = catalog.compose_family(Node(_TRAINED, instruments=("MIT",)), [edge], viewer=viewer)
    use = Use(mode=Mode.RUN, purpose=Purpose.COMMERCIAL, variables={"target_model": "similar"})
    decision = policy.judge_family(family, use).to_json()
    reasons = [reason for reason in decision["reasons"] if reason["path"]]
    return {"verdict": decision["verdict"], "reasons": reasons[:_MOST_REASONS]}
