"""Collections: titled lists of repositories and other collections, public or private.

One is changed by administrators, by the user whose name its namespace has, and by whoever made it. A private one is
seen by them alone. What a viewer may not see of a collection's items is left out for them.
"""

import re
import secrets
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ecotone.accounts import Actor, bears
from ecotone.catalog.entities import Model
from ecotone.catalog.errors import (
    CollectionExists,
    CollectionNotFound,
    ItemExists,
    ItemNotFound,
)
from ecotone.catalog.models import CollectionItemRow, CollectionRow, ModelRow
from ecotone.catalog.names import is_name
from ecotone.catalog.part import visible
from ecotone.catalog.repositories import Repositories
from ecotone.database import alone, utc_now
from ecotone.vocabulary import Conflict, Forbidden, Invalid, RepoType

THEMES = ("orange", "blue", "green", "purple", "pink", "indigo")
SORTS = ("lastModified", "trending", "upvotes")
REPOSITORIES = tuple(kind.value for kind in RepoType)
MOST_TITLE = 100
MOST_DESCRIPTION = 500
MOST_NOTE = 500
MOST_ITEMS = 500
MOST_OF_ONE = 1000
MOST_POSITION = 10**6
_SLUG = re.compile(r"(?:[a-z0-9-]{1,80}-)?([0-9a-f]{24})\Z")

