"""Projects: who uses models inside the organisation, for what, and within which bounds."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import Actor
from ecotone.accounts.errors import ProjectExists, ProjectNotFound
from ecotone.accounts.models import KeyRow, ProjectRow
from ecotone.accounts.patterns import checked_models, checked_networks
from ecotone.accounts.rights import standing
from ecotone.database import HELD, Database, alone, utc_now
from ecotone.licences import Use
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Mode, PersonalData, Purpose

HOUSE = "house"
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
TERRITORY = re.compile(r"[A-Z]{2}|EU|EEA|worldwide")
USER = re.compile(r"[\w.-]{1,96}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
MOST_NAMES = 50
MOST_DAYS = 3650


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds a project's keys and texts.

    `owners` are users who may keep its keys. `models` are patterns and `networks` addresses to which every key of it is
    held; empty is any. `tags` stand on each of its requests. `scan`: its texts are looked through for what is
    sensitive. `keep_days`: how long prompts and answers are kept, 0 for not at all.
    """

    owners: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    scan: bool = True
    keep_days: int = 0

    def checked(self) -> "Bounds":
        """The same in its usual writing. Raises Invalid, naming the field."""
        for owner in self.owners:
            if not USER.fullmatch(owner):
                raise Invalid(f"{owner!r} is no name of a user: letters, digits, '.', '_' or '-'.", param="owners")
        if len(self.owners) > MOST_NAMES:
            raise Invalid(f"At most {MOST_NAMES} owners can be named.", param="owners")
        if not 0 <= self.keep_days <= MOST_DAYS:
            raise Invalid(f"Texts are kept for 0 to {MOST_DAYS} days; got {self.keep_days}.", param="keep_days")
        return msgspec.structs.replace(
            self,
            owners=tuple(dict.fromkeys(self.owners)),
            models=checked_models(self.models),
            networks=checked_networks(self.networks),
            tags=checked_tags(self.tags),
        )


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags, each once. Raises Invalid."""
    found = tuple(dict.fromkeys(tags))
    if len(found) > MOST_NAMES:
        raise Invalid(f"At most {MOST_NAMES} tags can be set.", param="tags")
    for tag in found:
        if not TAG.fullmatch(tag):
            raise Invalid(f"{tag!r} is no tag: 1 to 64 letters, digits, '.', '_', ':' or '-'.", param="tags")
    return found


@dataclass(frozen=True, slots=True)
class Project:
    """A consumer inside the organisation, with the use that it declares."""

    name: str
    mode: Mode
    purpose: Purpose
    personal_data: PersonalData
    users: int | None
    revenue: float | None
    territory: tuple[str, ...]
    variables: dict[str, Any]
    may_call_private: bool
    created: datetime
    created_by: str
    bounds: Bounds
    scan_reason: str = ""

    @property
    def is_house(self) -> bool:
        return self.name == HOUSE

    def use(self, *, mode: Mode | None = None) -> Use:
        """The use to judge: variables named as in the knowledge base (monthly users, USD a year, ISO countries)."""
        return Use(
            mode=mode or self.mode,
            purpose=self.purpose,
            variables=use_variables(self.users, self.revenue, self.territory, self.variables),
        )


def use_variables(
    users: int | None, revenue: float | None, territory: tuple[str, ...] | list[str], others: dict[str, Any]
) -> dict[str, Any]:
    """Variables of a use. `users` are today's monthly users of organisation and product, never of a release month."""
    found: dict[str, Any] = {}
    if users is not None:
        found |= {"org.mau": users, "product.mau": users}
    if revenue is not None:
        found["org.annual_revenue"] = revenue
    if territory:
        found["territory"] = list(territory)
    return found | others


def check_territory(territory: Iterable[str]) -> None:
    """Raises Invalid for what is neither a country, a group of countries nor everywhere."""
    for place in territory:
        if not TERRITORY.fullmatch(place):
            raise Invalid(
                f"{place!r} is no territory: a country as two capitals (DE), EU, EEA or worldwide is expected.",
                param="territory",
            )


