"""The counters of all scopes: made from the limits, kept over changes of them, rolled when a window ends."""

from collections.abc import Callable, Iterable, Mapping

from ecotone.gateway.accounts import MONEY, REQUESTS, SLOTS, TOKENS, Account, Bucket, Slots
from ecotone.gateway.leases import Slices
from ecotone.gateway.refusals import closed
from ecotone.gateway.snapshot import Limit
from ecotone.gateway.windows import FOREVER, Window, window_of

Spent = Mapping[str, tuple[str, int]]
"""By a budget's id: a window's label and what was spent in it."""

_EACH = 10_000
_AHEAD = 1000
_MARKS = ("/user:", "/tag:")
_ALWAYS = Window("", FOREVER)


class Meter:
    """The counters of one scope."""

    __slots__ = ("buckets", "drawn", "limit", "money", "slots")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.money: tuple[Account, ...] = ()
        self.buckets: tuple[Bucket, ...] = ()
        self.slots: Slots | None = None
        self.drawn: tuple[Account, ...] = ()


class Meters:
    """The meters of one process.

    Args:
        slices: what a coordinator lends; None to count alone.
        clock: monotonic seconds.
        wall: the present, in seconds since the epoch.
        spent: what each budget had spent before.
    """

    def __init__(
        self, slices: Slices | None, clock: Callable[[], float], wall: Callable[[], float], spent: Spent
    ) -> None:
        self._slices = slices
        self._clock = clock
        self._wall = wall
        self.now = wall()
        self._limits: Mapping[str, Limit] = {}
        self._meters: dict[str, Meter] = {}
        self._individuals: dict[str, int] = {}
        self._full: dict[str, float] = {}
        self._known: dict[str, tuple[str, int]] = dict(spent)

    def money(self) -> Iterable[Account]:
        return (account for meter in self._meters.values() for account in meter.money)

    def next_end(self) -> float:
        """When the first of the windows ends."""
        return min((account.ends for account in self.money()), default=FOREVER)

    def look(self) -> None:
        """Look at the wall clock; it never runs backwards here."""
        self.now = max(self.now, self._wall())

    def roll(self) -> None:
        """Begin the windows that follow those that have ended."""
        for scope, meter in self._meters.items():
            if any(account.ends <= self.now for account in meter.money):
                self._count_money(scope, meter, meter.limit)

    def use(self, limits: Mapping[str, Limit]) -> None:
        """Other limits from now on."""
        self._limits = limits
        for scope in list(self._meters):
            limit = self._limit_of(scope)
            if limit is None:
                self._retire(scope)
            elif limit != self._meters[scope].limit:
                self._count(scope, self._meters[scope], limit)
        if self._slices is not None:
            for scope in list(limits)[:_AHEAD]:
                if not scope.endswith(":*"):
                    self.of(scope)

    def forget_slices(self) -> None:
        """Nothing lent may be used any more. Calls that run count as spent with what they reserved."""
        for scope, meter in self._meters.items():
            for account in meter.money:
                self._remember(account)
            meter.money = meter.drawn = ()
            self._count(scope, meter, meter.limit)

    def of(self, scope: str) -> Meter | None:
        """The meter of a scope; None when nothing limits it. Raises Refusal when a template has no room."""
        meter = self._meters.get(scope)
        if meter is None:
            limit = self._limit_of(scope)
            if limit is None:
                return None
            if scope not in self._limits:
                self._admit(scope)
            meter = Meter(limit)
            self._count(scope, meter, limit)
            self._meters[scope] = meter
        return meter

    def _limit_of(self, scope: str) -> Limit | None:
        """A scope's own limit, else the template for users or tags of its project."""
        limit = self._limits.get(scope)
        if limit is None and (general := template(scope)) is not None:
            limit = self._limits.get(general)
        return limit

    def _admit(self, scope: str) -> None:
        """One more user or tag with counters of its own. Raises Refusal when there are too many."""
        general = template(scope) or ""
        count = self._individuals.get(general, 0)
        now = self._clock()
        if count >= _EACH and now >= self._full.get(general, now):
            self._full[general] = now + 1.0
            idle = [s for s, m in self._meters.items() if template(s) == general and _is_idle(m, now)]
            for gone in idle:
                self._retire(gone)
            count = self._individuals[general]
        if count >= _EACH:
            raise closed(general, _EACH)
        self._individuals[general] = count + 1

    def _count(self, scope: str, meter: Meter, limit: Limit) -> None:
        """Set a meter's counters to a limit, keeping what they counted."""
        leased = self._slices is not None
        self._count_money(scope, meter, limit)
        rates = [
            (kind, most) for kind, most in ((REQUESTS, limit.requests), (TOKENS, limit.tokens)) if most is not None
        ]
        if leased:
            wanted = rates + ([(SLOTS, limit.concurrent)] if limit.concurrent is not None else [])
            drawn = {account.kind: account for account in meter.drawn}
            meter.drawn = tuple(self._drawn(scope, drawn.get(kind), kind, most) for kind, most in wanted)
        else:
            buckets = {bucket.kind: bucket for bucket in meter.buckets}
            meter.buckets = tuple(buckets.get(kind) or Bucket(scope, kind, most) for kind, most in rates)
            for bucket, (_, most) in zip(meter.buckets, rates, strict=True):
                bucket.allow(most)
            if limit.concurrent is None:
                meter.slots = None
            elif meter.slots is None:
                meter.slots = Slots(scope, limit.concurrent)
            else:
                meter.slots.limit = limit.concurrent
        meter.limit = limit

    def _drawn(self, scope: str, known: Account | None, kind: str, most: int) -> Account:
        if known is None:
            known = Account(scope, kind, f"{scope}|{kind}", most, _ALWAYS, leased=True)
            self._lend(known)
        elif known.limit != most:
            known.allow(most)
        return known

    def _count_money(self, scope: str, meter: Meter, limit: Limit) -> None:
        """A counter for each budget: the one that runs, or a new one for a new budget or window."""
        own = "" if scope in self._limits else f":{scope}"
        known = {account.id: account for account in meter.money}
        found: list[Account] = []
        for budget in limit.budgets:
            name = budget.id + own
            account = known.pop(name, None)
            window = window_of(budget.window, self.now)
            if account is not None and account.ends > self.now and len(account.window) == len(window.label):
                if account.limit != budget.limit:
                    account.allow(budget.limit)
            else:
                if account is not None:
                    self._remember(account)
                account = self._opened(scope, name, budget.limit, window)
            found.append(account)
        for account in known.values():
            self._remember(account)
        meter.money = tuple(found)

    def _opened(self, scope: str, name: str, limit: int, window: Window) -> Account:
        """A counter that begins with what is known to be spent in its window. Labels of other kinds of window have
        another length: what was spent under one counts, as nothing better is known."""
        label, spent = self._known.get(name, ("", 0))
        if len(label) == len(window.label):
            if label < window.label:
                spent = 0
            elif label > window.label:
                window = Window(label, window.ends)  # the clock ran backwards while this process was away
        account = Account(scope, MONEY, name, limit, window, spent, leased=self._slices is not None)
        self._lend(account)
        return account

    def _lend(self, account: Account) -> None:
        if self._slices is not None:
            self._slices.add(account)

    def _remember(self, account: Account) -> None:
        """A counter that is not used now: if it comes back in the same window, it goes on where it was."""
        spent = account.spent + max(account.held, 0)
        if spent:
            self._known[account.id] = (account.window, spent)
        else:
            self._known.pop(account.id, None)

    def _retire(self, scope: str) -> None:
        meter = self._meters.pop(scope)
        for account in meter.money:
            self._remember(account)
        general = template(scope)
        if general in self._individuals:
            self._individuals[general] -= 1


def template(scope: str) -> str | None:
    """The scope under which the limit of each user or tag of a project stands."""
    for mark in _MARKS:
        at = scope.find(mark)
        if at >= 0:
            return scope[: at + len(mark)] + "*"
    return None


def _is_idle(meter: Meter, now: float) -> bool:
    """Whether forgetting a meter forgets nothing."""
    return (
        all(a.spent == 0 and a.held == 0 for a in meter.money)
        and all(bucket.full <= now for bucket in meter.buckets)
        and (meter.slots is None or not meter.slots.running)
        and all(a.kind is not SLOTS or not a.held for a in meter.drawn)
    )
