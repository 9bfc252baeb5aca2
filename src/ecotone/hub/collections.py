"""Collections (protocol section 1.10). Rows of a list have no `position`, which the client sets itself."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute

from ecotone.catalog import Collection, Item
from ecotone.hub.endpoint import Call, need_user, need_writer, plain_route
from ecotone.hub.infos import moment
from ecotone.hub.pages import Key, page, unpack

LIMIT = 20
MOST = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Moment = Annotated[int, msgspec.Meta(ge=0, le=10**17)]
"""Microseconds since 1970."""
_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space", "collections": "collection"}


class NewCollection(msgspec.Struct):
    title: str
    namespace: str | None = None
    description: str = ""
    private: bool = False


class Changes(msgspec.Struct):
    title: str | None = None
    description: str | None = None
    position: int | None = None
    private: bool | None = None
    theme: str | None = None


class NamedItem(msgspec.Struct):
    id: str
    type: str


class NewItem(msgspec.Struct):
    item: NamedItem
    note: str = ""


class ItemChanges(msgspec.Struct):
    note: str | None = None
    position: int | None = None


def listing(call: Call) -> Any:
    """GET /api/collections"""
    limit = call.number("limit", LIMIT, MOST) or LIMIT
    found = call.catalog.collections(
        viewer=call.actor,
        owner=call.query.get("owner"),
        item=_asked_item(call.query.get("item")),
        sort=call.query.get("sort") or "lastModified",
        after=_after(call),
        limit=limit + 1,
    )
    more = _place(found[limit - 1]) if len(found) > limit else None
    return page(call, [_row(one) for one in found[:limit]], more=more)


def create(call: Call) -> Any:
    """POST /api/collections"""
    need_writer(call.actor)
    new = call.fields(NewCollection)
    namespace = new.namespace or call.actor.name
    call.services.intend("collection.create", call.actor, namespace=namespace[:96])
    made = call.catalog.create_collection(
        namespace, new.title, actor=call.actor, private=new.private, description=new.description
    )
    call.services.note("collection.create", call.actor, collection=made.slug)
    return _whole(made)


def show(call: Call) -> Any:
    """GET /api/collections/{namespace}/{slug}"""
    return _whole(call.catalog.collection(_slug(call), viewer=call.actor))


def update(call: Call) -> Any:
    """PATCH /api/collections/{namespace}/{slug}"""
    need_user(call.actor)
    asked = call.fields(Changes)
    call.services.intend("collection.update", call.actor, collection=_slug(call)[:200])
    changed = call.catalog.update_collection(
        _slug(call),
        actor=call.actor,
        title=asked.title,
        description=asked.description,
        theme=asked.theme,
        private=asked.private,
        position=asked.position,
    )
    call.services.note("collection.update", call.actor, collection=changed.slug, private=changed.private)
    return {"success": True, "data": _whole(changed)}


def delete(call: Call) -> Any:
    """DELETE /api/collections/{namespace}/{slug}"""
    need_user(call.actor)
    call.services.intend("collection.delete", call.actor, collection=_slug(call)[:200])
    call.catalog.delete_collection(_slug(call), actor=call.actor)
    call.services.note("collection.delete", call.actor, collection=_slug(call)[:200])
    return Response(status_code=204)


def add_item(call: Call) -> Any:
    """POST /api/collections/{namespace}/{slug}/items"""
    need_user(call.actor)
    new = call.fields(NewItem)
    call.services.intend("collection.add", call.actor, collection=_slug(call)[:200], item=new.item.id[:200])
    changed = call.catalog.add_item(_slug(call), new.item.type, new.item.id, actor=call.actor, note=new.note)
    call.services.note("collection.add", call.actor, collection=changed.slug, item=new.item.id[:200])
    return _whole(changed)


def update_item(call: Call) -> Any:
    """PATCH /api/collections/{namespace}/{slug}/items/{item}"""
    need_user(call.actor)
    asked = call.fields(ItemChanges)
    slug, item = _slug(call), call.path["item"]
    call.services.intend("collection.item", call.actor, collection=slug[:200], item=item[:40])
    call.catalog.update_item(slug, item, actor=call.actor, note=asked.note, position=asked.position)
    call.services.note("collection.item", call.actor, collection=slug[:200], item=item[:40])
    return {"success": True}


def delete_item(call: Call) -> Any:
    """DELETE /api/collections/{namespace}/{slug}/items/{item}"""
    need_user(call.actor)
    call.services.intend("collection.remove", call.actor, collection=_slug(call)[:200], item=call.path["item"][:40])
    call.catalog.delete_item(_slug(call), call.path["item"], actor=call.actor)
    call.services.note("collection.remove", call.actor, collection=_slug(call)[:200], item=call.path["item"][:40])
    return {"success": True}


def _slug(call: Call) -> str:
    return f"{call.path['namespace']}/{call.path['slug']}"


def _asked_item(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    kind, _, name = text.partition("/")
    return _KINDS.get(kind, ""), name


def _place(last: Collection) -> tuple[int, int]:
    return (last.updated - _EPOCH) // timedelta(microseconds=1), last.key


def _after(call: Call) -> tuple[datetime, int] | None:
    place = unpack(call, tuple[Moment, Key])
    return None if place is None else (_EPOCH + timedelta(microseconds=place[0]), place[1])


def _row(collection: Collection) -> dict[str, Any]:
    found: dict[str, Any] = {
        "slug": collection.slug,
        "title": collection.title,
        "owner": {"name": collection.owner, "fullname": collection.owner, "avatarUrl": "", "type": "user"},
        "items": [_item(item) for item in collection.items],
        "lastUpdated": moment(collection.updated),
        "private": collection.private,
        "theme": collection.theme,
        "upvotes": 0,
        "isUpvotedByUser": False,
    }
    if collection.description:
        found["description"] = collection.description
    return found


def _whole(collection: Collection) -> dict[str, Any]:
    return _row(collection) | {"position": collection.position}


def _item(item: Item) -> dict[str, Any]:
    found: dict[str, Any] = {"_id": item.id, "type": item.type, "position": item.position, "title": item.title}
    if item.note:
        found["note"] = {"text": item.note, "html": ""}
    if item.slug is not None:
        return found | {"id": item.slug.rpartition("-")[2].rpartition("/")[2], "slug": item.slug}
    assert item.model is not None
    return found | {
        "id": item.model.id,
        "author": item.model.namespace,
        "private": item.model.private,
        "gated": item.model.gated or False,
        "lastModified": moment(item.model.updated),
        "downloads": item.model.downloads,
        "likes": item.model.likes,
    }


def routes() -> list[BaseRoute]:
    one = "/api/collections/{namespace}/{slug}"
    return [
        plain_route("/api/collections", listing),
        plain_route("/api/collections", create, "POST"),
        plain_route(one + "/items", add_item, "POST"),
        plain_route(one + "/items/{item}", update_item, "PATCH"),
        plain_route(one + "/items/{item}", delete_item, "DELETE"),
        plain_route(one, show),
        plain_route(one, update, "PATCH"),
        plain_route(one, delete, "DELETE"),
    ]