class Projects:
    """The projects of one database."""

    _database: Database
    _on_removed: list[Callable[[Session, str], None]]

    def on_project_removed(self, told: Callable[[Session, str], None]) -> None:
        """Have a function called with the name of each project that is removed, in the transaction that does it."""
        self._on_removed.append(told)

    def create_project(
        self,
        name: str,
        *,
        mode: Mode,
        purpose: Purpose,
        actor: Actor,
        personal_data: PersonalData = PersonalData.LOCAL_ONLY,
        users: int | None = None,
        revenue: float | None = None,
        territory: tuple[str, ...] = (),
        variables: dict[str, Any] | None = None,
        bounds: Bounds | None = None,
        scan_reason: str = "",
    ) -> Project:
        """A project that declares its use; one made by an administrator may call private models.

        Raises:
            Invalid: also when its texts shall not be looked through and nothing says why.
            Forbidden: when bounds are set by one who is no administrator.
            ProjectExists.
        """
        if not NAME.fullmatch(name):
            raise Invalid(
                f"{name!r} is no name of a project: 1 to 64 lower-case letters, digits, '.', '_' or '-', beginning and "
                "ending with a letter or digit.",
                param="name",
            )
        use = _declared(mode, purpose, personal_data, users, revenue, territory, variables)
        kept = self._bounds(bounds, actor)
        _check_reason(kept["scan"], True, scan_reason)
        use["scan_reason"] = "" if kept["scan"] else scan_reason.strip()
        row = ProjectRow(name=name, may_call_private=actor.is_admin, created=utc_now(), created_by=actor.name)
        _fill(row, use | kept)
        with self._database.writing() as session:
            alone(session, "projects")
            if session.get(ProjectRow, name) is not None:
                raise ProjectExists(name)
            session.add(row)
        return _project(row)

    def set_project(
        self,
        name: str,
        *,
        mode: Mode,
        purpose: Purpose,
        actor: Actor,
        personal_data: PersonalData = PersonalData.LOCAL_ONLY,
        users: int | None = None,
        revenue: float | None = None,
        territory: tuple[str, ...] = (),
        variables: dict[str, Any] | None = None,
        bounds: Bounds | None = None,
        scan_reason: str = "",
    ) -> Project:
        """Put use and bounds in the place of those that a project has.

        Raises:
            Forbidden: when the caller is no administrator.
            Invalid: also when its texts shall no longer be looked through and nothing says why.
            ProjectNotFound.
        """
        if not actor.is_admin:
            raise Forbidden("Only administrators change projects.")
        use = _declared(mode, purpose, personal_data, users, revenue, territory, variables)
        kept = self._bounds(bounds, actor)
        with self._database.writing() as session:
            row = session.get(ProjectRow, name, with_for_update=HELD)
            if row is None:
                raise ProjectNotFound(name)
            _check_reason(kept["scan"], row.scan, scan_reason)
            use["scan_reason"] = "" if kept["scan"] else scan_reason.strip() or row.scan_reason
            _fill(row, use | kept)
            return _project(row)

    @staticmethod
    def _bounds(bounds: Bounds | None, actor: Actor) -> dict[str, Any]:
        found = (bounds or Bounds()).checked()
        if found != Bounds() and not actor.is_admin:
            raise Forbidden("Only administrators set a project's owners and bounds.")
        return {n: list(v) if isinstance(v, tuple) else v for n, v in msgspec.structs.asdict(found).items()}

    def projects(self) -> list[Project]:
        with self._database.reading() as session:
            return [_project(row) for row in session.scalars(sa.select(ProjectRow).order_by(ProjectRow.name))]

    def owned(self, actor: Actor) -> list[str]:
        """Names of the projects whose keys somebody may keep."""
        return [p.name for p in self.projects() if standing(actor, p.bounds.owners) is not None]

    def project(self, name: str) -> Project:
        with self._database.reading() as session:
            row = session.get(ProjectRow, name)
        if row is None:
            raise ProjectNotFound(name)
        return _project(row)

    def remove_project(self, name: str) -> None:
        """Remove a project; its keys stop working with it."""
        if name == HOUSE:
            raise Conflict("The house project stands for the organisation itself and cannot be removed.", param="name")
        with self._database.writing() as session:
            row = session.get(ProjectRow, name, with_for_update=True)
            if row is None:
                raise ProjectNotFound(name)
            for told in self._on_removed:
                told(session, name)
            session.execute(sa.delete(KeyRow).where(KeyRow.project == name))
            session.delete(row)


def _declared(
    mode: Mode,
    purpose: Purpose,
    personal_data: PersonalData,
    users: int | None,
    revenue: float | None,
    territory: tuple[str, ...],
    variables: dict[str, Any] | None,
) -> dict[str, Any]:
    check_territory(territory)
    if (users is not None and users < 0) or (revenue is not None and revenue < 0):
        raise Invalid("Users and revenue cannot be negative.", param="users")
    return {
        "mode": mode.value,
        "purpose": purpose.value,
        "personal_data": personal_data.value,
        "users": users,
        "revenue": revenue,
        "territory": list(territory),
        "variables": variables or {},
    }


def _check_reason(scan: bool, scanned: bool, reason: str) -> None:
    if scanned and not scan and not reason.strip():
        raise Invalid(
            "Say why the texts of this project need not be looked through; the reason goes into the ledger.",
            param="scan_reason",
        )


def _fill(row: ProjectRow, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)


def _project(row: ProjectRow) -> Project:
    return Project(
        name=row.name,
        mode=Mode(row.mode),
        purpose=Purpose(row.purpose),
        personal_data=PersonalData(row.personal_data),
        users=row.users,
        revenue=row.revenue,
        territory=tuple(row.territory),
        variables=dict(row.variables),
        may_call_private=row.may_call_private,
        created=row.created,
        created_by=row.created_by,
        bounds=Bounds(
            owners=tuple(row.owners),
            models=tuple(row.models),
            networks=tuple(row.networks),
            tags=tuple(row.tags),
            scan=row.scan,
            keep_days=row.keep_days,
        ),
        scan_reason=row.scan_reason,
    )


def house_row() -> ProjectRow:
    return ProjectRow(
        name=HOUSE,
        mode=Mode.RUN.value,
        purpose=Purpose.INTERNAL_COMMERCIAL.value,
        personal_data=PersonalData.LOCAL_ONLY.value,
        users=None,
        revenue=None,
        territory=[],
        variables={},
        may_call_private=True,
        created=utc_now(),
        created_by="ecotone",
        owners=[],
        models=[],
        networks=[],
        tags=[],
        scan=True,
        scan_reason="",
        keep_days=0,
    )
