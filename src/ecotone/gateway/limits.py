"""Limits and budgets: reserved before a call, settled after it, exact for one process.

All runs on one thread and nothing waits between a check and what it allows, so a reservation is one step over all its
scopes: either everything is taken, or nothing. Money is integers of 10^-12 USD. A budget's window is by the wall clock,
looked at once a second and at each window's end; it never runs backwards. Rates are by the monotonic clock. With
`leases` the amounts are slices that a coordinator lent; `leases` and its background renew them.
"""

import math
import time
from collections.abc import Callable, Mapping

from ecotone.gateway.accounts import MINUTE, MONEY, SLOTS, TOKENS, Account, Bucket
from ecotone.gateway.answers import Refusal
from ecotone.gateway.leases import Slices
from ecotone.gateway.meters import Meters, Spent
from ecotone.gateway.plans import Plan
from ecotone.gateway.refusals import NotLeased, lost, never, not_leased, spent_up, too_fast, too_many, unpriced
from ecotone.gateway.snapshot import Limit
from ecotone.gateway.windows import FOREVER

_PLANS = 10_000
_OPEN = 1024
"""Plans that may have a share at once: all of them are folded ten times a second at most."""


class Hold:
    """What a call has reserved, until it is settled or released; both are idempotent.

    `more` is what it reserved after its plan was replaced (other limits, another window, a lease that ended), with the
    accounts that it lies in.
    """

    __slots__ = ("cost", "limiter", "more", "plan", "tokens")

    def __init__(self, limiter: "Limiter", plan: Plan | None, tokens: int, cost: int | None) -> None:
        self.limiter = limiter
        self.plan = plan
        self.tokens = tokens
        self.cost = cost
        self.more: list[tuple[int, tuple[Account, ...]]] | None = None

    def extend(self, tokens: int, cost: int | None) -> bool:
        """Reserve more for a call that outgrows its reservation; False, and nothing more is reserved, when refused."""
        plan = self.plan
        if plan is None or (cost is None and plan.money):
            return False
        accounts = self.limiter.current(plan).money
        for account in accounts:
            if cost is not None and account.left < cost:
                self.limiter.lacks(account, cost)
                return False
        if tokens and not self.limiter.more_tokens(plan, self.tokens, tokens):
            return False
        if cost is not None:
            for account in accounts:
                account.left -= cost
            if accounts == plan.money:
                self.cost = (self.cost or 0) + cost
            else:
                self.more = [*(self.more or ()), (cost, accounts)]
        self.tokens += tokens
        return True

    def lacking(self, cost: int) -> Account | None:
        """The first budget that has not so much left."""
        accounts = self.limiter.current(self.plan).money if self.plan is not None else ()
        return next((account for account in accounts if account.left < cost), None)

    def settle(self, tokens: int, cost: int | None) -> None:
        """What the call really used: the rest of its reservation is free again.

        Args:
            tokens: all tokens, in and out.
            cost: in 10^-12 USD; None when it is not known: then what was reserved counts as spent.
        """
        plan = self.plan
        if plan is None:
            return
        self.plan = None
        if self.more is not None:
            cost = self._settle_more(self.cost or 0, cost)
        if not plan.is_open:
            self.limiter.opens(plan)
        held = self.cost
        if held is not None:
            if cost is None:
                cost = held
            plan.left += held - cost
            plan.spent += cost
        plan.room += 1
        reserved = self.tokens
        if reserved <= plan.cap:
            plan.quota += reserved - tokens
        else:
            _return_each(plan, reserved, tokens)
        if plan.timed:
            self.limiter.ended(plan, reserved, tokens)
        if plan.left < 0 or plan.quota < 0:  # it used more than it held: others must know
            self.limiter.fold()

    def _settle_more(self, held: int, cost: int | None) -> int:
        """Settle what was reserved later; what of the cost is left for what was held at first."""
        more = self.more or []
        self.more = None
        if cost is None:
            cost = held + sum([amount for amount, _ in more])
        rest = max(cost - held, 0)
        for number, (amount, accounts) in enumerate(more):
            part = rest if number == len(more) - 1 else min(rest, amount)
            rest -= part
            for account in accounts:
                account.left += amount - part
                account.spent += part
        self.limiter.fold()
        return min(cost, held)

    def release(self) -> None:
        """The call came to nothing: money and tokens are free again. The request stays counted."""
        self.settle(0, 0)


