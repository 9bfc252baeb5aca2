"""What the calls of one tuple of scopes draw from, and what is drawn ahead for them in one go.

A call draws the same from each of its accounts: its cost from every budget, one from every slice of requests and of
slots, its tokens from every slice of tokens. So a plan that is used a lot draws a share of what is left from all of
them at once, and its calls then take from that share: one number for each kind, however many accounts stand behind it.
What lies in the share counts as reserved; it goes back, and what was spent is told to the accounts (`fold`), before
anything is refused, renewed, rolled or shown. So nothing is refused or allowed that would not be without shares.
"""

from ecotone.gateway.accounts import REQUESTS, SLOTS, TOKENS, Account, Bucket, is_backends
from ecotone.gateway.meters import Meter
from ecotone.gateway.rates import rate_lines

_ENDLESS = 1 << 62
_PART = 16
_WORTH = 16
"""Calls like the present one that a share must hold to be worth drawing."""


class Plan:
    """Resolved once for each tuple of scopes.

    `money` to `slots` are what is counted, by kind; `lent` are slices of rates and of slots. The share: `left` money,
    `calls`, `room` among the slots, `quota` of tokens, and `spent` money that the accounts do not know of yet; a kind
    that nothing limits is endless. `is_open`: the limiter knows that something lies here. `cap` is the most tokens of a
    call that draws the same from each account. `rated`: by kind the rates of those who call, who are told, and `told`
    what they were told last, and when.
    """

    __slots__ = (
        "calls", "cap", "is_open", "left", "lent", "money", "quota", "rated", "requests", "room", "scopes", "slots",
        "spent", "timed", "tokens", "told", "told_at",
    )  # fmt: skip

    def __init__(self, meters: list[Meter], scopes: tuple[str, ...] = ()) -> None:
        self.scopes = scopes
        self.money = tuple(account for meter in meters for account in meter.money)
        self.requests = tuple(b for meter in meters for b in meter.buckets if b.kind is REQUESTS)
        self.tokens = tuple(b for meter in meters for b in meter.buckets if b.kind is TOKENS)
        self.slots = tuple(meter.slots for meter in meters if meter.slots is not None)
        self.lent = tuple(account for meter in meters for account in meter.drawn)
        self.timed = bool(self.requests or self.tokens or self.slots)
        self.cap = min((account.limit for account in self.lent if account.kind is TOKENS), default=_ENDLESS)
        self.rated = [(kind, ours, lent) for kind, ours, lent in self._rates() if ours or lent]
        self.told, self.told_at = b"", 0.0
        self.is_open = False
        self._empty()

    def _rates(self) -> list[tuple[str, tuple[Bucket, ...], tuple[Account, ...]]]:
        """What limits who calls, by kind. A backend's own limits are the operator's affair."""
        return [
            (
                kind,
                tuple(bucket for bucket in buckets if not is_backends(bucket.scope)),
                tuple(a for a in self.lent if a.kind is kind and not is_backends(a.scope)),
            )
            for kind, buckets in ((REQUESTS, self.requests), (TOKENS, self.tokens))
        ]

    def _empty(self) -> None:
        kinds = {account.kind for account in self.lent}
        self.left = 0 if self.money else _ENDLESS
        self.calls = 0 if REQUESTS in kinds else _ENDLESS
        self.room = 0 if SLOTS in kinds else _ENDLESS
        self.quota = 0 if TOKENS in kinds else _ENDLESS
        self.spent = 0

    def fold(self) -> None:
        """Give the share back and tell what was spent."""
        for account in self.money:
            account.left += self.left
            account.spent += self.spent
        for account in self.lent:
            kind = account.kind
            account.left += self.quota if kind is TOKENS else self.room if kind is SLOTS else self.calls
        self._empty()

    def fill(self, tokens: int, cost: int) -> bool:
        """Draw a share, if it would last for some calls like this one; returns whether it did."""
        if tokens > self.cap:
            return False
        money = _share(self.money, cost)
        by_kind = {kind: [a for a in self.lent if a.kind is kind] for kind in (REQUESTS, SLOTS, TOKENS)}
        calls, room = _share(by_kind[REQUESTS], 1), _share(by_kind[SLOTS], 1)
        quota = _share(by_kind[TOKENS], tokens)
        if min(money, calls, room, quota) < 0:
            return False
        for accounts, share in ((self.money, money), *zip(by_kind.values(), (calls, room, quota), strict=True)):
            for account in accounts:
                account.left -= share
        self.left, self.calls, self.room, self.quota = money, calls, room, quota
        return True

    def tell(self, now: float, age: float) -> bytes:
        """Header lines of the rates, at most so many seconds old."""
        if not age or now - self.told_at > age:
            self.told, self.told_at = rate_lines(self.rates(now)), now
        return self.told

    def rates(self, now: float) -> list[tuple[str, int, int]]:
        """Of requests and of tokens, the tightest limit: kind, how many a minute, how many of them may be used now.

        The last is less than nothing where calls used more than they had reserved. Of slices it is what this process
        has, and what the coordinator had when it was last asked.
        """
        found = []
        for kind, buckets, lent in self.rated:
            limit, least = 0, _ENDLESS
            for bucket in buckets:
                left = bucket.left(now)
                if left < least:
                    limit, least = bucket.limit, left
            for account in lent:
                left = account.left + account.free + (self.quota if kind is TOKENS else self.calls)
                if left < least:
                    limit, least = account.limit, left
            if limit > 0:
                found.append((kind, limit, least if least < limit else limit))
        return found

    def has(self, tokens: int, cost: int) -> bool:
        """Whether each account has enough for a call; those with fewer tokens than it wants may not."""
        return all(account.left >= cost for account in self.money) and all(
            account.left >= (tokens if account.kind is TOKENS else 1) for account in self.lent
        )


def _share(accounts: "tuple[Account, ...] | list[Account]", each: int) -> int:
    """What may be drawn from each of these ahead; endless for none, -1 when it would not last."""
    if not accounts:
        return _ENDLESS
    share = min(account.left for account in accounts) // _PART
    return share if share >= each * _WORTH else -1
