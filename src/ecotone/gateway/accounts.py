"""What is counted for a scope: money in a window, rates, slots. Each is a few numbers; `limits` moves them."""

import math

from ecotone.gateway.windows import Window

MONEY, REQUESTS, TOKENS, SLOTS = "money", "requests", "tokens", "slots"
MINUTE = 60.0


def is_backends(scope: str) -> bool:
    """Whether a scope is a backend's: its limits are the operator's, not of those who call."""
    return scope.startswith("backend:")


class Account:
    """An amount that calls draw from: a budget in one window, or a slice of anything that a coordinator lent.

    `left` may be reserved now. `base` was spent before this process began, `spent` is that and what was settled since.
    What is reserved is `available - left - (spent - base)`, where `available` is `limit - base`, or for a slice what
    was granted and not given back. `free` is what the coordinator last said that nobody has.
    """

    __slots__ = (
        "back",
        "base",
        "dry",
        "ends",
        "free",
        "granted",
        "id",
        "kind",
        "lacking",
        "leased",
        "left",
        "limit",
        "quiet",
        "scope",
        "seen",
        "spent",
        "told",
        "window",
    )

    def __init__(
        self, scope: str, kind: str, name: str, limit: int, window: Window, base: int = 0, *, leased: bool = False
    ) -> None:
        self.scope = scope
        self.kind = kind
        self.id = name
        self.limit = limit
        self.window = window.label
        self.ends = window.ends
        self.base = self.spent = base
        self.left = 0 if leased else limit - base
        self.leased = leased
        self.granted = self.back = self.free = self.lacking = self.seen = self.told = 0
        self.dry = False
        self.quiet = 0.0

    def allow(self, limit: int) -> None:
        """Another limit from now on; a lent slice is given back, so that the new limit is not overdrawn with it."""
        if self.leased:
            self.back += max(self.left, 0)
            self.left = min(self.left, 0)
        else:
            self.left += limit - self.limit
        self.limit = limit

    @property
    def held(self) -> int:
        """Reserved by calls that run."""
        if self.leased:
            return self.granted - self.back - self.left - (self.spent - self.base)
        return self.limit - self.left - self.spent


class Bucket:
    """A rate of `limit` a minute, at most `limit` at once (generic cell rate algorithm, ITU-T I.371).

    `full` is the moment at which the bucket is full again, on the monotonic clock.
    """

    __slots__ = ("each", "full", "kind", "limit", "scope")

    def __init__(self, scope: str, kind: str, limit: int) -> None:
        self.scope = scope
        self.kind = kind
        self.full = -math.inf
        self.allow(limit)

    def allow(self, limit: int) -> None:
        """Another limit from now on; 0 lets nothing pass."""
        if limit <= 0:
            self.full = math.inf
        elif self.full == math.inf:
            self.full = -math.inf
        self.limit = max(limit, 0)
        self.each = MINUTE / limit if limit > 0 else 0.0

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` may be taken; 0 for now, infinite when it is more than ever fits."""
        if self.limit == 0 or amount > self.limit:
            return math.inf
        after = (self.full if self.full > now else now) + amount * self.each - now - MINUTE
        return after if after > 1e-9 else 0.0

    def left(self, now: float) -> int:
        """How many may be taken now."""
        if self.limit == 0:
            return 0
        return int((now + MINUTE - (self.full if self.full > now else now)) / self.each + 1e-6)

    def take(self, amount: int, now: float) -> None:
        """Take, or give back what is less than nothing."""
        self.full = (self.full if self.full > now else now) + amount * self.each


class Slots:
    """Requests at once, until the last byte."""

    __slots__ = ("limit", "running", "scope")

    def __init__(self, scope: str, limit: int) -> None:
        self.scope = scope
        self.limit = limit
        self.running = 0
