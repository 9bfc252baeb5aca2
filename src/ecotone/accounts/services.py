"""What accounts do: first administrator, tokens of users, the organisation's profile; the rest beside it."""

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import Actor
from ecotone.accounts.keys import Keys, key_behind
from ecotone.accounts.models import ProfileRow, ProjectRow, TokenRow
from ecotone.accounts.profile import KeptProfile, Profile
from ecotone.accounts.projects import HOUSE, USER, Projects, house_row
from ecotone.accounts.sessions import Sessions
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
from ecotone.database import Database, alone, utc_now
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, Invalid, Role

_ORGANISATION = "organisation"


@dataclass(frozen=True, slots=True)
class TokenInfo:
    id: str
    user: str
    role: Role
    note: str
    created: datetime
    revoked: datetime | None
    expires: datetime | None = None


class Accounts(Projects, Keys, Sessions):
    """Accounts over one database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._on_removed: list[Callable[[Session, str], None]] = []

    # -- first start -------------------------------------------------------------------------------------------------
    def ensure_admin(self) -> Path | None:
        """Make sure an administrator and the house project exist.

        Returns:
            The file that holds the generated token, or None when the token came from the settings or was revoked.
        """
        given = self._settings.admin_token
        file = self._settings.data / "admin-token"
        with self._database.writing() as session:
            alone(session, "projects")
            if session.get(ProjectRow, HOUSE) is None:
                session.add(house_row())
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
            return key_behind(session, hashed)

    def actor_of(self, token_id: str) -> Actor | None:
        """The user behind a token's id, for what was signed on the token's behalf; None when it was revoked."""
        with self._database.reading() as session:
            row = session.get(TokenRow, token_id)
        return None if row is None or not is_living(row) else actor_behind(row)

    def create_token(self, user: str, role: Role, note: str = "") -> tuple[TokenInfo, str]:
        """A token for a user; the secret is returned once and stored as a hash."""
        secret = "ect_" + secrets.token_urlsafe(32)
        if not USER.fullmatch(user):
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
            lasting = sa.select(TokenRow.id).where(
                TokenRow.role == Role.ADMIN.value, TokenRow.revoked.is_(None), TokenRow.expires.is_(None)
            )
            lasting = lasting.order_by(TokenRow.id).with_for_update()  # two could end each other's in one moment
            if row.role == Role.ADMIN.value and not set(session.scalars(lasting)) - {token_id}:
                raise Conflict(
                    "This is the last administrator's token; make another one first: "
                    "`ecotone token create NAME --role admin`.",
                    param="id",
                )
            revoke(session, row)

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
            alone(session, "profile")
            row = session.get(ProfileRow, _ORGANISATION)
            if row is None:
                row = ProfileRow(id=_ORGANISATION, profile=document, updated=utc_now(), updated_by=actor.name)
                session.add(row)
            row.profile, row.updated, row.updated_by = document, utc_now(), actor.name
            return _kept(row)


def _kept(row: ProfileRow) -> KeptProfile:
    profile = msgspec.convert(row.profile, Profile)
    return KeptProfile(profile, row.updated.isoformat(timespec="seconds"), row.updated_by)


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
