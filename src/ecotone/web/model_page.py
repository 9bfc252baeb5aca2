"""The page of one model, dataset or space: card, facts, licence, family, files, measurements, and how to use it."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from starlette.responses import Response

from ecotone.catalog import Model, Revision
from ecotone.licences import Family
from ecotone.policy import Rule, Stance
from ecotone.vocabulary import Mode, ModelKind, Purpose, RepoType
from ecotone.web import asking, family_tree, licensing
from ecotone.web.cards import MOST_CHARACTERS, card_html
from ecotone.web.catalogue import parameters_fact
from ecotone.web.descent import descent
from ecotone.web.endpoint import Visit, address
from ecotone.web.files import entries_of
from ecotone.web.plots import plotted
from ecotone.web.rendering import count, day, size, zone
from ecotone.web.repository import head
from ecotone.web.snippets import snippets

_MOST_FILES = 40
_TREE_USE = (Mode.SERVE_API, Purpose.COMMERCIAL)


@dataclass(frozen=True, slots=True)
class Licensing:
    """The licence part of the page."""

    badge: licensing.Badge
    uses: list[licensing.JudgedUse]
    choices: asking.Choices
    own: licensing.JudgedUse | None
    fields: list[asking.Field]
    entries: list[tuple[Any, tuple[str, ...], list[tuple[str, list[licensing.Clause]]]]]
    rules: list[tuple[Rule, str]]
    tree_use: str
    knowledge_base: str


def show(visit: Visit) -> Response:
    """GET /{id}"""
    model = visit.model()
    here_path = visit.root + address(model)
    revision = visit.catalog.revision(model) if model.head is not None else None
    refs = visit.catalog.refs(model) if revision is not None else None
    family = visit.catalog.family(model, revision, viewer=visit.actor)
    stance = visit.services.policy.stance()
    choices = asking.chosen(visit.query)
    judge = family_tree.judging(stance, *(choices.use or _TREE_USE), choices.variables)
    deployments = [d for d in visit.services.engines.deployments() if d.model == model.id]
    backends = _backends(visit, model)
    return visit.page(
        "model.html",
        **head(visit, model, "card", refs=refs),
        is_model=model.repo_type is RepoType.MODEL,
        revision=revision,
        card=_card(here_path, model, revision),
        card_is_cut=revision is not None and len(revision.card_text) > MOST_CHARACTERS,
        facts=_facts(model, revision),
        licensing=_licensing(visit, stance, model, family, choices),
        descent=descent(visit, model, revision),
        ancestors=family_tree.ancestors(family, judge),
        descendants=family_tree.descendants(visit.catalog, model, visit.actor, judge),
        **_files(visit, revision),
        measurements=plotted(_measurements(visit, model)),
        deployments=deployments,
        backends=backends,
        snippets=snippets(
            visit.services.settings.base_url,
            model,
            revision,
            is_served=bool(deployments),
            backends=[b.name for b in backends],
        ),
        more_data=_more_data(model),
    )


def _card(here_path: str, model: Model, revision: Revision | None) -> Markup | None:
    if revision is None:
        return None
    first, _, rest = revision.card_text.lstrip().partition("\n")
    text = rest if first.strip() == f"# {model.title}" else revision.card_text
    return card_html(text, here_path, revision.id) if text.strip() else None


def _facts(model: Model, revision: Revision | None) -> list[tuple[str, str]]:
    """What stands beside the card: one line each, nothing that is not known."""
    facts, found = model.facts, []
    for title, name in (("Provider", "provider"), ("Family", "family"), ("Announced", "released")):
        if facts.get(name) and facts[name] not in ("none", "unknown"):
            found.append((title, str(facts[name])))
    if revision is not None:
        weights = revision.weights
        total = weights.get("total")
        if isinstance(total, int) and total:
            kinds = ", ".join(sorted(weights.get("parameters") or {}))
            found.append(("Parameters", count(total) + (f" ({kinds})" if kinds else "")))
        architecture = revision.config.get("architectures") or revision.config.get("model_type")
        if architecture:
            shown = architecture if isinstance(architecture, str) else ", ".join(str(a) for a in architecture)
            found.append(("Architecture", shown))
        found += [("Size of all files", size(revision.size)), ("Updated", day(revision.date))]
    elif parameters_fact(facts):
        found.append(("Parameters", parameters_fact(facts).removesuffix(" parameters")))
    for title, value in (("Task", model.pipeline_tag), ("Library", model.library)):
        if value:
            found.append((title, value))
    if model.kind is not ModelKind.API and model.downloads:
        found.append(("Downloads", str(model.downloads)))
    return found


def _licensing(visit: Visit, stance: Stance, model: Model, family: Family, choices: asking.Choices) -> Licensing:
    knowledge = stance.knowledge
    uses = licensing.common_uses(stance, family) if zone(model) != "none" else []
    own = None
    if choices.use is not None:
        own = licensing.judged(stance, family, "Your use", *choices.use, choices.variables)
    mode, purpose = choices.use or _TREE_USE
    return Licensing(
        badge=licensing.badge(knowledge, model.licence, model.instruments),
        uses=uses,
        choices=choices,
        own=own,
        fields=asking.fields(choices, [u.decision for u in ([own] if own else uses)]),
        entries=[
            (entry, nodes, licensing.clauses(entry))
            for entry, nodes in licensing.binding_entries(knowledge, stance.family(family))
        ],
        rules=licensing.rules_about(stance, family) if visit.actor.kind == "user" else [],
        tree_use=f"{mode}, {purpose}".replace("_", " "),
        knowledge_base=knowledge.version,
    )


def _files(visit: Visit, revision: Revision | None) -> dict[str, Any]:
    if revision is None:
        return {"entries": [], "files_left_out": 0, "file_count": 0}
    files = visit.catalog.files(revision)
    found = entries_of(files, "")
    return {
        "entries": found[:_MOST_FILES],
        "files_left_out": max(0, len(found) - _MOST_FILES),
        "file_count": len(files),
    }


def _measurements(visit: Visit, model: Model) -> list[Any]:
    return visit.catalog.measurements(model.id) if model.repo_type is RepoType.MODEL else []


def _backends(visit: Visit, model: Model) -> list[Any]:
    """Backends under the terms of a proprietary model, for users: how it may be reachable through the gateway."""
    if visit.actor.kind != "user" or model.kind is not ModelKind.API:
        return []
    return [b for b in visit.services.backends.list() if b.terms and b.terms in model.instruments]


def _more_data(model: Model) -> str | None:
    """The path of the same facts as JSON."""
    if model.repo_type is not RepoType.MODEL:
        return f"/api/{model.repo_type.value}s/{quote(model.id)}"
    return f"/api/ecotone/v1/models/{quote(model.id)}"
