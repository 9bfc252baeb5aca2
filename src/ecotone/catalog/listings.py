"""Search and listing: tables and starter catalogue as one ordered list, in pages."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from ecotone.accounts import Actor
from ecotone.catalog.entities import Listing, Model
from ecotone.catalog.models import ModelRow
from ecotone.catalog.names import key_of
from ecotone.catalog.part import Part
from ecotone.vocabulary import Invalid, ModelKind, RepoType

SORTS = {
    "lastModified": "updated",
    "last_modified": "updated",
    "createdAt": "created",
    "created_at": "created",
    "downloads": "downloads",
    "likes": "likes",
    "trendingScore": "downloads",
    "trending_score": "downloads",
}
MOST = 1000
MOST_TEXTS = 50
MOST_TEXT = 500
_MOST_NUMBER = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Za-z]{2,4})?")


class TagUse(msgspec.Struct, frozen=True):
    """A tag, the group it belongs to (pipeline_tag, library, language, license, dataset, ...), how many use it."""

    tag: str
    kind: str
    count: int


class Listings(Part):
    """Services that list models."""

    def models(
        self,
        *,
        viewer: Actor,
        search: str | Sequence[str] = (),
        author: str | None = None,
        filters: Sequence[str] = (),
        kind: ModelKind | None = None,
        stored: bool = False,
        repo_type: RepoType = RepoType.MODEL,
        gated: bool | None = None,
        parameters: tuple[int | None, int | None] = (None, None),
        ids: Collection[str] | None = None,
        sort: str = "lastModified",
        descending: bool = True,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing:
        """Models that hold every word of `search` and every tag of `filters`, best first by `sort`.

        Args:
            search: texts looked for in ids, titles and tags, without case.
            author: a namespace.
            stored: only repositories, without entries of the starter catalogue.
            filters: whole tags, e.g. `license:mit`.
            gated: only those with a gate, or only those without.
            parameters: the least and the most weights that one may have; None leaves that side open.
            ids: only these.
            cursor: `next_cursor` of the page before.

        Raises:
            Invalid: for an unknown sort key, a cursor not made here, or more words than are looked for at once.
        """
        if sort not in SORTS:
            raise Invalid(f"sort is {sort!r}; expected one of {', '.join(sorted(SORTS))}.", param="sort")
        order = SORTS[sort]
        words = [search] if isinstance(search, str) else list(search)
        words = [w.strip().casefold() for w in words if w.strip()]
        tags = [f.casefold() for f in filters if f]
        _check_bounds("search", words)
        _check_bounds("filter", tags)
        _check_bounds("author", [author or ""])
        limit = max(1, min(limit, MOST))
        after = _read_cursor(cursor, order) if cursor else None
        place = _Place(order, descending, after, limit + 1)
        found: list[Model] = []
        taken: set[str] = set()
        if kind is not ModelKind.API:
            conditions = [*_conditions(viewer, words, author, tags), *_more_conditions(gated, parameters, ids)]
            found, taken = self._rows(conditions, repo_type, place)
        if repo_type is RepoType.MODEL and not stored:
            found += self._starters(words, author, tags, kind, place, taken)
        found.sort(key=lambda m: key_of(m.id))
        found.sort(key=lambda m: getattr(m, order), reverse=descending)
        page = found[:limit]
        return Listing(tuple(page), _cursor(page[-1], order) if len(found) > limit else None)

    def tags(self, *, viewer: Actor, repo_type: RepoType = RepoType.MODEL) -> list[TagUse]:
        """Every tag of the repositories that the viewer sees, those used most first."""
        wanted = sa.select(ModelRow.tags, ModelRow.pipeline_tag, ModelRow.library).where(
            ModelRow.repo_type == repo_type.value, ModelRow.buried == 0
        )
        if not viewer.may_read_private:
            wanted = wanted.where(ModelRow.private.is_(False))
        counted: Counter[str] = Counter()
        tasks: set[str] = set()
        libraries: set[str] = set()
        with self._database.reading() as session:
            for tags, task, library in session.execute(wanted):
                counted.update(tags)
                tasks |= {task} if task else set()
                libraries |= {library} if library else set()
        return [TagUse(tag, _kind_of(tag, tasks, libraries), count) for tag, count in counted.most_common()]

    def _rows(
        self, conditions: Iterable["sa.ColumnElement[bool]"], repo_type: RepoType, place: "_Place"
    ) -> tuple[list[Model], set[str]]:
        column = getattr(ModelRow, place.order)
        # names are ASCII: compared by code point, as Python does, whatever the database's own order of letters is
        folded = ModelRow.folded if self._database.is_sqlite else sa.collate(ModelRow.folded, "C")
        wanted = sa.select(ModelRow).where(ModelRow.repo_type == repo_type.value, ModelRow.buried == 0, *conditions)
        if place.after is not None:
            value, name = place.after
            behind = column < value if place.descending else column > value
            wanted = wanted.where(sa.or_(behind, sa.and_(column == value, folded > name)))
        ordered = wanted.order_by(column.desc() if place.descending else column, folded)
        with self._database.reading() as session:
            rows = list(session.scalars(ordered.limit(place.limit)))
            kept = sa.select(ModelRow.folded).where(
                ModelRow.repo_type == RepoType.MODEL.value, ModelRow.buried == 0, ModelRow.folded.in_(self._starter)
            )
            taken = set(session.scalars(kept)) if self._starter else set()
        return [self._entity(row) for row in rows], taken

    def _starters(
        self,
        words: list[str],
        author: str | None,
        tags: list[str],
        kind: ModelKind | None,
        place: "_Place",
        taken: set[str],
    ) -> list[Model]:
        found = []
        for folded, model in self._starter.items():
            held = {tag.casefold() for tag in model.tags}
            text = "\n".join([folded, model.title.casefold(), *held])
            if (
                folded not in taken
                and (kind is None or model.kind is kind)
                and (not author or model.namespace.casefold() == author.casefold())
                and all(word in text for word in words)
                and all(tag in held for tag in tags)
                and place.is_behind(model)
            ):
                found.append(model)
        return found


class _Place(msgspec.Struct, frozen=True):
    """Where in which order a page begins, and how many are read for it."""

    order: str
    descending: bool
    after: tuple[Any, str] | None
    limit: int

    def is_behind(self, model: Model) -> bool:
        if self.after is None:
            return True
        value, name = getattr(model, self.order), key_of(model.id)
        if value == self.after[0]:
            return name > self.after[1]
        return bool(value < self.after[0]) is self.descending


def _conditions(
    viewer: Actor, words: Iterable[str], author: str | None, tags: Iterable[str]
) -> Iterator["sa.ColumnElement[bool]"]:
    if not viewer.may_read_private:
        yield ModelRow.private.is_(False)
    if author:
        yield sa.func.lower(ModelRow.namespace) == author.casefold()
    for word in words:
        yield ModelRow.searched.contains(word, autoescape=True)
    for tag in tags:
        yield ModelRow.tagged.contains(f"\n{tag}\n", autoescape=True)


def _more_conditions(
    gated: bool | None, parameters: tuple[int | None, int | None], ids: Collection[str] | None
) -> Iterator["sa.ColumnElement[bool]"]:
    if gated is not None:
        yield ModelRow.gated.is_not(None) if gated else ModelRow.gated.is_(None)
    least, most = parameters
    if least is not None:
        yield ModelRow.parameters >= least
    if most is not None:
        yield ModelRow.parameters <= most
    if ids is not None:
        yield ModelRow.folded.in_({key_of(name) for name in ids})


def _kind_of(tag: str, tasks: Collection[str], libraries: Collection[str]) -> str:
    """The group in which a tag is shown."""
    prefix, colon, _ = tag.partition(":")
    if colon:
        return prefix
    if tag in tasks:
        return "pipeline_tag"
    if tag in libraries:
        return "library"
    return "language" if _LANGUAGE.fullmatch(tag) else "other"


def _check_bounds(param: str, texts: Sequence[str]) -> None:
    """Each text is a condition of the query, and databases bound how many of them one may have."""
    if len(texts) > MOST_TEXTS or any(len(text) > MOST_TEXT for text in texts):
        raise Invalid(
            f"{param} has {len(texts)} texts; at most {MOST_TEXTS} of up to {MOST_TEXT} characters are looked for.",
            param=param,
        )


def _cursor(last: Model, order: str) -> str:
    value = getattr(last, order)
    shown = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(msgspec.json.encode([order, shown, key_of(last.id)])).decode()


def _read_cursor(cursor: str, order: str) -> tuple[Any, str]:
    try:
        made_for, value, folded = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[str, Any, str])
        if made_for != order:
            raise ValueError("made for another order")
        if isinstance(getattr(_PROBE, order), datetime):
            value = datetime.fromisoformat(value)
            if value.tzinfo is None:
                raise ValueError("no time zone")
            value = value.astimezone(UTC)
        elif not isinstance(value, int) or abs(value) > _MOST_NUMBER:
            raise ValueError("not a number")
    except (ValueError, TypeError, OverflowError, binascii.Error, msgspec.MsgspecError):
        raise Invalid("The cursor is not one that this server made; begin again without it.", param="cursor") from None
    return value, folded


_PROBE = Model(id="a/b", namespace="a", name="b", created=_EPOCH, updated=_EPOCH)
