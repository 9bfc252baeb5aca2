"""Collections as pages: a list of them, and one with its items."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from ecotone.catalog import Collection, Item
from ecotone.vocabulary import Invalid
from ecotone.web.endpoint import Visit, address
from ecotone.web.licensing import Badge, badge

PAGE_SIZE = 30
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """An item as the page shows it."""

    item: Item
    path: str
    badge: Badge | None


def listed(visit: Visit) -> Response:
    """GET /collections"""
    owner = visit.query.get("owner", "").strip()[:96]
    found = visit.catalog.collections(
        viewer=visit.actor, owner=owner or None, after=_after(visit.query.get("after")), limit=PAGE_SIZE + 1
    )
    return visit.page(
        "collections.html",
        owner=owner,
        collections=found[:PAGE_SIZE],
        paths={item.id: _path(visit, item) for one in found for item in one.items},
        after=_mark(found[PAGE_SIZE - 1]) if len(found) > PAGE_SIZE else None,
    )


def show(visit: Visit) -> Response:
    """GET /collections/{namespace}/{slug}"""
    found = visit.catalog.collection(f"{visit.path['namespace']}/{visit.path['slug']}", viewer=visit.actor)
    return visit.page("collection.html", collection=found, places=[_place(visit, item) for item in found.items])


def _place(visit: Visit, item: Item) -> Place:
    model = item.model
    shown = badge(visit.services.knowledge, model.licence, model.instruments) if model is not None else None
    return Place(item, _path(visit, item), shown if item.type == "model" else None)


def _path(visit: Visit, item: Item) -> str:
    if item.model is None:
        return f"{visit.root}/collections/{item.slug}"
    return visit.root + address(item.model)


def _mark(last: Collection) -> str:
    return f"{(last.updated - _EPOCH) // timedelta(microseconds=1)}-{last.key}"


def _after(text: str | None) -> tuple[datetime, int] | None:
    if not text:
        return None
    at, _, key = text.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= 17 for part in (at, key)):
        raise Invalid("That page is not one of ours; begin again from the first.", param="after")
    return _EPOCH + timedelta(microseconds=int(at)), int(key)
