"""Requests for access to gated repositories: asking, answering, granting. Who passes is a rule of `rights`."""

import secrets
from datetime import datetime
from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ecotone.accounts import Actor, user_named
from ecotone.catalog.entities import Model
from ecotone.catalog.errors import AccessRequestNotFound, NotGated
from ecotone.catalog.models import AccessRequestRow
from ecotone.catalog.rights import Rights
from ecotone.database import utc_now
from ecotone.vocabulary import Conflict, Forbidden, Invalid, NotFound, Unauthenticated

Status = Literal["pending", "accepted", "rejected"]
STATUSES: tuple[Status, ...] = ("pending", "accepted", "rejected")
MOST_REASON = 500
MOST_PENDING = 10_000


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`number` orders requests; `reason` is why one was rejected."""

    id: str
    user: str
    status: Status
    asked: datetime
    handled: datetime | None = None
    handled_by: str | None = None
    reason: str = ""
    number: int = 0


class Access(Rights):
    """Services over requests."""

    def ask_access(self, model: Model, actor: Actor) -> AccessRequest:
        """Ask to be let in. With `gated=auto` that is granted at once, unless the owners took it back before.

        Raises:
            NotGated: when there is nothing to ask for.
            Unauthenticated, Forbidden: when the caller is no user, or the request was rejected.
        """
        if actor.kind != "user":
            raise Unauthenticated("Log in first: access is given to users.")
        if model.gated is None:
            raise NotGated(model.id)
        with self._database.writing() as session:
            gate = self._locked(session, model).gated
            row = self._request_of(session, model, actor.name)
            if row is None:
                row = self._asked(session, model, actor.name)
            elif row.status == "rejected":
                raise Forbidden(f"Your request for {model.id} was rejected; its owners may change that.")
            if gate == "auto" and row.handled_by is None:
                row.status = "accepted"
            session.flush()
        return _request(row)

    def _asked(self, session: Session, model: Model, user: str) -> AccessRequestRow:
        waiting = sa.select(sa.func.count()).where(
            AccessRequestRow.model_key == model.key, AccessRequestRow.status == "pending"
        )
        if (session.scalar(waiting) or 0) >= MOST_PENDING:
            raise Conflict(f"Too many requests for {model.id} wait for its owners; try again later.")
        row = AccessRequestRow(
            id=secrets.token_hex(12),
            model_key=model.key,
            user=user,
            status="pending",
            asked=utc_now(),
            handled=None,
            handled_by=None,
            reason="",
        )
        session.add(row)
        return row

    def access_request_of(self, model: Model, actor: Actor) -> AccessRequest | None:
        """The caller's own request; None before they asked."""
        with self._database.reading() as session:
            row = self._request_of(session, model, actor.name)
        return None if row is None else _request(row)

    def access_requests(
        self, model: Model, status: Status, *, actor: Actor, after: int = 0, limit: int = 1000
    ) -> list[AccessRequest]:
        """Requests in a state, oldest first, from the one with the number `after`. Raises as `check_gatekeeper`."""
        self.check_gatekeeper(model, actor)
        wanted = sa.select(AccessRequestRow).where(
            AccessRequestRow.model_key == model.key,
            AccessRequestRow.status == status,
            AccessRequestRow.key > after,
        )
        with self._database.reading() as session:
            return [_request(row) for row in session.scalars(wanted.order_by(AccessRequestRow.key).limit(limit))]

    def handle_access(
        self,
        model: Model,
        *,
        actor: Actor,
        status: Status,
        user: str | None = None,
        request_id: str | None = None,
        reason: str = "",
    ) -> AccessRequest:
        """Accept, reject or put back a request, named by its user or its id.

        Raises:
            Invalid: when neither or both are named, or a reason is given for anything but a rejection.
            AccessRequestNotFound: when there is none, or it is in that state already.
        """
        self.check_gatekeeper(model, actor)
        if (user is None) == (request_id is None):
            raise Invalid("Name the request by user or by requestId, not both.", param="user")
        if status not in STATUSES:
            raise Invalid(f"status is {status!r}; expected accepted, rejected or pending.", param="status")
        if reason and status != "rejected":
            raise Invalid("A rejectionReason belongs to status rejected.", param="rejectionReason")
        named = AccessRequestRow.user == user if request_id is None else AccessRequestRow.id == request_id
        with self._database.writing() as session:
            self._check_author(session, self._locked(session, model), actor)
            found = sa.select(AccessRequestRow).where(AccessRequestRow.model_key == model.key, named)
            row = session.scalar(found.with_for_update())
            if row is None or row.status == status:
                raise AccessRequestNotFound(user or request_id or "")
            row.status, row.reason = status, " ".join(reason.split())[:MOST_REASON]
            row.handled, row.handled_by = utc_now(), actor.name
        return _request(row)

    def grant_access(self, model: Model, user: str, *, actor: Actor) -> AccessRequest:
        """Let a user in who did not ask.

        Raises:
            Invalid: when the user is in already.
            NotFound: when there is no such user.
        """
        self.check_gatekeeper(model, actor)
        try:
            with self._database.writing() as session:
                self._check_author(session, self._locked(session, model), actor)
                known = user_named(session, user[:96])
                if known is None:
                    raise NotFound(f"There is no user {user[:96]!r} here.", param="user")
                row = self._request_of(session, model, known) or self._asked(session, model, known)
                if row.status == "accepted":
                    raise Invalid(f"{known} has access to {model.id} already.", param="user")
                row.status, row.reason, row.handled, row.handled_by = "accepted", "", utc_now(), actor.name
                session.flush()
        except IntegrityError:  # the user asked in the same moment, in another process
            return self.handle_access(model, actor=actor, status="accepted", user=known)
        return _request(row)


def _request(row: AccessRequestRow) -> AccessRequest:
    return AccessRequest(
        id=row.id,
        user=row.user,
        status=msgspec.convert(row.status, Status),
        asked=row.asked,
        handled=row.handled,
        handled_by=row.handled_by,
        reason=row.reason,
        number=row.key,
    )
