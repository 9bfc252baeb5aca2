"""Limits and budgets as they are kept: by scope, set by administrators, narrowed for their own keys by owners.

Scopes: `organisation`, `backend:NAME`, `project:NAME`, `project:NAME/user:*` (each end-user of it alike),
`project:NAME/tag:NAME` or `/tag:*`, `key:ID`. What applies to a request applies together: none lets pass what another
refuses.
"""

import re
from collections.abc import Callable, Set
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Accounts, Actor, check_kept, key_ids
from ecotone.database import Database, alone, utc_now
from ecotone.gateway.budgets import read_budget, written_budget
from ecotone.gateway.models import BackendRow, LimitRow
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.vocabulary import Forbidden, Invalid, NotFound

ORGANISATION = "organisation"
MOST = 10**12
MOST_BUDGETS = 6
SCOPE = re.compile(
    r"organisation|backend:(?P<backend>[a-z0-9-]{1,48})|key:(?P<key>[0-9a-f]{1,32})"
    r"|project:(?P<project>[a-z0-9._-]{1,64})(?:/user:\*|/tag:\*|/tag:[A-Za-z0-9][A-Za-z0-9._:-]{0,63})?"
)


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and tokens in a minute, requests at once, and budgets such as `50USD/month`; None is any."""

    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None
    budgets: tuple[str, ...] = ()

    def checked(self) -> "Allowance":
        """The same in its shortest writing, in the same order. Raises Invalid, naming the field."""
        for name in ("requests", "tokens", "concurrent"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST:
                raise Invalid(f"{name} is {value}; a number from 0 to {MOST} is expected, or none.", param=name)
        read = {window: amount for amount, window in map(read_budget, self.budgets)}.items()
        if len(read) != len(self.budgets) or len(read) > MOST_BUDGETS:
            raise Invalid("A scope has one budget for each window.", param="budgets")
        return msgspec.structs.replace(self, budgets=tuple(written_budget(amount, window) for window, amount in read))

    def within(self, other: "Allowance") -> str | None:
        """The first field that lets more pass than `other`'s; None when none does. An absent one is inherited."""
        for name in ("requests", "tokens", "concurrent"):
            own, most = getattr(self, name), getattr(other, name)
            if own is not None and most is not None and own > most:
                return name
        most_of = {window: amount for amount, window in map(read_budget, other.budgets)}
        over = any(amount > most_of.get(window, amount) for amount, window in map(read_budget, self.budgets))
        return "budgets" if over else None

    def narrows(self, before: "Allowance") -> str | None:
        """The first field that lets more pass than before, or is no longer there; None when none does."""
        for name in ("requests", "tokens", "concurrent"):
            if getattr(before, name) is not None and getattr(self, name) is None:
                return name
        windows = {window for _, window in map(read_budget, self.budgets)}
        lost = any(window not in windows for _, window in map(read_budget, before.budgets))
        return "budgets" if lost else self.within(before)

    @property
    def is_empty(self) -> bool:
        return self == Allowance()


class ScopeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a scope may use, since when and by whose word."""

    scope: str
    allowance: Allowance
    updated: datetime
    updated_by: str


class LimitsNotFound(NotFound):
    code = "limits_not_found"

    def __init__(self, scope: str) -> None:
        super().__init__(f"No limits are set for {scope!r}; `ecotone limit list` shows all.", param="scope")


class KeptLimits:
    """The limits and budgets of one database."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts

    def set(self, scope: str, allowance: Allowance, *, actor: Actor) -> ScopeLimits:
        """Put limits in the place of those that a scope has; an empty allowance takes them away, an equal one changes
        nothing.

        Raises:
            Invalid: for what is no scope or no limit.
            NotFound: when there is no such project, key or backend, or it is not the caller's to see.
            Forbidden: for all but administrators, and for an owner who would let a key of theirs use more.
        """
        wanted = allowance.checked()
        key_id = self._check_scope(scope, actor)
        project = self._accounts.key(key_id).project if key_id is not None else ""
        with self._database.writing() as session:
            alone(session, "limits")
            _check_there(session, scope)
            row = session.get(LimitRow, scope)
            if not actor.is_admin:
                over = wanted.narrows(_allowance(row) if row is not None else Allowance())
                if over is not None:
                    text = f"An owner may only lower a key's {over}; an administrator may raise it."
                    raise Forbidden(text, param=over)
                self._check_project(session, project, wanted)
            if row is not None and _allowance(row) == wanted:
                return _kept(row)
            made = row or LimitRow(scope=scope)
            _fill(made, wanted, actor)
            if wanted.is_empty and row is not None:
                session.delete(row)
            elif not wanted.is_empty:
                session.add(made)
            return _kept(made)

    def with_key(self, project: str, allowance: Allowance, *, actor: Actor) -> Callable[[Session, str], None]:
        """What writes a new key's limits in the transaction that makes it.

        Raises:
            Invalid.
            Forbidden: when one who is no administrator gives a key more than its project has.
        """
        wanted = allowance.checked()
        if not actor.is_admin:
            with self._database.reading() as session:
                self._check_project(session, project, wanted)

        def write(session: Session, key_id: str) -> None:
            if not wanted.is_empty:
                row = LimitRow(scope=f"key:{key_id}")
                _fill(row, wanted, actor)
                session.add(row)

        return write

    def list(self, *, actor: Actor | None = None) -> list[ScopeLimits]:
        """Limits by scope, those that the caller may see: an administrator all, an owner their projects' and keys'."""
        with self._database.reading() as session:
            found = [_kept(row) for row in session.scalars(sa.select(LimitRow).order_by(LimitRow.scope))]
        if actor is None or actor.is_admin:
            return found
        keys = self._accounts.keys(actor=actor)
        seen = {f"key:{key.id}" for key in keys} | {f"project:{p}" for p in self._accounts.owned(actor)}
        return [one for one in found if one.scope.partition("/")[0] in seen]

    def get(self, scope: str, *, actor: Actor | None = None) -> ScopeLimits:
        """A scope's limits. Raises LimitsNotFound, also for those that the caller may not see."""
        for one in self.list(actor=actor):
            if one.scope == scope:
                return one
        raise LimitsNotFound(scope)

    def allowance(self, scope: str) -> Allowance:
        """A scope's limits, empty where none are set."""
        with self._database.reading() as session:
            row = session.get(LimitRow, scope)
        return _allowance(row) if row is not None else Allowance()

    def remove(self, scope: str, *, actor: Actor) -> None:
        """Take a scope's limits away. Raises LimitsNotFound; Forbidden for all but administrators."""
        if not actor.is_admin:
            raise Forbidden("Only administrators take limits away.")
        with self._database.writing() as session:
            alone(session, "limits")
            row = session.get(LimitRow, scope)
            if row is None:
                raise LimitsNotFound(scope)
            session.delete(row)

    def forget_project(self, session: Session, name: str) -> None:
        """Take away the limits of a project and of its keys, in the transaction that removes it: its keys are never in
        force without them."""
        alone(session, "limits")
        scopes = [f"key:{key_id}" for key_id in key_ids(session, name)]
        of_it = LimitRow.scope.startswith(f"project:{name}/", autoescape=True)
        session.execute(
            sa.delete(LimitRow).where(sa.or_(LimitRow.scope == f"project:{name}", of_it, LimitRow.scope.in_(scopes)))
        )

    def in_force(self, keys: Set[str]) -> dict[str, Limit]:
        """Limits as the request path reads them; of keys, those whose ids are told."""
        with self._database.reading() as session:
            rows = list(session.scalars(sa.select(LimitRow)))
        return {
            row.scope: limit_of(row.scope, _allowance(row))
            for row in rows
            if not row.scope.startswith("key:") or row.scope.removeprefix("key:") in keys
        }

    def _check_scope(self, scope: str, actor: Actor) -> str | None:
        """The id of a key's scope. Raises Invalid, Forbidden, or NotFound for a key."""
        found = SCOPE.fullmatch(scope)
        if found is None:
            raise Invalid(
                f"{scope!r} is no scope: organisation, backend:NAME, project:NAME, project:NAME/user:*, "
                "project:NAME/tag:NAME or key:ID.",
                param="scope",
            )
        if found["key"]:
            self._accounts.check_key_limits(found["key"], actor=actor)
            return found["key"]
        if not actor.is_admin:
            raise Forbidden("Only administrators set the limits of anything but a key.")
        return None

    @staticmethod
    def _check_project(session: Session, project: str, wanted: Allowance) -> None:
        row = session.get(LimitRow, f"project:{project}")
        over = wanted.within(_allowance(row)) if row is not None else None
        if over is not None:
            raise Forbidden(f"The key's {over} would pass those of its project {project}.", param=over)


def _check_there(session: Session, scope: str) -> None:
    """Raises NotFound unless there is what a scope names. With that go its limits, in turn with who sets them: what is
    not there then would leave them to whoever has its name next."""
    found = SCOPE.fullmatch(scope)
    assert found is not None
    check_kept(session, project=found["project"], key=found["key"])
    if found["backend"] and session.get(BackendRow, found["backend"]) is None:
        raise NotFound(f"There is no backend {found['backend']!r}.", code="backend_not_found", param="scope")


def limit_of(scope: str, allowance: Allowance) -> Limit:
    """An allowance as the request path reads it. A budget's id holds scope and window, and stays when it is changed."""
    budgets = (read_budget(text) for text in allowance.budgets)
    return Limit(
        requests=allowance.requests,
        tokens=allowance.tokens,
        concurrent=allowance.concurrent,
        budgets=tuple(Budget(id=f"{scope}@{window}", limit=amount, window=window) for amount, window in budgets),
    )


def _fill(row: LimitRow, wanted: Allowance, actor: Actor) -> None:
    row.requests, row.tokens, row.concurrent = wanted.requests, wanted.tokens, wanted.concurrent
    row.budgets = list(wanted.budgets)
    row.updated, row.updated_by = utc_now(), actor.name


def _allowance(row: LimitRow) -> Allowance:
    return Allowance(requests=row.requests, tokens=row.tokens, concurrent=row.concurrent, budgets=tuple(row.budgets))


def _kept(row: LimitRow) -> ScopeLimits:
    return ScopeLimits(scope=row.scope, allowance=_allowance(row), updated=row.updated, updated_by=row.updated_by)
