"""Licence questions over REST: the knowledge base, and "may we use this for that?"."""

from typing import Any

import msgspec

from ecotone.accounts.services import check_territory, use_variables
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.licences import Use, check_variables
from ecotone.vocabulary import Mode, NotFound, Purpose


class LicenceQuestion(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    revision: str = "main"
    mode: Mode
    purpose: Purpose
    users: int | None = None
    revenue: float | None = None
    territory: list[str] = []
    variables: dict[str, Any] = {}


@endpoint("POST", "/licence/check", need=Need.READ, body=LicenceQuestion, summary="May we use this for that, and why?")
def check_licence(call: Call) -> Any:
    ask: LicenceQuestion = call.body
    check_territory(ask.territory)
    check_variables(call.services.knowledge, ask.variables)
    use = Use(
        mode=ask.mode,
        purpose=ask.purpose,
        variables=use_variables(ask.users, ask.revenue, ask.territory, ask.variables),
    )
    services = call.services
    backend = services.backend_of(ask.model)
    if backend is not None:
        variables = use.variables | {"account.tier": backend.tier}
        family = services.policy.api_family(ask.model, [backend.terms] if backend.terms else [])
        return services.policy.judge_family(family, msgspec.structs.replace(use, variables=variables)).to_json()
    return services.policy.judge(ask.model, ask.revision, use, viewer=call.actor).to_json()


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
