"""Providers and remote engines that an administrator made callable as `NAME/model`. Holds no key, only its variable."""

import fnmatch
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa
import yaml
from sqlalchemy.orm import Session

from ecotone.accounts import Actor
from ecotone.database import Database, alone, utc_now
from ecotone.gateway.addresses import check_address
from ecotone.gateway.dialects import DIALECTS
from ecotone.gateway.models import BackendRow, LimitRow, RouteRow
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Location, NotFound, Tier

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")
TAKEN = frozenset({"local", "none"})  # words of the header x-ecotone-backend
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A place where models can be called. `key_env` names the server's variable that holds the key."""

    name: str
    dialect: str
    url: str
    key_env: str | None
    location: Location
    tier: Tier
    terms: str | None
    created: str
    created_by: str


class BackendExists(Conflict):
    code = "backend_exists"


class BackendNotFound(NotFound):
    code = "backend_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no backend {name!r}; `ecotone backend list` shows all.", param="name")


class Backends:
    """The backends of this installation."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        knowledge: KnowledgeBase,
        policy: Policy,
        *,
        provider_terms: Callable[[str], str | None] = lambda _name: None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._knowledge = knowledge
        self._policy = policy
        self._provider_terms = provider_terms

    def add(
        self,
        name: str,
        *,
        dialect: str,
        url: str,
        key_env: str | None,
        location: Location,
        tier: Tier,
        terms: str | None,
        actor: Actor,
    ) -> tuple[Backend, tuple[str, ...]]:
        """Add a backend; returns it with warnings.

        Without terms they are those of the address's host, else those that the catalogue knows for the models of that
        name. Where neither is known the verdict on its models stays unknown; that an administrator added it is recorded
        as a rule of the organisation that lets unknown pass for it.

        Raises:
            Forbidden: when the caller is no administrator or the variable may not hold a provider's key.
            Invalid: for a bad name, address or entry.
            BackendExists: when the name is taken.
        """
        row, taken = self._checked(name, dialect, url, key_env, location, tier, terms, actor)
        with self._database.writing() as session:
            alone(session, "backends")
            if session.get(BackendRow, name) is not None:
                raise BackendExists(f"A backend {name!r} exists already; remove it first.", param="name")
            session.add(row)
            self._let_pass(session, row, actor)
        return _backend(row), self._told(row, taken)

    def set(
        self,
        name: str,
        *,
        dialect: str,
        url: str,
        key_env: str | None,
        location: Location,
        tier: Tier,
        terms: str | None,
        actor: Actor,
    ) -> tuple[Backend, tuple[str, ...]]:
        """Make a backend, or put this in the place of what it was; who made it and when stays. Raises as `add`."""
        row, taken = self._checked(name, dialect, url, key_env, location, tier, terms, actor)
        with self._database.writing() as session:
            alone(session, "backends")
            known = session.get(BackendRow, name)
            if known is not None:
                row.created, row.created_by = known.created, known.created_by
            row = session.merge(row)
            self._let_pass(session, row, actor)
        return _backend(row), self._told(row, taken)

    def check_reach(self, url: str | None, key_env: str | None) -> None:
        """Whether requests may go to an address with the key of a variable. Raises Invalid or Forbidden."""
        if url is not None:
            check_address(url)
        self._check_variable(key_env)

    def _checked(
        self,
        name: str,
        dialect: str,
        url: str,
        key_env: str | None,
        location: Location,
        tier: Tier,
        terms: str | None,
        actor: Actor,
    ) -> tuple[BackendRow, bool]:
        """The row, and whether its terms were taken from the catalogue."""
        if not actor.is_admin:
            raise Forbidden("Only administrators add backends.")
        if not NAME.fullmatch(name):
            raise Invalid("A backend's name has 1 to 48 lower-case letters, digits or '-'.", param="name")
        if name in TAKEN:
            raise Invalid(f"{name!r} has a meaning of its own in answers; take another name.", param="name")
        if dialect not in DIALECTS:
            raise Invalid(f"The dialect {dialect!r} is not spoken yet; known: {', '.join(DIALECTS)}.", param="dialect")
        check_address(url)
        self._check_variable(key_env)
        given = terms or default_terms(url)
        terms = given or self._provider_terms(name)
        if terms is not None and (entry := self._knowledge.entry(terms)).kind != "api_terms":
            raise Invalid(
                f"{entry.id} is not a provider's terms but {entry.kind}; see `ecotone licence list`.", param="terms"
            )
        row = BackendRow(
            name=name,
            dialect=dialect,
            url=url.rstrip("/"),
            key_env=key_env,
            location=location.value,
            tier=tier.value,
            terms=terms,
            created=utc_now(),
            created_by=actor.name,
        )
        return row, terms is not None and given is None

    def _let_pass(self, session: Session, row: BackendRow, actor: Actor) -> None:
        """The rule that lets unknown terms pass is there exactly while they are unknown."""
        if row.terms is not None:
            self._policy.let_pass_no_more(session, f"backend:{row.name}")
            return
        reason = f"administrator {actor.name} made backend {row.name} callable without naming its terms"
        self._policy.let_pass(session, f"backend:{row.name}", reason, actor=actor)

    def _told(self, row: BackendRow, taken: bool) -> tuple[str, ...]:
        warnings = self._warnings(row)
        if taken:
            warnings.append(
                f"its terms are taken to be {row.terms}, which the catalogue knows for {row.name}/...; where the "
                "address is another company's, name its terms with --terms"
            )
        if row.terms is None:
            warnings.append(
                "no terms are known for this backend: the verdict on its models stays unknown and a rule of yours lets "
                "it pass; name them with --terms ENTRY (`ecotone licence list`)"
            )
        return tuple(warnings)

    @staticmethod
    def _warnings(row: BackendRow) -> list[str]:
        found = []
        if row.key_env is not None and not os.environ.get(row.key_env):
            found.append(
                f"{row.key_env} is not set in the server's environment: calls are refused until it is and the server "
                "was started again"
            )
        host = urlsplit(row.url).hostname or ""
        if (
            row.key_env is not None
            and row.url.startswith("http:")
            and not host.startswith(("127.", "localhost", "::1"))
        ):
            found.append("the key and all texts travel unencrypted: the address begins with http, not https")
        return found

    def list(self) -> list[Backend]:
        with self._database.reading() as session:
            return [_backend(row) for row in session.scalars(sa.select(BackendRow).order_by(BackendRow.name))]

    def get(self, name: str) -> Backend:
        with self._database.reading() as session:
            row = session.get(BackendRow, name)
        if row is None:
            raise BackendNotFound(name)
        return _backend(row)

    def remove(self, name: str) -> None:
        """Remove a backend and the rule made with it. Raises Conflict while a route names one of its models."""
        with self._database.writing() as session:
            alone(session, "backends")
            row = session.get(BackendRow, name)
            if row is None:
                raise BackendNotFound(name)
            for route in session.scalars(sa.select(RouteRow)):
                if any(target.startswith(f"{name}/") for target in [*route.targets, route.options.get("shadow") or ""]):
                    raise Conflict(f"The route {route.name} leads to {name}; change or remove the route first.")
            alone(session, "limits")
            session.execute(sa.delete(LimitRow).where(LimitRow.scope == f"backend:{name}"))
            self._policy.let_pass_no_more(session, f"backend:{name}")
            session.delete(row)

    def _check_variable(self, key_env: str | None) -> None:
        if key_env is None:
            return
        patterns = self._settings.provider_key_patterns
        fits = VARIABLE.fullmatch(key_env) and any(fnmatch.fnmatchcase(key_env, p) for p in patterns)
        if not fits or key_env.startswith("ECOTONE_"):
            raise Forbidden(
                f"The variable {key_env} may not be read as a provider's key: its name must match "
                f"{', '.join(patterns)} (ECOTONE_PROVIDER_KEYS) and not begin with ECOTONE_.",
                param="key_env",
            )


def default_terms(url: str) -> str | None:
    """The entry for a provider's own host, None for any other."""
    return _providers().get(urlsplit(url).hostname or "")


@cache
def _providers() -> Mapping[str, str]:
    found: Mapping[str, str] = yaml.safe_load(Path(__file__).with_name("providers.yaml").read_text())
    return found


def _backend(row: BackendRow) -> Backend:
    return Backend(
        name=row.name,
        dialect=row.dialect,
        url=row.url,
        key_env=row.key_env,
        location=Location(row.location),
        tier=Tier(row.tier),
        terms=row.terms,
        created=row.created.isoformat(timespec="seconds"),
        created_by=row.created_by,
    )
