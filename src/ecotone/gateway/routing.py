"""Routes as they are kept: public names on the gateway with candidate models and how one is chosen."""

import math
import re
from typing import Any

import msgspec
import sqlalchemy as sa

from ecotone.accounts import Actor
from ecotone.database import Database, alone, utc_now
from ecotone.gateway import snapshot
from ecotone.gateway.models import RouteRow
from ecotone.vocabulary import Forbidden, Invalid, NotFound

STRATEGIES = ("fallback", "fixed", "weighted", "cheapest", "fastest")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
TARGET = re.compile(r"[\w.-]{1,96}/[\w./:@-]{1,200}")
MOST = 20
MOST_RETRIES = 5
MOST_SECONDS = 3600.0
MOST_CACHE_SECONDS = 30 * 86400
MOST_WEIGHT = 1_000_000


class RouteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a route chooses, tries again and answers; what each means stands at `snapshot.Route`. Seconds: 0 is the
    setting's."""

    shadow: str | None = None
    shadow_share: float = 1.0
    retries: int = 1
    connect_seconds: float = 0.0
    first_seconds: float = 0.0
    idle_seconds: float = 0.0
    cache_seconds: int = 0
    alias: bool = False
    sticky: bool = False

    def checked(self) -> "RouteOptions":
        """Raises Invalid, naming the option."""
        if self.shadow is not None:
            _check_target(self.shadow, "shadow")
        if not 0 < self.shadow_share <= 1:
            raise Invalid(f"shadow_share is {self.shadow_share}; a share above 0 up to 1 is expected.", param="shadow")
        if not 0 <= self.retries <= MOST_RETRIES:
            raise Invalid(f"retries is {self.retries}; 0 to {MOST_RETRIES} is expected.", param="retries")
        for name in ("connect_seconds", "first_seconds", "idle_seconds"):
            if not 0 <= getattr(self, name) <= MOST_SECONDS:
                raise Invalid(f"{name} is {getattr(self, name)}; 0 to {MOST_SECONDS:.0f} is expected.", param=name)
        if not 0 <= self.cache_seconds <= MOST_CACHE_SECONDS:
            raise Invalid(f"Answers are kept for 0 to {MOST_CACHE_SECONDS} seconds.", param="cache_seconds")
        return self


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route. No strategy leads to a candidate that the decision or the data class forbids."""

    name: str
    to: tuple[str, ...]
    created: str
    created_by: str
    strategy: str = "fallback"
    weights: tuple[float, ...] = ()
    options: RouteOptions = RouteOptions()

    def compiled(self) -> snapshot.Route:
        """The route as the request path reads it."""
        weights = self.weights or (1.0,) * len(self.to)
        return snapshot.Route(
            name=self.name,
            strategy=self.strategy,
            candidates=tuple(
                snapshot.RouteCandidate(model=model, weight=weight)
                for model, weight in zip(self.to, weights, strict=True)
            ),
            **msgspec.structs.asdict(self.options),
        )

    def leads_to(self, model: str) -> bool:
        """Whether a model is a candidate, or gets copies."""
        return model in self.to or model == self.options.shadow


class RouteNotFound(NotFound):
    code = "route_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no route {name!r}; `ecotone route list` shows all.", param="name")


class Routes:
    """The routes of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(
        self,
        name: str,
        to: tuple[str, ...],
        *,
        actor: Actor,
        strategy: str = "fallback",
        weights: tuple[float, ...] = (),
        options: RouteOptions | None = None,
    ) -> Route:
        """Make or replace a route; who made it and when stays.

        Raises:
            Invalid: for a bad name, strategy, weight or option, or no candidates.
            Forbidden: when the caller is no administrator.
        """
        if not actor.is_admin:
            raise Forbidden("Only administrators set routes.")
        if not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no name of a route: letters, digits, '.', '_' or '-', no slash.", param="name")
        _check_candidates(to, strategy, weights)
        kept = (options or RouteOptions()).checked()
        with self._database.writing() as session:
            alone(session, "routes")
            row = session.get(RouteRow, name)
            if row is None:
                row = RouteRow(name=name, created=utc_now(), created_by=actor.name)
                session.add(row)
            row.targets, row.strategy = list(to), strategy
            row.weights = [] if set(weights) <= {1.0} else list(weights)
            row.options = _told(kept)
            return _route(row)

    def list(self) -> list[Route]:
        with self._database.reading() as session:
            return [_route(row) for row in session.scalars(sa.select(RouteRow).order_by(RouteRow.name))]

    def get(self, name: str) -> Route:
        with self._database.reading() as session:
            row = session.get(RouteRow, name)
        if row is None:
            raise RouteNotFound(name)
        return _route(row)

    def remove(self, name: str) -> None:
        with self._database.writing() as session:
            alone(session, "routes")
            if not session.execute(sa.delete(RouteRow).where(RouteRow.name == name)).rowcount:  # type: ignore[attr-defined]
                raise RouteNotFound(name)


def _check_candidates(to: tuple[str, ...], strategy: str, weights: tuple[float, ...]) -> None:
    if not 1 <= len(to) <= MOST or len(set(to)) != len(to):
        raise Invalid(f"A route has 1 to {MOST} different candidates.", param="to")
    for target in to:
        _check_target(target, "to")
    if strategy not in STRATEGIES:
        raise Invalid(f"{strategy!r} is no strategy; known: {', '.join(STRATEGIES)}.", param="strategy")
    if not set(weights) <= {1.0} and strategy != "weighted":
        raise Invalid(f"Weights are of the strategy weighted, and this one is {strategy}.", param="weights")
    if weights and len(weights) != len(to):
        raise Invalid(
            f"{len(weights)} weights stand beside {len(to)} candidates; as many are expected.", param="weights"
        )
    for weight in weights:
        if not (math.isfinite(weight) and 0 <= weight <= MOST_WEIGHT):
            raise Invalid(f"A weight is a number from 0 to {MOST_WEIGHT}; got {weight}.", param="weights")
    if weights and not any(weights):
        raise Invalid("All weights are 0: no candidate would ever be chosen.", param="weights")


def _check_target(target: str, param: str) -> None:
    if not TARGET.fullmatch(target):
        raise Invalid(f"{target!r} is no model: namespace/name, or BACKEND/model.", param=param)


def _told(options: RouteOptions) -> dict[str, Any]:
    """The options that are not as they would be without a word."""
    usual = RouteOptions()
    return {n: v for n, v in msgspec.structs.asdict(options).items() if v != getattr(usual, n)}


def _route(row: RouteRow) -> Route:
    return Route(
        name=row.name,
        to=tuple(row.targets),
        created=row.created.isoformat(timespec="seconds"),
        created_by=row.created_by,
        strategy=row.strategy,
        weights=tuple(row.weights),
        options=msgspec.convert(row.options, RouteOptions),
    )
