"""Who may make and change keys, and which of their fields. Asked where a key is changed, and again where it is used.

An administrator does everything. An owner of a project, named by an administrator, makes keys of it within its bounds,
and narrows, rotates and ends those that they answer for. Nothing that an owner does makes an existing key wider.
"""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import SYSTEM, Actor
from ecotone.accounts.models import ProjectRow, TokenRow
from ecotone.accounts.users import bears
from ecotone.vocabulary import Forbidden, Role

ADMINISTRATOR, OWNER = "administrator", "owner"
KEY_FIELDS = {
    ADMINISTRATOR: frozenset({"note", "expires", "models", "networks", "tags"}),
    OWNER: frozenset({"note", "expires", "models", "networks"}),
}
"""The fields of a key that each may set; a field that is not named here is nobody's."""


def standing(actor: Actor, owners: Iterable[str]) -> str | None:
    """As what somebody acts on keys of a project with these owners; None when they may not."""
    if actor.kind != "user":
        return None
    if actor.is_admin:
        return ADMINISTRATOR
    owned = actor.may_write and actor.name != SYSTEM.name and any(bears(actor, owner) for owner in owners)
    return OWNER if owned else None


def check_fields(role: str, fields: Iterable[str]) -> None:
    """Raises Forbidden for a field that one of this role may not set."""
    others = sorted(set(fields) - KEY_FIELDS.get(role, frozenset()))
    if others:
        raise Forbidden(f"An {role} may not set {', '.join(others)} of a key; an administrator may.", param=others[0])


def vouchers(session: Session) -> dict[str, Role]:
    """The most that each user may do by a token that was not revoked. That a login ended with time is no demotion."""
    found: dict[str, Role] = {SYSTEM.name: Role.ADMIN}
    rank = {Role.READ: 0, Role.WRITE: 1, Role.ADMIN: 2}
    wanted = sa.select(TokenRow.user, TokenRow.role).where(TokenRow.revoked.is_(None)).distinct()
    for user, word in session.execute(wanted):
        role = Role(word)
        if user not in found or rank[role] > rank[found[user]]:
            found[user] = role
    return found


def vouches(name: str, project: ProjectRow, roles: dict[str, Role]) -> bool:
    """Whether who answers for a key may still make keys of its project."""
    return standing(Actor("user", name, roles.get(name)), project.owners) is not None or name == SYSTEM.name
