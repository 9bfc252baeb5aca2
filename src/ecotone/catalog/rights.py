"""Who may change what: the rules of namespaces, and the rights of a repository's author.

A namespace of the starter catalogue is the administrators'. One that has the name of a user is that user's. All others
are common to whoever may write, but what cannot be taken back easily (visibility, moving, deleting) is left to the
author of a repository.

The files of a gated repository, and the hashes that stand for them, are for whoever may write there and for users whose
request for access was accepted; a gate is asked at each use, so that a request that is taken back counts at once.
"""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Actor, bears, is_user, user_named
from ecotone.catalog.entities import Model
from ecotone.catalog.errors import GatedRepo, NotGated, ReservedId
from ecotone.catalog.models import AccessRequestRow, ModelRow
from ecotone.catalog.part import Part
from ecotone.vocabulary import EcotoneError, Forbidden, RepoType, Unauthenticated

PAGES = {RepoType.MODEL: "", RepoType.DATASET: "datasets/", RepoType.SPACE: "spaces/"}


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
            self._check_author(session, self._alive(session, model), actor)

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
                f"The namespace {namespace!r} does not exist yet; an administrator's first upload creates it. Ask one, "
                f"or use your own, {actor.name!r}."
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

    def owners(self, model: Model) -> tuple[str, ...]:
        """The users who, beside administrators, decide on a repository's gate; none in the starter's namespaces."""
        if any(known.partition("/")[0] == model.namespace.casefold() for known in self._starter):
            return ()
        with self._database.reading() as session:
            user = user_named(session, model.namespace)
            author = sa.select(ModelRow.created_by).where(ModelRow.key == model.key)
            found = session.scalar(author) if user is None else user
        return (found,) if found else ()

    # -- gates -------------------------------------------------------------------------------------------------------
    def passes_gate(self, model: Model, actor: Actor) -> bool:
        """Whether the caller may have a repository's bytes, and the hashes that stand for them."""
        if model.gated is None or actor.is_admin:
            return True
        with self._database.reading() as session:
            return self._behind_gate(session, model, actor)

    def check_gate(self, model: Model, actor: Actor) -> None:
        """The same as a check.

        Raises:
            GatedRepo: naming the page on which to ask for access, or what became of the request.
        """
        if self.passes_gate(model, actor):
            return
        page = self.access_page(model)
        if actor.kind != "user":
            raise GatedRepo(
                f"Access to {model.id} is gated: log in (`hf auth login`) as a user, and ask for access on {page}"
            )
        with self._database.reading() as session:
            asked = self._request_of(session, model, actor.name)
        if asked is not None and asked.status == "rejected":
            why = f" ({asked.reason})" if asked.reason else ""
            raise GatedRepo(f"Your request for {model.id} was rejected{why}; its owners are named on {page}")
        if asked is not None:
            raise GatedRepo(f"Your request for {model.id} waits for its owners; they are named on {page}")
        at_once = "it is granted at once" if model.gated == "auto" else "its owners decide"
        raise GatedRepo(f"Access to {model.id} is gated: ask for it on {page} ({at_once}), then try again.")

    def access_page(self, model: Model) -> str:
        """The address of the page on which access to a gated repository is asked for and given."""
        return f"{self._settings.base_url}/{PAGES[model.repo_type]}{model.id}/access"

    def _behind_gate(self, session: Session, model: Model, actor: Actor) -> bool:
        if actor.kind != "user":
            return False
        try:
            self._check_namespace(session, model.namespace, actor)
        except EcotoneError:
            asked = self._request_of(session, model, actor.name)
            return asked is not None and asked.status == "accepted"
        return True

    def _request_of(self, session: Session, model: Model, user: str) -> AccessRequestRow | None:
        wanted = sa.select(AccessRequestRow).where(
            AccessRequestRow.model_key == model.key, AccessRequestRow.user == user
        )
        return session.scalar(wanted)

    def check_gatekeeper(self, model: Model, actor: Actor) -> None:
        """Whether the caller may see who asked for access, and answer: whoever may open the gate itself.

        Raises:
            Unauthenticated, Forbidden: when they may not.
            NotGated: when there is no gate.
        """
        if actor.kind != "user":
            raise Unauthenticated("This needs a token: log in with `hf auth login`, or set HF_TOKEN.")
        with self._database.reading() as session:
            self._check_author(session, self._alive(session, model), actor)
        if model.gated is None:
            raise NotGated(model.id)
