"""Routes: public names on the gateway with candidate models in order."""

import re

import msgspec
import sqlalchemy as sa

from ecotone.accounts import Actor
from ecotone.database import Database, utc_now
from ecotone.gateway.models import RouteRow
from ecotone.vocabulary import Invalid, NotFound

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_TARGET = re.compile(r"[\w.-]{1,96}/[\w./:@-]{1,200}")
_MOST = 20


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The first of `to` that the decision and the data class allow and that works answers."""

    name: str
    to: tuple[str, ...]
    created: str
    created_by: str


class RouteNotFound(NotFound):
    code = "route_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no route {name!r}; `ecotone route list` shows all.", param="name")


class Routes:
    """The routes of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, name: str, to: tuple[str, ...], *, actor: Actor) -> Route:
        """Make or replace a route. Raises Invalid for a bad name or no candidates."""
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no name of a route: letters, digits, '.', '_' or '-', no slash.", param="name")
        if not 1 <= len(to) <= _MOST or len(set(to)) != len(to):
            raise Invalid(f"A route has 1 to {_MOST} different candidates.", param="to")
        for target in to:
            if not _TARGET.fullmatch(target):
                raise Invalid(f"{target!r} is no model: namespace/name, or BACKEND/model.", param="to")
        row = RouteRow(name=name, targets=list(to), created=utc_now(), created_by=actor.name)
        with self._database.writing() as session:
            session.merge(row)
        return _route(row)

    def list(self) -> list[Route]:
        with self._database.reading() as session:
            return [_route(row) for row in session.scalars(sa.select(RouteRow).order_by(RouteRow.name))]

    def get(self, name: str) -> Route:
        with self._database.reading() as session:
            row = session.get(RouteRow, name)
        if row is None:
            raise RouteNotFound(name)
        return _route(row)

    def remove(self, name: str) -> None:
        with self._database.writing() as session:
            if not session.execute(sa.delete(RouteRow).where(RouteRow.name == name)).rowcount:  # type: ignore[attr-defined]
                raise RouteNotFound(name)


def _route(row: RouteRow) -> Route:
    return Route(
        name=row.name,
        to=tuple(row.targets),
        created=row.created.isoformat(timespec="seconds"),
        created_by=row.created_by,
    )
