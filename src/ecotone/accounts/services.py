"""What accounts do: first administrator, tokens of users, projects with their declared use, keys of projects."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import Actor
from ecotone.accounts.errors import KeyNotFound, ProjectExists, ProjectNotFound
from ecotone.accounts.models import KeyRow, ProfileRow, ProjectRow, TokenRow
from ecotone.accounts.profile import KeptProfile, Profile
from ecotone.accounts.users import (
    actor_behind,
    check_revoking,
    is_living,
    revoke,
    secret_hash,
    token_of,
    token_row,
    user_named,
)
from ecotone.database import Database, utc_now
from ecotone.licences import Use
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, Invalid, Mode, PersonalData, Purpose, Role

HOUSE = "house"
_ORGANISATION = "organisation"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_TERRITORY = re.compile(r"[A-Z]{2}|EU|EEA|worldwide")


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
        if not _TERRITORY.fullmatch(place):
            raise Invalid(
                f"{place!r} is no territory: a country as two capitals (DE), EU, EEA or worldwide is expected.",
                param="territory",
            )


@dataclass(frozen=True, slots=True)
class KeyInfo:
    id: str
    hash: str
    project: str
    created: datetime
    created_by: str
    revoked: datetime | None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    id: str
    user: str
    role: Role
    note: str
    created: datetime
    revoked: datetime | None
    expires: datetime | None = None


class Accounts:
    """Accounts over one database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    # -- first start -------------------------------------------------------------------------------------------------
    def ensure_admin(self) -> Path | None:
        """Make sure an administrator and the house project exist.

        Returns:
            The file that holds the generated token, or None when the token came from the settings or was revoked.
        """
        given = self._settings.admin_token
        file = self._settings.data / "admin-token"
        with self._database.writing() as session:
            if session.get(ProjectRow, HOUSE) is None:
                session.add(_house())
            if given:
                self._keep_admin(session, given, note="from ECOTONE_ADMIN_TOKEN")
                return None
            stored = file.read_text().strip() if file.exists() else ""
            if not stored:
                stored = "ect_" + secrets.token_urlsafe(32)
                _write_private(file, stored + "\n")
            self._keep_admin(session, stored, note="made at first start")
            wanted = sa.select(TokenRow.revoked).where(TokenRow.hash == secret_hash(stored))
            return None if session.scalar(wanted) else file

    @staticmethod
    def _keep_admin(session: Session, token: str, *, note: str) -> None:
        if len(token) < 16:
            raise Invalid("The administrator's token is too short: at least 16 characters are expected.")
        hashed = secret_hash(token)
        if session.scalar(sa.select(TokenRow.id).where(TokenRow.hash == hashed)) is None:
            session.add(token_row(hashed, "admin", Role.ADMIN, note))

    # -- tokens ------------------------------------------------------------------------------------------------------
    def actor_for_token(self, token: str) -> Actor | None:
        """The user or project behind a token or key; None when it is unknown, revoked or expired."""
        hashed = secret_hash(token)
        with self._database.reading() as session:
            row = session.scalar(sa.select(TokenRow).where(TokenRow.hash == hashed))
            if row is not None:
                return actor_behind(row) if is_living(row) else None
            key = session.scalar(sa.select(KeyRow).where(KeyRow.hash == hashed, KeyRow.revoked.is_(None)))
            return None if key is None else Actor("key", f"key {key.id}", None, key.project)

    def actor_of(self, token_id: str) -> Actor | None:
        """The user behind a token's id, for what was signed on the token's behalf; None when it was revoked."""
        with self._database.reading() as session:
            row = session.get(TokenRow, token_id)
        return None if row is None or not is_living(row) else actor_behind(row)

    def create_token(self, user: str, role: Role, note: str = "") -> tuple[TokenInfo, str]:
        """A token for a user; the secret is returned once and stored as a hash."""
        secret = "ect_" + secrets.token_urlsafe(32)
        if not re.fullmatch(r"[\w.-]{1,96}", user):
            raise Invalid("A user's name has 1 to 96 letters, digits, '.', '_' or '-'.", param="user")
        with self._database.writing() as session:
            row = token_row(secret_hash(secret), user, role, note[:200])
            session.add(row)
            return _token_info(row), secret

    def user_named(self, name: str) -> str | None:
        """A user's name as it is written, whatever the case asked for; None when there is no such user."""
        with self._database.reading() as session:
            return user_named(session, name)

    def tokens(self, user: str | None = None) -> list[TokenInfo]:
        """Tokens without their secrets, oldest first; those of one user when a name is given."""
        wanted = sa.select(TokenRow).order_by(TokenRow.created)
        if user is not None:
            wanted = wanted.where(TokenRow.user == user)
        with self._database.reading() as session:
            return [_token_info(row) for row in session.scalars(wanted)]

    def admin_token_hashes(self) -> tuple[str, ...]:
        """Hashes of administrators' tokens that do not expire, which may act as keys of the house project."""
        with self._database.reading() as session:
            wanted = sa.select(TokenRow.hash).where(
                TokenRow.role == Role.ADMIN.value, TokenRow.revoked.is_(None), TokenRow.expires.is_(None)
            )
            return tuple(session.scalars(wanted))

    def token(self, token_id: str, actor: Actor | None = None) -> TokenInfo:
        """One token, without its secret. Raises KeyNotFound, also for one that `actor` may not see."""
        with self._database.reading() as session:
            return _token_info(token_of(session, token_id, actor))

    def revoke_token(self, token_id: str, actor: Actor | None = None) -> None:
        """Revoke a user's token, with those of devices that were let in with it.

        Raises:
            KeyNotFound: when there is none, or it is another user's and `actor` no administrator.
            Forbidden: when it may do more than the one with which `actor` asks.
            Conflict: for the last one of an administrator, as nobody could make another.
        """
        with self._database.writing() as session:
            row = token_of(session, token_id, actor)
            check_revoking(row, actor)
            others = sa.select(TokenRow.id).where(
                TokenRow.role == Role.ADMIN.value,
                TokenRow.revoked.is_(None),
                TokenRow.expires.is_(None),
                TokenRow.id != token_id,
            )
            if row.role == Role.ADMIN.value and session.scalar(others.limit(1)) is None:
                raise Conflict(
                    "This is the last administrator's token; make another one first: "
                    "`ecotone token create NAME --role admin`.",
                    param="id",
                )
            revoke(session, row)

    # -- projects ----------------------------------------------------------------------------------------------------
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
    ) -> Project:
        """A project that declares its use; one made by an administrator may call private models."""
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"{name!r} is no name of a project: 1 to 64 lower-case letters, digits, '.', '_' or '-', beginning and "
                "ending with a letter or digit.",
                param="name",
            )
        check_territory(territory)
        if (users is not None and users < 0) or (revenue is not None and revenue < 0):
            raise Invalid("Users and revenue cannot be negative.", param="users")
        row = ProjectRow(
            name=name,
            mode=mode.value,
            purpose=purpose.value,
            personal_data=personal_data.value,
            users=users,
            revenue=revenue,
            territory=list(territory),
            variables=variables or {},
            may_call_private=actor.is_admin,
            created=utc_now(),
            created_by=actor.name,
        )
        with self._database.writing() as session:
            if session.get(ProjectRow, name) is not None:
                raise ProjectExists(name)
            session.add(row)
        return _project(row)

    def projects(self) -> list[Project]:
        with self._database.reading() as session:
            return [_project(row) for row in session.scalars(sa.select(ProjectRow).order_by(ProjectRow.name))]

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
            row = session.get(ProjectRow, name)
            if row is None:
                raise ProjectNotFound(name)
            session.execute(sa.delete(KeyRow).where(KeyRow.project == name))
            session.delete(row)

    # -- the organisation's profile ----------------------------------------------------------------------------------
    def profile(self) -> KeptProfile:
        """What the organisation told of itself; empty before it did."""
        with self._database.reading() as session:
            row = session.get(ProfileRow, _ORGANISATION)
        return KeptProfile() if row is None else _kept(row)

    def set_profile(self, profile: Profile, *, actor: Actor) -> KeptProfile:
        """Put a profile in the place of the one before. Raises Invalid, naming the field."""
        document = msgspec.to_builtins(profile.checked())
        with self._database.writing() as session:
            row = session.get(ProfileRow, _ORGANISATION)
            if row is None:
                row = ProfileRow(id=_ORGANISATION, profile=document, updated=utc_now(), updated_by=actor.name)
                session.add(row)
            row.profile, row.updated, row.updated_by = document, utc_now(), actor.name
            return _kept(row)

    # -- keys --------------------------------------------------------------------------------------------------------
    def create_key(self, project: str, *, actor: Actor) -> tuple[KeyInfo, str]:
        """A key of a project; the secret is returned once and stored as a hash."""
        secret = "eck_" + secrets.token_urlsafe(32)
        row = KeyRow(
            id=secrets.token_hex(6),
            hash=secret_hash(secret),
            project=project,
            created=utc_now(),
            created_by=actor.name,
            revoked=None,
        )
        with self._database.writing() as session:
            if session.get(ProjectRow, project) is None:
                raise ProjectNotFound(project)
            session.add(row)
        return _key_info(row), secret

    def keys(self, project: str | None = None) -> list[KeyInfo]:
        with self._database.reading() as session:
            wanted = sa.select(KeyRow).order_by(KeyRow.created)
            if project is not None:
                wanted = wanted.where(KeyRow.project == project)
            return [_key_info(row) for row in session.scalars(wanted)]

    def key(self, key_id: str) -> KeyInfo:
        with self._database.reading() as session:
            row = session.get(KeyRow, key_id)
        if row is None:
            raise KeyNotFound(key_id)
        return _key_info(row)

    def revoke_key(self, key_id: str) -> KeyInfo:
        with self._database.writing() as session:
            row = session.get(KeyRow, key_id)
            if row is None:
                raise KeyNotFound(key_id)
            row.revoked = row.revoked or utc_now()
            return _key_info(row)


def _house() -> ProjectRow:
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
    )


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
    )


def _kept(row: ProfileRow) -> KeptProfile:
    profile = msgspec.convert(row.profile, Profile)
    return KeptProfile(profile, row.updated.isoformat(timespec="seconds"), row.updated_by)


def _key_info(row: KeyRow) -> KeyInfo:
    return KeyInfo(row.id, row.hash, row.project, row.created, row.created_by, row.revoked)


def _token_info(row: TokenRow) -> TokenInfo:
    return TokenInfo(row.id, row.user, Role(row.role), row.note, row.created, row.revoked, row.expires)


def _write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read; whole or not at all."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: draft.unlink(missing_ok=True))
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
