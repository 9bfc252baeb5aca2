"""In which order the candidates of a route are tried. It orders and leaves out; it never adds one.

The candidates come filtered by decision and data class, so no state of health can lead where those forbid. What the
caller must do, because it cannot be done here:

- No backend is called again once the first content byte of an answer went to the client: neither a retry nor the next
  candidate, whatever `may_retry` says. A stream that breaks later ends with an error event.
- Before that, ask `may_retry` for each call after the first one; call `began` right before each and `ended` after each.
- An empty answer of `order` is a 503 with `retry-after` from `opens_in`.

All times are seconds of a monotonic clock. One object for each worker; everything in it is bounded.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from ecotone.gateway.health import Health, Outcome
from ecotone.gateway.snapshot import Route, Snapshot, Target

MOST_ROUTES: Final = 4096
MOST_HOMES: Final = 16_384
MOST_SPEEDS: Final = 4096
HOME_SECONDS: Final = 900.0
RETRY_SHARE: Final = 0.1
RETRY_FLOOR: Final = 10.0
_RETRY_MOST: Final = 100.0
_RETRY_REFILL: Final = 1.0  # a second, up to the floor
_WEIGHT_OF_NEW: Final = 0.2
_FADES: Final = 10.0  # seconds after which an average is worth half
_STALE: Final = 30.0
_EXPLORE_EACH: Final = 20


class Named(Protocol):
    """A candidate, or what stands for one: `name` is `BACKEND/model`, or a local model's id."""

    @property
    def name(self) -> str: ...


C = TypeVar("C", bound=Named)


class Priced(Protocol):
    """What a request costs at most, in 10^-12 USD."""

    def most(self, prompt_tokens: int, completion_tokens: int) -> int: ...


class Traffic:
    """What is kept of a route: its retries that are left, where its weights and shadow stand."""

    __slots__ = ("explored", "filled", "retries", "route", "shadow", "shares", "standing")

    def __init__(self, route: Route | None, now: float) -> None:
        self.retries = RETRY_FLOOR
        self.filled = now
        self.explored = 0
        self.shadow = 0.0
        self.standing: dict[str, float] = {}
        self.use(route)

    def use(self, route: Route | None) -> None:
        self.route = route
        found = {c.model: c.weight for c in route.candidates} if route is not None else {}
        self.shares = {name: share if 0.0 < share < 1e12 else 0.0 for name, share in found.items()}
        self.standing = {name: self.standing.get(name, 0.0) for name in self.shares}


class Speed:
    """Moving averages of a candidate: `first`, seconds to the first byte of a stream; `each`, seconds of a whole answer
    for each token of it. `seen`: when it last told one; `tried`: when it was last put first to learn one."""

    __slots__ = ("each", "first", "seen", "tried")

    def __init__(self) -> None:
        self.first: float | None = None
        self.each: float | None = None
        self.seen = self.tried = float("-inf")


