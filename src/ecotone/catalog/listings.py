"""Search and listing: tables and starter catalogue as one ordered list, in pages."""

import base64
import binascii
from collections.abc import Iterable, Sequence
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
        sort: str = "lastModified",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing:
        """Models that hold every word of `search` and every tag of `filters`, best first by `sort`.

        Args:
            search: texts looked for in ids, titles and tags, without case.
            author: a namespace.
            stored: only repositories, without entries of the starter catalogue.
            filters: whole tags, e.g. `license:mit`.
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
        found: list[Model] = []
        taken: set[str] = set()
        if kind is not ModelKind.API:
            found, taken = self._rows(viewer, words, author, tags, repo_type, order, limit + 1, after)
        if repo_type is RepoType.MODEL and not stored:
            found += self._starters(words, author, tags, kind, order, after, taken)
        found.sort(key=lambda m: key_of(m.id))
        found.sort(key=lambda m: getattr(m, order), reverse=True)
        page = found[:limit]
        return Listing(tuple(page), _cursor(page[-1], order) if len(found) > limit else None)

    def _rows(
        self,
        viewer: Actor,
        words: Iterable[str],
        author: str | None,
        tags: Iterable[str],
        repo_type: RepoType,
        order: str,
        limit: int,
        after: tuple[Any, str] | None,
    ) -> tuple[list[Model], set[str]]:
        column = getattr(ModelRow, order)
        wanted = sa.select(ModelRow).where(ModelRow.repo_type == repo_type.value, ModelRow.buried == 0)
        if not viewer.may_read_private:
            wanted = wanted.where(ModelRow.private.is_(False))
        if author:
            wanted = wanted.where(sa.func.lower(ModelRow.namespace) == author.casefold())
        for word in words:
            wanted = wanted.where(ModelRow.searched.contains(word, autoescape=True))
        for tag in tags:
            wanted = wanted.where(ModelRow.tagged.contains(f"\n{tag}\n", autoescape=True))
        if after is not None:
            value, folded = after
            wanted = wanted.where(sa.or_(column < value, sa.and_(column == value, ModelRow.folded > folded)))
        with self._database.reading() as session:
            rows = list(session.scalars(wanted.order_by(column.desc(), ModelRow.folded).limit(limit)))
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
        order: str,
        after: tuple[Any, str] | None,
        taken: set[str],
    ) -> list[Model]:
        found = []
        for folded, model in self._starter.items():
            held = {tag.casefold() for tag in model.tags}
            text = "\n".join([folded, model.title.casefold(), *held])
            place = (getattr(model, order), folded)
            if (
                folded not in taken
                and (kind is None or model.kind is kind)
                and (not author or model.namespace.casefold() == author.casefold())
                and all(word in text for word in words)
                and all(tag in held for tag in tags)
                and (after is None or place[0] < after[0] or (place[0] == after[0] and folded > after[1]))
            ):
                found.append(model)
        return found


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
