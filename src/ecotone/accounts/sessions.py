"""Sessions of browsers: opaque secrets of their own, kept as hashes, each opened with a user's token.

A session says nothing about the token, ends with it, and ends for good when its user logs out, wherever a copy of its
secret may be.
"""

import secrets
from datetime import timedelta

import sqlalchemy as sa

from ecotone.accounts.actors import Actor
from ecotone.accounts.models import SessionRow, TokenRow
from ecotone.accounts.users import actor_behind, is_living, secret_hash
from ecotone.database import Database, sweep, utc_now


class Sessions:
    """The sessions of one database."""

    _database: Database

    def open_session(self, token: str, *, lasting: timedelta) -> str | None:
        """A session for a user's token, by its secret; None for a token that is unknown, revoked or expired."""
        secret, now = secrets.token_urlsafe(32), utc_now()
        with self._database.writing() as session:
            row = session.scalar(sa.select(TokenRow).where(TokenRow.hash == secret_hash(token)))
            if row is None or not is_living(row):
                return None
            sweep(session, SessionRow, SessionRow.expires <= now)
            session.add(SessionRow(hash=secret_hash(secret), token_id=row.id, created=now, expires=now + lasting))
        return secret

    def actor_of_session(self, secret: str) -> Actor | None:
        """The user behind a session; None when it is unknown, ended or expired, or its token is."""
        found = (
            sa.select(TokenRow)
            .join(SessionRow, SessionRow.token_id == TokenRow.id)
            .where(SessionRow.hash == secret_hash(secret), SessionRow.expires > utc_now())
        )
        with self._database.reading() as session:
            row = session.scalar(found)
            return actor_behind(row) if row is not None and is_living(row) else None

    def end_sessions(self, secret: str) -> None:
        """End a session, and all others that were opened with the same token."""
        with self._database.writing() as session:
            row = session.get(SessionRow, secret_hash(secret))
            if row is not None:
                session.execute(sa.delete(SessionRow).where(SessionRow.token_id == row.token_id))
