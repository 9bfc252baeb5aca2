"""Pages of the knowledge base: the list of texts, and one text with its clauses, sources and the models under it."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from ecotone.catalog import Model
from ecotone.licences import Entry, Family, KnowledgeBase, Node
from ecotone.vocabulary import NotFound
from ecotone.web import asking, licensing
from ecotone.web.endpoint import Visit, address

_MOST_SEARCH = 100
_MOST_MODELS = 60
_LOOKED_THROUGH = 1000
_SUBJECT = "a model under this text"
_OF_NO_TEXT = ("unknown", "none")


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as the list shows it."""

    entry: Entry
    word: str
    names: tuple[str, ...]


def listed(visit: Visit) -> Response:
    """GET /ecotone/licences?search=TEXT&kind=KIND"""
    knowledge: KnowledgeBase = visit.services.knowledge
    search = visit.query.get("search", "").strip()[:_MOST_SEARCH]
    kinds = sorted({e.kind for e in knowledge.entries.values()})
    kind = visit.query.get("kind", "")
    entries = [
        e
        for e in sorted(knowledge.entries.values(), key=lambda e: e.id.casefold())
        if (kind not in kinds or e.kind == kind) and all(w in _searched(e) for w in search.casefold().split())
    ]
    return visit.page(
        "licences.html",
        rows=[Row(e, licensing.kind_word(e.kind), e.names.hf) for e in entries],
        search=search,
        kind=kind if kind in kinds else "",
        kinds=[(k, licensing.kind_word(k)) for k in kinds],
        knowledge=knowledge,
    )


def _searched(entry: Entry) -> str:
    names = entry.names
    words = (entry.id, entry.title, entry.family, entry.kind, names.spdx or "", *names.hf, *names.aliases)
    return " ".join((*words, *names.license_name)).casefold()


def show(visit: Visit) -> Response:
    """GET /ecotone/licences/{id}; ids are compared without case."""
    stance = visit.services.policy.stance()
    knowledge: KnowledgeBase = stance.knowledge
    wanted = visit.path["id"]
    entry = knowledge.entries.get(wanted) or _without_case(knowledge, wanted)
    if entry is None:
        raise NotFound("The knowledge base has no text of that name. The list of licences shows all.", param="id")
    family = Family(_SUBJECT, {_SUBJECT: Node(_SUBJECT, instruments=(entry.id,), kind=_node_kind(entry))})
    choices = asking.chosen(visit.query)
    licence = entry.kind != "policy"  # a use policy alone grants nothing: there is no "may I" to answer
    uses = licensing.common_uses(stance, family) if licence else []
    asked = choices.use if licence else None
    own = licensing.judged(stance, family, "Your use", *asked, choices.variables) if asked else None
    models, more = _models_under(visit, entry)
    return visit.page(
        "licence.html",
        entry=entry,
        word=licensing.kind_word(entry.kind),
        groups=licensing.clauses(entry),
        positions=_positions(entry, knowledge, stance.positions),
        secondary=sorted(f.id for f in entry.facts if entry.authority(f) == "secondary"),
        facts=_facts(entry),
        uses=uses,
        own=own,
        choices=choices,
        fields=asking.fields(choices, [u.decision for u in ([own] if own else uses)]),
        here_path=f"{visit.root}/ecotone/licences/{entry.id}",
        models=models,
        more_models=more,
        knowledge=knowledge,
        incorporated=[(i, knowledge.entries.get(i.ref)) for i in entry.incorporates],
    )


def _without_case(knowledge: KnowledgeBase, wanted: str) -> Entry | None:
    return next((e for e in knowledge.entries.values() if e.id.casefold() == wanted.casefold()), None)


def _node_kind(entry: Entry) -> str:
    if entry.kind == "api_terms":
        return "api"
    return "dataset" if "weights" not in entry.governs and "data" in entry.governs else "weights"


def _positions(entry: Entry, knowledge: KnowledgeBase, chosen: dict[str, str]) -> list[tuple[str, str, str]]:
    """Disputed questions that the entry's facts depend on: name, what is asked, the reading that holds here."""
    names = dict.fromkeys(f.position for f in entry.facts if f.position)
    held = knowledge.default_positions() | chosen
    return [(n, str(knowledge.positions.get(n, {}).get("means", "")), held.get(n, "")) for n in names]


def _facts(entry: Entry) -> list[tuple[str, str]]:
    """What stands beside the clauses: one line each, nothing that is not known."""
    text = entry.text
    told: list[tuple[str, Any]] = [
        ("SPDX", entry.names.spdx),
        ("Names on the Hub", ", ".join(entry.names.hf)),
        ("Other names", ", ".join(entry.names.aliases)),
        ("Version", entry.version),
        ("In force since", entry.effective.since),
        ("In force until", entry.effective.until),
        ("Takes the place of", ", ".join(entry.supersedes)),
        ("Governs", ", ".join(entry.governs)),
        ("Law", entry.law),
        ("Can be withdrawn", (entry.revocable or "").replace("_", " ")),
        ("A derivative's licence", entry.outbound.derivative.replace("_", " ")),
        ("Comes down by", ", ".join(dict.fromkeys(v.replace("_", " ") for p in entry.propagates for v in p.via))),
        ("Source of the text", text.source),
        ("SHA-256 of the text", text.sha256),
        ("Retrieved", text.retrieved),
        ("Reviewed", f"{entry.status.reviewed} ({entry.status.authority} source)"),
        ("Notes", entry.status.notes),
    ]
    return [(title, str(value)) for title, value in told if value]


def _models_under(visit: Visit, entry: Entry) -> tuple[list[tuple[Model, str]], bool]:
    """Models that carry the text themselves, as far as the viewer may see them, and whether there may be more."""
    if entry.id in _OF_NO_TEXT:
        return [], False
    page = visit.catalog.models(viewer=visit.actor, limit=_LOOKED_THROUGH)
    found = {m.id: m for m in page.models if entry.id in m.instruments}
    for name in entry.names.hf:
        tagged = visit.catalog.models(viewer=visit.actor, filters=[f"license:{name}"], limit=_MOST_MODELS)
        found |= {m.id: m for m in tagged.models if entry.id in m.instruments}
    models = list(found.values())
    more = len(models) > _MOST_MODELS or page.next_cursor is not None
    return [(m, visit.root + address(m)) for m in models[:_MOST_MODELS]], more
