"""Which names are those of users. A user is whoever has or had a token; nothing else is kept of them."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import Actor
from ecotone.accounts.models import TokenRow


def is_user(session: Session, name: str) -> bool:
    """Whether somebody of this name, whatever its case, has or had a token."""
    wanted = sa.select(TokenRow.id).where(sa.func.lower(TokenRow.user) == name.lower())
    return session.scalar(wanted.limit(1)) is not None


def bears(actor: Actor, name: str) -> bool:
    """Whether a name, whatever its case, is that of the caller. Letters beyond ASCII never fold onto one of it."""
    return actor.name.isascii() and actor.name.lower() == name.lower()