ItemType = Literal["model", "dataset", "space", "collection"]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a collection: a repository, or another collection by its slug."""

    id: str
    type: ItemType
    position: int
    note: str = ""
    model: Model | None = None
    slug: str | None = None
    title: str = ""


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """`items` are those that the viewer sees, `may_change` whether the viewer may change it."""

    slug: str
    owner: str
    title: str
    description: str
    theme: str
    private: bool
    position: int
    updated: datetime
    created_by: str
    items: tuple[Item, ...] = ()
    may_change: bool = False
    key: int = 0


class Collections(Repositories):
    """Services over collections."""

    # -- reading -----------------------------------------------------------------------------------------------------
    def collections(
        self,
        *,
        viewer: Actor,
        owner: str | None = None,
        item: tuple[str, str] | None = None,
        sort: str = "lastModified",
        after: tuple[datetime, int] | None = None,
        limit: int = 20,
        most_items: int = 4,
    ) -> list[Collection]:
        """Collections that the viewer may see, the one changed last first.

        Args:
            item: type and id of something that they must hold.
            sort: the protocol's words; there are no votes here, so that each of them means lastModified.
            after: when the last one of the page before was changed, and its key.
            most_items: how many items come with each.

        Raises:
            Invalid: for another word to sort by.
        """
        if sort not in SORTS:
            raise Invalid(f"sort is {sort!r}; expected one of {', '.join(SORTS)}.", param="sort")
        wanted = sa.select(CollectionRow)
        if not viewer.is_admin:
            mine = sa.or_(
                CollectionRow.private.is_(False),
                CollectionRow.created_by == viewer.name,
                sa.and_(CollectionRow.owner_folded == viewer.name.lower(), sa.literal(viewer.name.isascii())),
            )
            wanted = wanted.where(mine if viewer.kind == "user" else CollectionRow.private.is_(False))
        if owner:
            wanted = wanted.where(CollectionRow.owner_folded == owner[:96].lower())
        if after is not None:
            at, key = after
            earlier = sa.and_(CollectionRow.updated == at, CollectionRow.key < key)
            wanted = wanted.where(sa.or_(CollectionRow.updated < at, earlier))
        with self._database.reading() as session:
            if item is not None:
                target = self._target(session, *item, viewer)
                if target is None:
                    return []
                holding = sa.select(CollectionItemRow.collection_key).where(CollectionItemRow.target == target)
                wanted = wanted.where(CollectionRow.key.in_(holding))
            rows = session.scalars(wanted.order_by(CollectionRow.updated.desc(), CollectionRow.key.desc()).limit(limit))
            return [self._collection(session, row, viewer, most_items) for row in rows]

    def collection(self, slug: str, *, viewer: Actor) -> Collection:
        """The one that a slug names; only its namespace and its end count. Raises CollectionNotFound."""
        with self._database.reading() as session:
            return self._collection(session, self._seen(session, slug, viewer), viewer)

    def _seen(self, session: Session, slug: str, viewer: Actor) -> CollectionRow:
        namespace, _, rest = slug.partition("/")
        found = _SLUG.match(rest)
        row = session.scalar(sa.select(CollectionRow).where(CollectionRow.id == found[1])) if found else None
        if row is None or row.owner_folded != namespace.lower() or (row.private and not _may_change(row, viewer)):
            raise CollectionNotFound(slug[:200])
        return row

    def _changed(self, session: Session, slug: str, actor: Actor) -> CollectionRow:
        """The row of a collection that is about to be changed, held until the transaction ends."""
        row = self._seen(session, slug, actor)
        if not actor.may_write:
            raise Forbidden("This token may only read; one that may write is needed.")
        if not _may_change(row, actor):
            raise Forbidden(f"{_slug(row)} was made by {row.created_by!r}; only they or an administrator change it.")
        held = session.get(CollectionRow, row.key, with_for_update=True, populate_existing=True)
        if held is None:  # deleted in the same moment
            raise CollectionNotFound(slug[:200])
        return held

    def _collection(self, session: Session, row: CollectionRow, viewer: Actor, most: int = MOST_ITEMS) -> Collection:
        return Collection(
            slug=_slug(row),
            owner=row.owner,
            title=row.title,
            description=row.description,
            theme=row.theme,
            private=row.private,
            position=row.position,
            updated=row.updated,
            created_by=row.created_by,
            items=self._items(session, row, viewer)[:most],
            may_change=viewer.may_write and _may_change(row, viewer),
            key=row.key,
        )

    def _items(self, session: Session, row: CollectionRow, viewer: Actor) -> tuple[Item, ...]:
        rows = list(session.scalars(_in_order(row)))
        named = [place.target.partition(":") for place in rows]
        keys = [int(name) for kind, _, name in named if kind == "repo"]
        ids = [name for kind, _, name in named if kind == "collection"]
        models = session.scalars(sa.select(ModelRow).where(ModelRow.key.in_(keys), ModelRow.buried == 0))
        seen = {f"repo:{m.key}": self._entity(m) for m in models if visible(m.private, viewer)}
        inner = session.scalars(sa.select(CollectionRow).where(CollectionRow.id.in_(ids)))
        lists = {f"collection:{c.id}": c for c in inner if not c.private or _may_change(c, viewer)}
        shown = [place for place in rows if place.target in seen or place.target in lists]
        return tuple(
            _item(place, number, seen.get(place.target), lists.get(place.target)) for number, place in enumerate(shown)
        )

    def _target(self, session: Session, kind: str, name: str, viewer: Actor) -> str | None:
        """What an item's type and id stand for; None when it is absent or not visible."""
        if kind == "collection":
            try:
                slug = name if "/" in name else f"{self._owner_of(session, name)}/{name}"
                return f"collection:{self._seen(session, slug, viewer).id}"
            except CollectionNotFound:
                return None
        if kind not in REPOSITORIES or not all(is_name(part) for part in name.split("/")) or name.count("/") != 1:
            return None
        row = self._row(session, name, RepoType(kind))
        return f"repo:{row.key}" if row is not None and visible(row.private, viewer) else None

    def _owner_of(self, session: Session, collection_id: str) -> str:
        return session.scalar(sa.select(CollectionRow.owner).where(CollectionRow.id == collection_id[:24])) or ""

    # -- changing ----------------------------------------------------------------------------------------------------
    def create_collection(
        self, namespace: str, title: str, *, actor: Actor, private: bool = False, description: str = ""
    ) -> Collection:
        """A new, empty collection.

        Raises:
            CollectionExists: when the caller has one of that title in the namespace; it carries the slug.
            Forbidden: when the caller may not write in the namespace.
        """
        title, description = _title(title), _text(description, "description", MOST_DESCRIPTION)
        if not is_name(namespace) or namespace.casefold() in self.reserved_segments:
            raise Invalid(f"{namespace[:100]!r} is no namespace.", param="namespace")
        now = utc_now()
        row = CollectionRow(
            id=secrets.token_hex(12),
            owner=namespace,
            owner_folded=namespace.lower(),
            title=title,
            title_folded=title.casefold(),
            description=description,
            theme=THEMES[0],
            private=private,
            position=0,
            created=now,
            created_by=actor.name,
            updated=now,
        )
        mine = sa.select(CollectionRow).where(
            CollectionRow.owner_folded == row.owner_folded, CollectionRow.created_by == actor.name
        )
        same = mine.where(CollectionRow.title_folded == row.title_folded)
        try:
            with self._database.writing() as session:
                alone(session, f"collections of {actor.name}")
                self._check_new(session, namespace, actor)
                if (found := session.scalar(same)) is not None:
                    raise CollectionExists(_slug(found))
                count = session.scalar(sa.select(sa.func.count()).select_from(mine.subquery())) or 0
                if count >= MOST_OF_ONE:
                    raise Conflict(f"You have {count} collections in {namespace}; delete some first.")
                session.add(row)
                session.flush()
                return self._collection(session, row, actor)
        except IntegrityError:
            with self._database.reading() as session:
                raise CollectionExists(_slug(session.scalars(same).one())) from None

    def update_collection(
        self,
        slug: str,
        *,
        actor: Actor,
        title: str | None = None,
        description: str | None = None,
        theme: str | None = None,
        private: bool | None = None,
        position: int | None = None,
    ) -> Collection:
        """Change what is not None.

        Raises:
            CollectionExists: when the caller's other collection has the title.
        """
        if theme is not None and theme not in THEMES:
            raise Invalid(f"theme is {theme!r}; expected one of {', '.join(THEMES)}.", param="theme")
        try:
            with self._database.writing() as session:
                row = self._changed(session, slug, actor)
                if title is not None:
                    row.title = _title(title)
                    row.title_folded = row.title.casefold()
                if description is not None:
                    row.description = _text(description, "description", MOST_DESCRIPTION)
                row.theme = theme or row.theme
                row.private = row.private if private is None else private
                row.position = row.position if position is None else max(0, min(position, MOST_POSITION))
                row.updated = utc_now()
                session.flush()
                return self._collection(session, row, actor)
        except IntegrityError:
            raise CollectionExists(slug) from None

    def delete_collection(self, slug: str, *, actor: Actor) -> None:
        with self._database.writing() as session:
            alone(session, "collections that go")  # one may stand in the other, and the other in it
            row = self._changed(session, slug, actor)
            session.execute(sa.delete(CollectionItemRow).where(CollectionItemRow.target == f"collection:{row.id}"))
            session.delete(row)

    def add_item(self, slug: str, kind: str, name: str, *, actor: Actor, note: str = "") -> Collection:
        """Put something at the end of a collection.

        Raises:
            ItemExists: when it stands there already.
            ItemNotFound: when the caller sees no such thing.
            Invalid: for a type that this hub does not have.
        """
        if kind in ("paper", "bucket"):
            raise Invalid(f"This hub has no {kind}s; add a model, dataset, space or collection.", param="item")
        if kind not in (*REPOSITORIES, "collection"):
            raise Invalid(f"type is {kind[:40]!r}; expected model, dataset, space or collection.", param="item")
        note = _text(note, "note", MOST_NOTE)
        try:
            with self._database.writing() as session:
                if kind == "collection":
                    alone(session, "collections that go")
                row = self._changed(session, slug, actor)
                target = self._target(session, kind, name, actor)
                if target is None or target == f"collection:{row.id}":
                    raise ItemNotFound(name[:200])
                places = list(session.scalars(_in_order(row)))
                if any(place.target == target for place in places):
                    raise ItemExists(name)
                if len(places) >= MOST_ITEMS:
                    raise Conflict(f"A collection holds at most {MOST_ITEMS} items; make another one.")
                position = places[-1].position + 1 if places else 0
                session.add(
                    CollectionItemRow(
                        id=secrets.token_hex(12), collection_key=row.key, target=target, note=note, position=position
                    )
                )
                row.updated = utc_now()
                session.flush()
                return self._collection(session, row, actor)
        except IntegrityError:  # another process added it in the same moment
            raise ItemExists(name) from None

    def update_item(
        self, slug: str, item_id: str, *, actor: Actor, note: str | None = None, position: int | None = None
    ) -> None:
        """Change an item's note, or move it to a place among those that the caller sees."""
        with self._database.writing() as session:
            row = self._changed(session, slug, actor)
            places = list(session.scalars(_held(row)))
            place = _place(places, item_id)
            if note is not None:
                place.note = _text(note, "note", MOST_NOTE)
            if position is not None:
                places.remove(place)
                seen = [item.id for item in self._items(session, row, actor) if item.id != item_id]
                before = seen[position] if 0 <= position < len(seen) else None
                at = next((n for n, p in enumerate(places) if p.id == before), len(places))
                places.insert(at, place)
                for number, moved in enumerate(places):
                    moved.position = number
            row.updated = utc_now()

    def delete_item(self, slug: str, item_id: str, *, actor: Actor) -> None:
        """Take an item out. Raises ItemNotFound."""
        with self._database.writing() as session:
            row = self._changed(session, slug, actor)
            session.delete(_place(list(session.scalars(_held(row))), item_id))
            row.updated = utc_now()