class Limiter:
    """Counts for all scopes of one process.

    Args:
        leases: where slices come from when several processes share the limits; None for all in this one.
        clock: monotonic seconds.
        wall: seconds since the epoch.
        spent: what each budget had spent before this process began: of the whole ledger, or with leases of this
            writer's chain alone. The id of a user's or tag's own budget is `ID:SCOPE`.
    """

    def __init__(
        self,
        leases: Slices | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        *,
        spent: Spent | None = None,
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._look_at = -math.inf
        self._next_end = FOREVER
        self._limits: Mapping[str, Limit] = {}
        self._meters = Meters(leases, clock, wall, spent or {})
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._open: list[Plan] = []
        if leases is not None:
            leases.on_end = self.forget_slices
            leases.on_round = self.fold

    @property
    def is_lent(self) -> bool:
        """Whether what this process has are slices, of which more may come."""
        return self._leases is not None

    @property
    def in_touch(self) -> bool:
        """Whether who lends answered last."""
        return self._leases is None or self._leases.in_touch

    # -- the path ----------------------------------------------------------------------------------------------------
    def reserve(self, scopes: tuple[str, ...], tokens: int, cost: int | None, now: float) -> Hold:
        """Reserve for one call in all its scopes.

        Args:
            scopes: key, project, organisation, backend, users, tags: in a fixed order.
            tokens: the most that the call may use, in and out.
            cost: the most that it may cost in 10^-12 USD; None when its price is not known.
            now: the monotonic clock.

        Raises:
            Refusal: 429 for a rate, slots or money; nothing stays reserved. NotLeased, a 429, when a slice is
                on its way: `park` tells when to try again.
        """
        if now >= self._look_at:
            self._look(now)
        plan = self._plans.get(scopes)
        if plan is None:
            plan = self._planned(scopes, now)
        most = 0 if cost is None else cost
        if (
            most <= plan.left
            and tokens <= plan.quota
            and tokens <= plan.cap
            and plan.calls
            and plan.room > 0
            and (cost is not None or not plan.money)
        ):
            if plan.timed:
                self._enter(plan, tokens, now)
            plan.left -= most
            plan.calls -= 1
            plan.room -= 1
            plan.quota -= tokens
        else:
            self._draw(plan, tokens, cost, now)
        return Hold(self, plan, tokens, cost)

    def check(self, scopes: tuple[str, ...], cost: int | None, now: float) -> None:
        """Whether a call that costs at least so much could begin now; nothing is taken, nothing counted.

        Raises:
            Refusal: as of `reserve`. What only a slice is lacking for passes: it may have come when the call begins.
        """
        if now >= self._look_at:
            self._look(now)
        plan = self._plans.get(scopes)
        if plan is None:
            plan = self._planned(scopes, now)
        self.fold()
        try:
            self._check_money(plan, cost)
            for account in plan.lent:
                if account.kind is not TOKENS and account.left < 1:
                    self._short(account, 1)
        except NotLeased:
            return
        self._check(plan, 0, now)

    def _check_money(self, plan: Plan, cost: int | None) -> None:
        """Whether each budget has so much. Raises Refusal."""
        if plan.money and cost is None:
            raise unpriced(plan.money[0])
        for account in plan.money:
            if account.left < (cost or 0):
                self._short(account, cost or 0)

    def _draw(self, plan: Plan, tokens: int, cost: int | None, now: float) -> None:
        """Draw from the accounts themselves: there is no share that this call may take from, or too little in it."""
        if plan.is_open:
            plan.fold()
        if not plan.has(tokens, cost or 0):
            self.fold()  # what others drew ahead is free as well
        try:
            self._check_money(plan, cost)
            if plan.timed:
                self._check(plan, tokens, now)
            for account in plan.lent:
                if account.left < (amount := _amount(account, tokens)):
                    self._short(account, amount)
        except NotLeased:
            self._wish(plan, tokens, cost or 0)
            raise
        if plan.timed:
            self._enter(plan, tokens, now)
        for account in plan.money:
            account.left -= cost or 0
        for account in plan.lent:
            account.left -= _amount(account, tokens)
        if (plan.is_open or len(self._open) < _OPEN) and plan.fill(tokens, cost or 0) and not plan.is_open:
            self.opens(plan)

    def _wish(self, plan: Plan, tokens: int, cost: int) -> None:
        """Ask for all that a call lacks: it waits one round for everything, not a round for each account."""
        wanted = [(account, cost) for account in plan.money]
        wanted += [(account, _amount(account, tokens)) for account in plan.lent]
        for account, amount in wanted:
            if account.left < amount <= account.limit:
                self.lacks(account, amount)

    def current(self, plan: Plan) -> Plan:
        """What now stands for the scopes of a plan, all accounts up to date."""
        now = self._clock()
        if now >= self._look_at:
            self._look(now)
        self.fold()
        try:
            return self._plans.get(plan.scopes) or self._planned(plan.scopes, now)
        except Refusal:  # of a template that has no room for one more
            return plan

    def opens(self, plan: Plan) -> None:
        """Something lies with the plan that its accounts do not know of."""
        plan.is_open = True
        self._open.append(plan)

    def fold(self) -> None:
        """Bring all accounts up to date."""
        if self._open:
            for plan in self._open:
                plan.fold()
                plan.is_open = False
            self._open.clear()

    def _check(self, plan: Plan, tokens: int, now: float) -> None:
        """Whether every rate and slot has room. The arithmetic is that of `Bucket`, without its calls."""
        horizon = now + MINUTE + 1e-9
        for slots in plan.slots:
            if slots.running >= slots.limit:
                raise too_many(slots.scope, slots.limit)
        for bucket in plan.requests:
            if bucket.full + bucket.each > horizon:
                raise _too_fast(bucket, 1, now)
        for bucket in plan.tokens:
            if bucket.full + (tokens if tokens < bucket.limit else bucket.limit) * bucket.each > horizon:
                raise _too_fast(bucket, _amount(bucket, tokens), now)

    def _enter(self, plan: Plan, tokens: int, now: float) -> None:
        """Check every rate and slot, then take them all."""
        self._check(plan, tokens, now)
        for slots in plan.slots:
            slots.running += 1
        for bucket in plan.requests:
            full = bucket.full
            bucket.full = (full if full > now else now) + bucket.each
        for bucket in plan.tokens:
            full = bucket.full
            amount = tokens if tokens < bucket.limit else bucket.limit
            bucket.full = (full if full > now else now) + amount * bucket.each

    def ended(self, plan: Plan, reserved: int, tokens: int) -> None:
        """A call ended: its slots are free, its tokens are corrected by the difference to what was reserved."""
        for slots in plan.slots:
            slots.running -= 1
        for bucket in plan.tokens:
            less = (reserved if reserved < bucket.limit else bucket.limit) - tokens
            if less >= 0:
                bucket.full -= less * bucket.each
            else:
                bucket.take(-less, self._clock())

    def more_tokens(self, plan: Plan, reserved: int, tokens: int) -> bool:
        """Take tokens for a call that runs; False when a rate has no room."""
        now = self._clock()
        lent = [account for account in plan.lent if account.kind is TOKENS]
        if any(bucket.wait(_more(bucket, reserved, tokens), now) for bucket in plan.tokens):
            return False
        if any(account.left < _more(account, reserved, tokens) for account in lent):
            return False
        for bucket in plan.tokens:
            bucket.take(_more(bucket, reserved, tokens), now)
        for account in lent:
            account.left -= _more(account, reserved, tokens)
        return True

    def lacks(self, account: Account, amount: int) -> None:
        """Ask for a larger slice."""
        if self._leases is not None:
            account.lacking = max(account.lacking, amount - account.left)
            self._leases.poke(account)

    def _short(self, account: Account, amount: int) -> None:
        """Less is left than is wanted. Returns when nothing is wanted: a call that costs nothing needs no budget."""
        if amount <= 0:
            return
        if self._leases is None:
            raise spent_up(account, amount)
        if account.limit < amount:
            raise spent_up(account, amount) if account.kind is MONEY else never(account)
        dry = account.dry
        self.lacks(account, amount)
        if dry:
            if account.kind is MONEY:
                raise spent_up(account, amount)
            if account.kind is SLOTS:
                raise too_many(account.scope, account.limit)
            wait = max(account.lacking * 60.0 / max(account.limit, 1), 0.05)
            raise too_fast(account.scope, account.kind, account.limit, wait, account.left + account.free)
        raise not_leased(account) if self._leases.in_touch else lost(account)

    # -- off the path ------------------------------------------------------------------------------------------------
    def _look(self, now: float) -> None:
        """Look at the wall clock, and roll the windows that ended."""
        self.fold()
        self._meters.look()
        if self._leases is not None and self._leases.over(now):
            self.forget_slices()
        if self._meters.now >= self._next_end:
            self._meters.roll()
            self._plans.clear()
            self._next_end = self._meters.next_end()
        self._look_at = now + min(1.0, max(self._next_end - self._meters.now, 0.0))

    def use(self, limits: Mapping[str, Limit]) -> None:
        """Other limits from now on. What was spent in a window stays spent; calls that run stay counted."""
        if limits is self._limits:
            return
        self.fold()
        self._limits = limits
        self._meters.look()
        self._meters.use(limits)
        self._plans.clear()
        self._next_end = self._meters.next_end()
        self._look_at = -math.inf

    def _planned(self, scopes: tuple[str, ...], now: float) -> Plan:
        self.fold()
        if len(self._plans) >= _PLANS:
            self._plans.clear()
        meters = [meter for scope in dict.fromkeys(scopes) if (meter := self._meters.of(scope)) is not None]
        plan = self._plans[scopes] = Plan(meters, scopes)
        self._next_end = min([self._next_end, *(account.ends for account in plan.money)])
        self._look_at = min(self._look_at, now + max(self._next_end - self._meters.now, 0.0))
        return plan

    def forget_slices(self) -> None:
        """The lease has ended: nothing of it may be used. Calls that run count as spent with what they reserved."""
        self.fold()
        if self._leases is not None:
            self._leases.begin_anew()
            self._meters.forget_slices()
            self._plans.clear()

    def park(self, callback: Callable[[], None]) -> None:
        """After NotLeased: call back once when slices may have come, a round of the coordinator later."""
        if self._leases is None:
            callback()
        else:
            self._leases.park(callback)

    def spent(self) -> dict[str, tuple[str, int, int]]:
        """By a budget's id: its window, what was spent in it, what calls that run hold; as this process knows it."""
        self.fold()
        return {a.id: (a.window, a.spent, max(a.held, 0)) for a in self._meters.money()}


def _amount(counted: Bucket | Account, tokens: int) -> int:
    """What a call takes of a rate or of slots: of tokens no more than a minute has, as most calls use far less than
    they may; what they really used is counted when they end."""
    return min(tokens, counted.limit) if counted.kind is TOKENS else 1


def _return_each(plan: Plan, reserved: int, tokens: int) -> None:
    """Correct the tokens of a call that reserved more than some accounts have: from each another amount."""
    for account in plan.lent:
        if account.kind is TOKENS:
            account.left -= tokens - _amount(account, reserved)


def _more(counted: Bucket | Account, reserved: int, tokens: int) -> int:
    return _amount(counted, reserved + tokens) - _amount(counted, reserved)


def _too_fast(bucket: Bucket, amount: int, now: float) -> Refusal:
    wait = bucket.wait(amount, now)
    if wait == math.inf:
        return never(bucket)
    return too_fast(bucket.scope, bucket.kind, bucket.limit, wait, bucket.left(now))
