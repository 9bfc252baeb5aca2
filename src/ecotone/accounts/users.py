"""Which names are those of users. A user is whoever has or had a token; nothing else is kept of them."""

import hashlib
import secrets
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import Actor
from ecotone.accounts.errors import KeyNotFound
from ecotone.accounts.models import TokenRow
from ecotone.database import utc_now
from ecotone.vocabulary import Forbidden, Role

_RANK = {Role.READ: 0, Role.WRITE: 1, Role.ADMIN: 2}


def secret_hash(secret: str) -> str:
    """SHA-256 hex of a token or key: 32 random bytes need no slow hash, and look-ups stay exact."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_user(session: Session, name: str) -> bool:
    """Whether somebody of this name, whatever its case, has or had a token."""
    return user_named(session, name) is not None


def user_named(session: Session, name: str) -> str | None:
    """The name as the user's first token has it; None when nobody of this name has or had a token."""
    wanted = sa.select(TokenRow.user).where(sa.func.lower(TokenRow.user) == name.lower()).order_by(TokenRow.created)
    return session.scalar(wanted.limit(1))


def user_today(session: Session, name: str) -> Actor | None:
    """A user with the most that one of their tokens may do today; None when all are revoked or expired."""
    rows = [row for row in session.scalars(sa.select(TokenRow).where(TokenRow.user == name)) if is_living(row)]
    if not rows:
        return None
    return Actor("user", name, max((Role(row.role) for row in rows), key=_RANK.__getitem__))


def bears(actor: Actor, name: str) -> bool:
    """Whether a name, whatever its case, is that of the caller. Letters beyond ASCII never fold onto one of it."""
    return actor.name.isascii() and actor.name.lower() == name.lower()


def roles_up_to(role: Role) -> tuple[Role, ...]:
    """The roles that somebody with a role may hand on, the least first."""
    return tuple(sorted((r for r in Role if _RANK[r] <= _RANK[role]), key=_RANK.__getitem__))


def is_living(row: TokenRow) -> bool:
    """Whether a token is neither revoked nor expired."""
    return row.revoked is None and (row.expires is None or row.expires > utc_now())


def actor_behind(row: TokenRow) -> Actor:
    return Actor("user", row.user, Role(row.role), token=row.id)


def token_of(session: Session, token_id: str, actor: Actor | None) -> TokenRow:
    """A token of the caller's, any for an administrator or for None. Raises KeyNotFound for everybody else's."""
    row = session.get(TokenRow, token_id)
    if row is None or not (actor is None or actor.is_admin or row.user == actor.name):
        raise KeyNotFound(token_id)
    return row


def check_revoking(row: TokenRow, actor: Actor | None) -> None:
    """Raises Forbidden when the caller's token may do less than the one to revoke: a stolen reader ends no writer."""
    if actor is not None and (actor.role is None or _RANK[Role(row.role)] > _RANK[actor.role]):
        raise Forbidden(
            f"The token {row.id} has the role {row.role}, yours only {actor.role}; revoke it with one of its role, or "
            "ask an administrator."
        )


def token_row(
    hashed: str,
    user: str,
    role: Role,
    note: str,
    expires: datetime | None = None,
    allowed_with: str | None = None,
) -> TokenRow:
    """A new token; its secret is known to whoever made the hash."""
    return TokenRow(
        id=secrets.token_hex(6),
        hash=hashed,
        user=user,
        role=role.value,
        note=note,
        created=utc_now(),
        revoked=None,
        expires=expires,
        allowed_with=allowed_with,
    )


def revoke(session: Session, row: TokenRow) -> None:
    """End a token, and those that devices got with it: whoever stole it may have let devices of theirs in."""
    now, ended = utc_now(), [row.id]
    row.revoked = row.revoked or now
    let_in = sa.select(TokenRow).where(TokenRow.revoked.is_(None))
    # all anew each time: a device that was renewing its token, and was waited for, has another one now
    while devices := session.scalars(let_in.where(TokenRow.allowed_with.in_(ended))).all():
        for device in devices:
            device.revoked = now
        ended += [device.id for device in devices]
