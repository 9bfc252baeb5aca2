"""The front page: search and list models, open and proprietary side by side; namespaces and datasets likewise."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import Response

from ecotone.catalog import Model, ModelNotFound
from ecotone.catalog.names import is_name
from ecotone.vocabulary import DeploymentState, ModelKind, RepoType
from ecotone.web.endpoint import Visit, address
from ecotone.web.licensing import Badge, badge
from ecotone.web.rendering import count
from ecotone.web.repository import LISTS

PAGE_SIZE = 40
_MOST_SEARCH = 200
_KINDS = {"open": ModelKind.WEIGHTS, "proprietary": ModelKind.API}
_AVAILABILITY = {
    "open": "weights elsewhere",
    "gated": "weights elsewhere, gated",
    "api": "provider's API",
    "shut_down": "shut down",
    "never_published": "never published",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A model as the list shows it."""

    model: Model
    path: str
    badge: Badge
    origin: str
    size: str
    state: str
    is_served: bool


def front(visit: Visit) -> Response:
    """GET /?search=TEXT&kind=open|proprietary&author=NAMESPACE&cursor=..."""
    return _listing(visit, RepoType.MODEL, visit.query.get("author"))


def datasets(visit: Visit) -> Response:
    """GET /datasets"""
    return _listing(visit, RepoType.DATASET, visit.query.get("author"))


def spaces(visit: Visit) -> Response:
    """GET /spaces"""
    return _listing(visit, RepoType.SPACE, visit.query.get("author"))


def namespace(visit: Visit) -> Response:
    """GET /{namespace}: its models, with the way to its datasets and spaces; absent, and empty for this viewer, are
    the same."""
    name = visit.path["namespace"]
    if not is_name(name) or not any(_has(visit, kind, name) for kind in LISTS):
        raise ModelNotFound(name)
    return _listing(visit, RepoType.MODEL, name)


def _has(visit: Visit, repo_type: RepoType, author: str) -> bool:
    return bool(visit.catalog.models(viewer=visit.actor, author=author, repo_type=repo_type, limit=1).models)


def _kinds_of(visit: Visit, repo_type: RepoType, author: str | None) -> list[tuple[str, str, bool]]:
    """What else an author has: title, address, whether it is what is shown."""
    if not author or not is_name(author):
        return []
    found = []
    for kind, (title, path) in LISTS.items():
        if kind is repo_type or _has(visit, kind, author):
            at = f"/{author}" if kind is RepoType.MODEL else f"{path}?author={quote(author)}"
            found.append((title, visit.root + at, kind is repo_type))
    return found if len(found) > 1 else []


def to_front(visit: Visit) -> Response:
    """GET /models: where other hubs have their list."""
    query = visit.request.url.query
    return visit.redirect("/" + (f"?{query}" if query else ""))


def _listing(visit: Visit, repo_type: RepoType, author: str | None) -> Response:
    search = visit.query.get("search", "").strip()[:_MOST_SEARCH]
    kind = visit.query.get("kind", "") if repo_type is RepoType.MODEL else ""
    found = visit.catalog.models(
        viewer=visit.actor,
        search=search.split(),
        author=author,
        kind=_KINDS.get(kind),
        repo_type=repo_type,
        limit=PAGE_SIZE,
        cursor=visit.query.get("cursor") or None,
    )
    served = _served(visit)
    chosen = {"search": search, "kind": kind if kind in _KINDS else "", "author": author or ""}
    title, here = LISTS[repo_type]

    def link(**changes: str) -> str:
        query = urlencode({k: v for k, v in {**chosen, **changes}.items() if v})
        return visit.root + here + (f"?{query}" if query else "")

    return visit.page(
        "front.html",
        rows=[_row(visit, model, served) for model in found.models],
        chosen=chosen,
        title=title,
        kind=repo_type.value,
        kinds_of=_kinds_of(visit, repo_type, author),
        ask_profile=visit.actor.is_admin and not visit.services.accounts.profile().told,
        action=visit.root + here,
        filters=[
            (word, value, link(kind=value), chosen["kind"] == value)
            for word, value in (("All", ""), ("Open weights", "open"), ("Proprietary", "proprietary"))
        ],
        next_link=link(cursor=found.next_cursor) if found.next_cursor else None,
        first_link=link() if visit.query.get("cursor") else None,
    )


def _served(visit: Visit) -> set[str]:
    return {d.model for d in visit.services.engines.deployments() if d.state == DeploymentState.READY}


def _row(visit: Visit, model: Model, served: set[str]) -> Row:
    facts = model.facts
    origin = [
        str(facts[name]) for name in ("provider", "family") if facts.get(name) not in (None, "", "none", "unknown")
    ]
    availability = _AVAILABILITY.get(str(facts.get("availability", "")), "")
    state = "served here" if model.id in served else "files here" if model.head else availability
    return Row(
        model=model,
        path=visit.root + address(model),
        badge=badge(visit.services.knowledge, model.licence, model.instruments),
        origin=" · ".join(dict.fromkeys(origin)) or model.namespace,
        size=_size(visit, model),
        state=state,
        is_served=model.id in served,
    )


def _size(visit: Visit, model: Model) -> str:
    """Parameters, from the weights where they are here, else from the starter catalogue."""
    if model.head is not None:
        total = visit.catalog.revision(model, model.head).weights.get("total")
        return f"{count(total)} parameters" if isinstance(total, int) and total else ""
    return parameters_fact(model.facts)


def parameters_fact(facts: dict[str, Any]) -> str:
    """What the starter catalogue says about size, cut to a line."""
    for item in facts.get("facts", ()):
        if item["fact"] == "parameters":
            text = str(item["value"])
            short = text.split(",")[0] if len(text) > 40 else text
            if "not published" in short:
                return "size not published"
            return short if "parameter" in short else f"{short} parameters"
    return ""
