"""A run as it is queued: everything that must survive a restart of the server, as JSON values."""

from typing import Any

import msgspec

from ecotone.accounts import Actor
from ecotone.tuning.recipes import Recipe
from ecotone.vocabulary import Role


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do and for whom. `revision` is the parent's commit; `rows` names the stored training data,
    `dataset` where in the hub it comes from."""

    model: str
    revision: str
    to: str
    recipe: Recipe
    rows_file: str
    rows: int
    rows_sha256: str
    rows_bytes: int
    actor: dict[str, Any]
    project: str | None = None
    dataset: str | None = None
    dataset_revision: str | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @property
    def asked_by(self) -> Actor:
        """Who asked, with the rights of that moment."""
        role = self.actor.get("role")
        return Actor(
            kind=self.actor["kind"],
            name=self.actor["name"],
            role=Role(role) if role else None,
            project=self.actor.get("project"),
        )


def told(actor: Actor) -> dict[str, Any]:
    """An actor as JSON."""
    return {"kind": actor.kind, "name": actor.name, "role": actor.role, "project": actor.project}
