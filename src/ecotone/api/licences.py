"""Licence questions over REST: the knowledge base, and "may we use this for that?"."""

import datetime
from typing import Any

import msgspec

from ecotone.accounts.services import check_territory, use_variables
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.licences import Family, Use, check_variables
from ecotone.policy import Action, Outcome
from ecotone.vocabulary import Mode, NotFound, Purpose

_ACTIONS = {
    Mode.PUBLISH_WEIGHTS: Action.PUBLISH,
    Mode.PUBLISH_ADAPTER: Action.PUBLISH,
    Mode.FINETUNE: Action.TUNE,
}


class LicenceQuestion(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    revision: str = "main"
    mode: Mode
    purpose: Purpose
    users: int | None = None
    revenue: float | None = None
    territory: list[str] = []
    modified: bool = False
    declared_licence: str | None = None
    date: datetime.date | None = None
    variables: dict[str, Any] = {}


@endpoint("POST", "/licence/check", need=Need.READ, body=LicenceQuestion, summary="May we use this for that, and why?")
def check_licence(call: Call) -> Any:
    """The decision, and beside it what the organisation's rules make of it for users, who may read those rules."""
    ask: LicenceQuestion = call.body
    check_territory(ask.territory)
    check_variables(call.services.knowledge, ask.variables)
    family, more = _family(call, ask)
    use = Use(
        mode=ask.mode,
        purpose=ask.purpose,
        modified=ask.modified,
        declared_licence=ask.declared_licence,
        date=ask.date,
        variables=use_variables(ask.users, ask.revenue, ask.territory, ask.variables) | more,
    )
    stance = call.services.policy.stance()
    decision = stance.judge_family(family, use)
    answer = decision.to_json()
    if call.actor.kind == "user":
        answer["policy"] = _policy(stance.outcome(decision, _ACTIONS.get(ask.mode, Action.CALL), family))
    return answer


def _family(call: Call, ask: LicenceQuestion) -> tuple[Family, dict[str, Any]]:
    """The family asked about, and what is known of the way to it: a backend's tier."""
    services = call.services
    backend = services.backend_of(ask.model)
    if backend is None:
        return services.policy.family(ask.model, ask.revision, viewer=call.actor), {}
    family = services.policy.api_family(ask.model, [backend.terms] if backend.terms else [])
    return family, {"account.tier": backend.tier}


def _policy(outcome: Outcome) -> dict[str, Any]:
    rules = [r for r in outcome.reasons if r.get("authority") == "organisation"]
    return {
        "action": outcome.action,
        "allowed": outcome.allowed,
        "message": outcome.message,
        "warning": outcome.warning,
        "rules": rules,
    }


@endpoint("GET", "/licences", need=Need.READ, summary="The entries of the knowledge base")
def list_licences(call: Call) -> Any:
    knowledge = call.services.knowledge
    return [
        {"id": e.id, "title": e.title, "family": e.family, "version": e.version, "kind": e.kind}
        for e in sorted(knowledge.entries.values(), key=lambda e: e.id.lower())
    ]


@endpoint("GET", "/licences/{id}", need=Need.READ, summary="One entry of the knowledge base with all its facts")
def show_licence(call: Call) -> Any:
    entry = call.services.knowledge.entries.get(call.path["id"])
    if entry is None:
        raise NotFound(
            f"The knowledge base has no entry {call.path['id']!r}; `ecotone licence list` shows all.", param="id"
        )
    return {"knowledge_base": call.services.knowledge.version, **msgspec.to_builtins(entry)}