class Chooser:
    """Orders candidates by a route's strategy, health, and where a conversation has its prompt cache.

    Args:
        rest: seconds for which a failing candidate is left alone at first.
        failures: in a row, after which nothing is sent to it until it rested.
        draw: gives numbers from 0 to 1 for jitter.
    """

    def __init__(self, rest: float = 5.0, failures: int = 5, draw: Callable[[], float] = random.random) -> None:
        self.health = Health(rest, failures, draw)
        self._resting = self.health.resting
        self._snapshot: Snapshot | None = None
        self._prices: Mapping[str, Priced] = {}
        self._traffic: dict[str, Traffic] = {}
        self._speeds: dict[str, Speed] = {}
        self._homes: OrderedDict[tuple[str, bytes], tuple[str, float]] = OrderedDict()

    def use(self, snapshot: Snapshot, prices: Mapping[str, Priced] | None = None) -> None:
        """Go on with a new snapshot: what it lacks is forgotten, and the health of what has another address or key."""
        before, self._snapshot = self._snapshot, snapshot
        self._prices = prices or {}
        for name in {*self.health.names(), *self._speeds}:
            if before is not None and _place(before.target(name)) != _place(snapshot.target(name)):
                self.health.forget(name)
                self._speeds.pop(name, None)
        self._traffic = {name: kept for name, kept in self._traffic.items() if not name or name in snapshot.routes}

    def order(
        self,
        route: Route | None,
        candidates: Sequence[C],
        now: float,
        conversation: bytes = b"",
        *,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        stream: bool = True,
    ) -> list[C]:
        """The candidates to try, in this order; those with an open circuit are left out.

        Args:
            route: None when the model was named itself.
            candidates: those that decision and data class allow, in the route's order, never empty.
            conversation: names the project and the beginning of its messages; the same for all turns, at most 64 bytes.
            prompt_tokens: of this request, for its price.
            completion_tokens: at most, for its price.
            stream: whether the answer will be one, for its speed.

        Returns:
            A permutation of a subset of `candidates`; empty when none may be called now.
        """
        name = route.name if route is not None else ""
        traffic = self._traffic.get(name)
        if traffic is None or traffic.route is not route:
            traffic = self._traffic_of(route, now)
        if traffic.retries < _RETRY_MOST:
            traffic.retries += RETRY_SHARE
        strategy = route.strategy if route is not None else "fallback"
        if route is not None and strategy == "fixed":
            # the first of the route and no other, also when it was filtered out
            candidates = [c for c in candidates[:1] if c.name == route.candidates[0].model]
        found, last = (list(candidates), None) if not self._resting else self._able(candidates, now)
        sticky = conversation and route is not None and route.sticky and found
        if strategy != "fallback":
            at_home = bool(sticky) and self._home(name, found, conversation, now)
            found = self._by(strategy, traffic, found, now, prompt_tokens, completion_tokens, stream, at_home)
        if sticky:
            self._stay(name, found, conversation, now)
        if last is not None:
            found += last
            for place, candidate in enumerate(found):
                self.health.offered(candidate.name, now, first=place == 0)
        return found

    def began(self, name: str) -> bool:
        """A call to this candidate begins. False: it must not; another one is probing it, take the next candidate."""
        return not self._resting or self.health.may_begin(name)

    def answered(self, name: str) -> None:
        """The first content of a call came. Optional: closes a circuit before a long stream ends."""
        if self._resting:
            self.health.answered(name)

    def ended(
        self,
        name: str,
        outcome: Outcome,
        first_seconds: float | None,
        seconds: float,
        now: float,
        *,
        wait: float | None = None,
        tokens: int = 0,
        stream: bool = True,
    ) -> None:
        """A call to this candidate ended; one of these for each `began` that was True.

        Args:
            first_seconds: until the first byte of its answer; None when none came.
            seconds: the whole call.
            wait: seconds of the answer's `retry-after` (`health.wait_of`).
            tokens: of the answer, where it came as a whole.
            stream: whether the answer was one.
        """
        self.health.ended(name, outcome, came=first_seconds is not None, seconds=seconds, now=now, wait=wait)
        speed = self._speeds.get(name)
        if speed is None or outcome == "client":
            return
        age, speed.seen = now - speed.seen, now
        if stream:
            speed.first = _moved(speed.first, seconds if first_seconds is None else first_seconds, outcome, age)
        else:
            speed.each = _moved(speed.each, seconds / max(tokens, 1), outcome, age)

    def may_retry(self, route: Route | None, now: float) -> bool:
        """Whether a route may make one more call for a request, and counts it: a tenth of its traffic, with a floor."""
        traffic = self._traffic.get(route.name if route is not None else "") or self._traffic_of(route, now)
        if traffic.retries < RETRY_FLOOR and now > traffic.filled:
            traffic.retries = min(RETRY_FLOOR, traffic.retries + (now - traffic.filled) * _RETRY_REFILL)
        traffic.filled = now
        if traffic.retries < 1.0:
            return False
        traffic.retries -= 1.0
        return True

    def moved(self, route: Route, conversation: bytes, name: str, now: float) -> None:
        """Another candidate than the first of `order` answered: the conversation has its cache there from now on."""
        if route.sticky and conversation:
            self._keep((route.name, conversation), name, now)

    def shadow(self, route: Route, now: float) -> str | None:
        """The model that gets a copy of this request, None for no copy.

        The caller admits it by the same decision and data class as any candidate (and sends nothing where those
        refuse), reserves, meters and records it like any call, never retries it, and drops its answer.
        """
        if route.shadow is None or not route.shadow_share > 0.0:
            return None
        traffic = self._traffic.get(route.name)
        if traffic is None or traffic.route is not route:
            traffic = self._traffic_of(route, now)
        traffic.shadow += min(route.shadow_share, 1.0)
        if traffic.shadow < 1.0 - 1e-9:
            return None
        traffic.shadow -= 1.0
        return route.shadow if self.health.usable(route.shadow, now) else None

    def rests(self, name: str) -> bool:
        """Whether a candidate failed a moment ago or has an open circuit: why another one came first."""
        return name in self._resting

    def opens_in(self, candidates: Sequence[Named], now: float) -> float:
        """Seconds until the first of the candidates may be called again."""
        return self.health.opens_in([c.name for c in candidates], now)

    # -- strategies --------------------------------------------------------------------------------------------------
    def _by(
        self,
        strategy: str,
        traffic: Traffic,
        found: list[C],
        now: float,
        prompt_tokens: int,
        completion_tokens: int,
        stream: bool,
        at_home: bool,
    ) -> list[C]:
        """The order of a strategy. One that is `at_home` goes there first, and this is who follows where that fails: it
        takes nobody's share, and learns nothing."""
        if len(found) < 2:
            return found
        match strategy:
            case "weighted":
                return found if at_home else _weighted(traffic, found)
            case "cheapest":
                return self._cheapest(found, prompt_tokens, completion_tokens)
            case "fastest":
                return self._fastest(traffic, found, now, stream, learning=not at_home)
        return found

    def _cheapest(self, found: list[C], prompt_tokens: int, completion_tokens: int) -> list[C]:
        def cost(candidate: C) -> float:
            price = self._prices.get(candidate.name)
            if price is None and self._snapshot is not None:  # one that stands for all of a backend
                price = self._snapshot.price(candidate.name)
            return float("inf") if price is None else price.most(prompt_tokens, completion_tokens)

        return sorted(found, key=cost)

    def _fastest(self, traffic: Traffic, found: list[C], now: float, stream: bool, *, learning: bool) -> list[C]:
        """The quickest first; now and then one that told nothing for a while, so that its recovery is seen."""
        speeds = [self._speed(c.name) for c in found]

        def seconds(place: int) -> float:
            told = speeds[place].first if stream else speeds[place].each
            return float("inf") if told is None else told

        places = sorted(range(len(found)), key=seconds)
        if not learning:
            return [found[place] for place in places]
        traffic.explored += 1
        for place in places[1:]:
            speed = speeds[place]
            unknown = seconds(place) == float("inf")
            if max(speed.seen, speed.tried) + _STALE < now and (unknown or traffic.explored >= _EXPLORE_EACH):
                traffic.explored = 0
                speed.tried = now
                places.remove(place)
                places.insert(0, place)
                break
        return [found[place] for place in places]

    def _speed(self, name: str) -> Speed:
        speed = self._speeds.get(name)
        if speed is None:
            if len(self._speeds) >= MOST_SPEEDS:
                del self._speeds[next(iter(self._speeds))]
            speed = self._speeds[name] = Speed()
        return speed

    # -- what is kept ------------------------------------------------------------------------------------------------
    def _able(self, candidates: Sequence[C], now: float) -> tuple[list[C], list[C]]:
        """Those that may be called, and those that failed a moment ago and come last."""
        found: list[C] = []
        last: list[C] = []
        for candidate in candidates:
            usable = self.health.usable(candidate.name, now)
            if usable:
                found.append(candidate)
            elif usable is None:
                last.append(candidate)
        return found, last

    def _traffic_of(self, route: Route | None, now: float) -> Traffic:
        name = route.name if route is not None else ""
        traffic = self._traffic.get(name)
        if traffic is None:
            if len(self._traffic) >= MOST_ROUTES:
                del self._traffic[next(iter(self._traffic))]
            traffic = self._traffic[name] = Traffic(route, now)
        elif traffic.route is not route:
            traffic.use(route)
        return traffic

    def _home(self, name: str, found: list[C], conversation: bytes, now: float) -> bool:
        """Whether the conversation has a home among these, where it would go whatever the strategy says."""
        home = self._homes.get((name, conversation))
        return home is not None and home[1] > now and any(c.name == home[0] for c in found)

    def _stay(self, name: str, found: list[C], conversation: bytes, now: float) -> None:
        """The conversation's home comes first, and is kept; of a new one, the first is the home."""
        key = (name, conversation)
        home = self._homes.pop(key, None)
        if home is not None and home[1] > now:
            for place, candidate in enumerate(found):
                if candidate.name == home[0]:
                    found.insert(0, found.pop(place))
                    break
        self._keep(key, found[0].name, now)

    def _keep(self, key: tuple[str, bytes], name: str, now: float) -> None:
        self._homes.pop(key, None)
        if len(self._homes) >= MOST_HOMES:
            self._homes.popitem(last=False)
        self._homes[key] = (name, now + HOME_SECONDS)


def _weighted(traffic: Traffic, found: list[C]) -> list[C]:
    """Smooth weighted round robin over those that may be called: each gains its share, the one that is chosen pays all.

    The others follow as the route has them. A share of 0 is never chosen while another has one.
    """
    standing, shares = traffic.standing, traffic.shares
    total = sum([shares.get(c.name, 0.0) for c in found])
    if not total:
        return found
    best, most = 0, float("-inf")
    for place, candidate in enumerate(found):
        share = shares.get(candidate.name, 0.0)
        if share:
            standing[candidate.name] = gained = min(standing[candidate.name] + share, total)
            if gained > most:
                best, most = place, gained
    standing[found[best].name] = max(most - total, -total)
    return [found[best], *found[:best], *found[best + 1 :]]


def _moved(average: float | None, told: float, outcome: Outcome, age: float) -> float:
    """An average with one more figure, which weighs more the older the last one is; a failure never makes it better."""
    if average is None:
        return told
    if outcome != "ok" and told < average:
        return average
    return average + max(_WEIGHT_OF_NEW, age / (age + _FADES)) * (told - average)


def _place(target: Target | None) -> tuple[str | None, ...] | None:
    if target is None:
        return None
    return target.backend, target.url, target.socket, target.key_env, *target.sockets
