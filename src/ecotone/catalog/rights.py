"""Who may change what: the rules of namespaces, and the rights of a repository's author.

A namespace of the starter catalogue is the administrators'. One that has the name of a user is that user's. All others
are common to whoever may write, but what cannot be taken back easily (visibility, moving, deleting) is left to the
author of a repository.
"""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Actor, bears, is_user
from ecotone.catalog.entities import Model
from ecotone.catalog.errors import ReservedId
from ecotone.catalog.models import ModelRow
from ecotone.catalog.part import Part
from ecotone.vocabulary import Forbidden


class Rights(Part):
    """Checks that raise; other parts of the catalogue make them inside their transactions."""

    def check_writer(self, model: Model, actor: Actor) -> None:
        """Whether the caller may commit to a repository, upload for it, and set its branches and tags.

        Raises:
            Forbidden: when the token may only read, or the namespace is another user's; the message says whom to ask.
            ReservedId: when the namespace is the starter catalogue's.
        """
        with self._database.reading() as session:
            self._check_namespace(session, model.namespace, actor)

    def check_author(self, model: Model, actor: Actor) -> None:
        """Whether the caller may do to a repository what cannot be taken back: rewrite history, delete for good.

        Raises:
            Forbidden: naming whom to ask.
            ModelNotFound: when it was deleted meanwhile.
        """
        with self._database.reading() as session:
            self._check_author(session, self._locked(session, model), actor)

    def check_new(self, namespace: str, actor: Actor) -> None:
        """Whether the caller may make a repository in a namespace. Raises as `check_writer` does."""
        with self._database.reading() as session:
            self._check_new(session, namespace, actor)

    def _check_new(self, session: Session, namespace: str, actor: Actor) -> None:
        self._check_namespace(session, namespace, actor)
        if actor.is_admin or bears(actor, namespace):
            return
        known = sa.select(ModelRow.namespace).where(
            sa.func.lower(ModelRow.namespace) == namespace.lower(), ModelRow.buried == 0
        )
        if session.scalars(known.limit(1)).first() is None:
            raise Forbidden(
                f"The namespace {namespace!r} does not exist yet; an administrator's first upload creates it."
            )

    def _check_namespace(self, session: Session, namespace: str, actor: Actor) -> None:
        if not actor.may_write:
            raise Forbidden("This token may only read; one that may write is needed.")
        if actor.is_admin:
            return
        if any(known.partition("/")[0] == namespace.casefold() for known in self._starter):
            raise ReservedId(
                f"The namespace {namespace!r} is reserved by the starter catalogue; only an administrator may write in "
                "it, so ask one, or use another namespace."
            )
        if not bears(actor, namespace) and is_user(session, namespace):
            raise Forbidden(
                f"The namespace {namespace!r} belongs to the user of that name; ask them or an administrator, or use "
                f"your own, {actor.name!r}."
            )

    def _check_author(self, session: Session, row: ModelRow, actor: Actor) -> None:
        """Whether the caller may change a repository's visibility, gate or history, move it or delete it."""
        self._check_namespace(session, row.namespace, actor)
        if not (actor.is_admin or bears(actor, row.namespace) or actor.name == row.created_by):
            raise Forbidden(
                f"{row.namespace}/{row.name} was made by {row.created_by!r}; only they or an administrator may change "
                "who sees it, move it, delete it or rewrite its history. Ask one of them."
            )