def _may_change(row: CollectionRow, actor: Actor) -> bool:
    return actor.kind == "user" and (actor.is_admin or bears(actor, row.owner) or actor.name == row.created_by)


def _in_order(row: CollectionRow) -> "sa.Select[CollectionItemRow]":
    wanted = sa.select(CollectionItemRow).where(CollectionItemRow.collection_key == row.key)
    return wanted.order_by(CollectionItemRow.position, CollectionItemRow.key)


def _held(row: CollectionRow) -> "sa.Select[CollectionItemRow]":
    """The same, while none of them goes: with a collection go the places where it stands."""
    return _in_order(row).with_for_update()


def _place(places: Sequence[CollectionItemRow], item_id: str) -> CollectionItemRow:
    found = next((place for place in places if place.id == item_id), None)
    if found is None:
        raise ItemNotFound(item_id[:40])
    return found


def _item(place: CollectionItemRow, number: int, model: Model | None, inner: CollectionRow | None) -> Item:
    if model is not None:
        return Item(
            id=place.id,
            type=msgspec.convert(model.repo_type.value, ItemType),
            position=number,
            note=place.note,
            model=model,
            title=model.title or model.name,
        )
    assert inner is not None
    return Item(id=place.id, type="collection", position=number, note=place.note, slug=_slug(inner), title=inner.title)


def _slug(row: CollectionRow) -> str:
    words = "-".join(re.findall(r"[a-z0-9]+", row.title.lower()))[:60].strip("-")
    return f"{row.owner}/{words}-{row.id}" if words else f"{row.owner}/{row.id}"


def _title(text: str) -> str:
    title = _text(text, "title", MOST_TITLE)
    if not title:
        raise Invalid("A title has at least one character.", param="title")
    return title


def _text(text: str, param: str, most: int) -> str:
    """One line without control or invisible characters. Raises Invalid when it is too long."""
    shown = "".join(c if unicodedata.category(c) not in ("Cc", "Cs", "Cf", "Zl", "Zp") else " " for c in text)
    kept = " ".join(shown.split())
    if len(kept) > most:
        raise Invalid(f"{param} has {len(kept)} characters; at most {most} are taken.", param=param)
    return kept
