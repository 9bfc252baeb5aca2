"""Licence questions over REST: the knowledge base, and "may we use this for that?"."""

import datetime
from collections.abc import Iterator
from typing import Any

import msgspec

from ecotone.accounts.projects import check_territory, use_variables
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.licences import Family, KnowledgeBase, Use, check_variables
from ecotone.licences.differences import Asked, changed_answers, compare
from ecotone.licences.versions import version_of
from ecotone.policy import Action, Outcome
from ecotone.vocabulary import EcotoneError, Mode, NotFound, Purpose

MOST_FILE_BYTES = 64 * 1024 * 1024  # two knowledge bases, in base64

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
    services = call.services
    backend = services.backend_of(ask.model)
    more = {"account.tier": backend.tier} if backend is not None else {}
    use = Use(
        mode=ask.mode,
        purpose=ask.purpose,
        modified=ask.modified,
        declared_licence=ask.declared_licence,
        date=ask.date,
        variables=use_variables(ask.users, ask.revenue, ask.territory, ask.variables) | more,
    )
    if backend is None:
        decision, family = services.policy.judge_or_else(ask.model, ask.revision, use, viewer=call.actor)
    else:
        family = services.policy.api_family(ask.model, [backend.terms] if backend.terms else [])
        decision = services.policy.judge_family(family, use)
    answer = decision.to_json()
    if backend is None:
        answer["warnings"] = [*answer["warnings"], *_conflicts(call, ask)]
    if call.actor.kind == "user":
        stance = services.policy.stance()
        answer["policy"] = _policy(stance.outcome(decision, _ACTIONS.get(ask.mode, Action.CALL), family))
        answer["policy"]["overrides"] = [msgspec.to_builtins(rule) for rule in stance.overrides(family)]
    return answer


def _conflicts(call: Call, ask: LicenceQuestion) -> list[str]:
    """Where card and licence file of a revision contradict each other."""
    catalog = call.services.catalog
    model = catalog.model(ask.model, viewer=call.actor)
    findings = catalog.revision(model, ask.revision).findings if model.head is not None else ()
    return [finding for finding in findings if finding.startswith("Licence: ")]


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


class KnowledgeDiff(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Two knowledge bases, each a version that this server has had, or a file of `ecotone licence export`."""

    old: str | None = None
    old_file: bytes | None = None
    new: str | None = None
    new_file: bytes | None = None


@endpoint(
    "POST",
    "/licence/diff",
    need=Need.ADMIN,
    body=KnowledgeDiff,
    most=MOST_FILE_BYTES,
    summary="Which answers on models, projects and routes differ between two versions of the knowledge base?",
)
def diff_knowledge(call: Call) -> Any:
    """The differing entries, and every model (and backend) whose verdict or duties differ for the use of a project."""
    ask: KnowledgeDiff = call.body
    old, new = _knowledge(call, ask.old, ask.old_file), _knowledge(call, ask.new, ask.new_file)
    difference = compare(old, new)
    positions = call.services.policy.positions()
    answers = list(changed_answers(difference, old, new, _asked(call), positions)) if difference.entries else []
    names = {change.model for change in answers}
    routes = [
        {"route": route.name, "models": changed}
        for route in call.services.routes.list()
        if (changed := [to for to in route.to if to.partition("@")[0] in names or to.partition("/")[0] in names])
    ]
    return {
        **msgspec.to_builtins(difference),
        "models": answers,
        "projects": sorted({change.who for change in answers}),
        "routes": routes,
    }


def _knowledge(call: Call, version: str | None, file: bytes | None) -> KnowledgeBase:
    if file is not None:
        return KnowledgeBase.from_bytes(file)
    present: KnowledgeBase = call.services.knowledge
    return present if version is None else version_of(present, call.services.settings.folder("knowledge"), version)


def _asked(call: Call) -> Iterator[Asked]:
    """Every model and backend under the declared use of every project, with the organisation's figures and rules."""
    projects = call.services.accounts.projects()
    stance = call.services.policy.stance()
    figures = stance.kept.profile.variables()
    for family, more in _families(call):
        for project in projects:
            use = project.use()
            told = msgspec.structs.replace(use, variables=figures | use.variables | more)
            yield Asked(family=stance.family(family), use=told, who=project.name)


def _families(call: Call) -> Iterator[tuple[Family, dict[str, Any]]]:
    services, cursor = call.services, None
    while True:
        page = services.catalog.models(viewer=call.actor, limit=1000, cursor=cursor)
        for model in page.models:
            try:
                revision = services.catalog.revision(model, "main") if model.head is not None else None
                yield services.catalog.family(model, revision, viewer=call.actor), {}
            except EcotoneError:  # a model that went while the list was read, or has no revision on main
                continue
        cursor = page.next_cursor
        if cursor is None:
            break
    for backend in services.backends.list():
        family = services.policy.api_family(backend.name, [backend.terms] if backend.terms else [])
        yield family, {"account.tier": backend.tier.value}
