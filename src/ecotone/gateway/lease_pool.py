"""What a coordinator knows: who was lent what, and what is free to lend. Pure; `lease_server` puts it on a socket."""

from collections.abc import Mapping

import msgspec

from ecotone.gateway.accounts import MINUTE, MONEY, SLOTS
from ecotone.gateway.leases import Grant, Need, Renewal, Renewed

Totals = Mapping[str, Mapping[str, tuple[str, int]]]
"""By worker and budget id: a window's label and what the worker's chain in the ledger spent and holds in it."""

_KEPT_SECONDS = 86_400.0
_SCARCE_SECONDS = 3.0


class Lent(msgspec.Struct):
    """What one worker has of one pot in its epoch; sums."""

    epoch: str
    used: int = 0
    granted: int = 0
    back: int = 0

    @property
    def out(self) -> int:
        return max(self.granted - self.back - self.used, 0)


class Pot(msgspec.Struct):
    """One budget in one window, one rate, or the slots of one scope.

    `base` is by worker what it spent before its epoch; `full` is when a rate's bucket is full again.
    """

    kind: str
    ends: float
    limit: int
    base: dict[str, int] = {}
    lent: dict[str, Lent] = {}
    full: float = float("-inf")

    def free(self, now: float) -> int:
        """What nobody has."""
        if self.kind in (MONEY, SLOTS):
            used = sum(self.base.values()) + sum(lent.used for lent in self.lent.values()) if self.kind == MONEY else 0
            return self.limit - used - sum(lent.out for lent in self.lent.values())
        if self.limit <= 0:
            return 0
        return int((now + MINUTE - max(self.full, now)) * self.limit / MINUTE + 1e-6)

    def take(self, amount: int, now: float) -> None:
        """Of a rate: these are lent, or given back when less than nothing."""
        if self.kind not in (MONEY, SLOTS) and self.limit > 0:
            self.full = max(self.full, now) + amount * MINUTE / self.limit


class Pool:
    """All pots.

    Args:
        seconds: how long a lease lasts.
        totals: what the ledger says each worker spent, its open reservations included.
    """

    def __init__(self, seconds: float, totals: Totals) -> None:
        self.seconds = seconds
        self._known: dict[str, dict[str, tuple[str, int]]] = {w: dict(by) for w, by in totals.items()}
        self._pots: dict[tuple[str, str], Pot] = {}
        self._heard: dict[str, tuple[str, float]] = {}
        self._scarce: dict[tuple[str, str], float] = {}

    def renew(self, renewal: Renewal, now: float) -> Renewed:
        """One round of a worker."""
        worker, epoch = renewal.worker, renewal.epoch
        known = self._heard.get(worker)
        strange = known is None or known[0] != epoch
        if strange and any(need.granted for need in renewal.needs):
            return Renewed(True, self.seconds, [])  # lent by another coordinator, or in a lease that has ended
        self._heard[worker] = (epoch, now)
        grants = [self._grant(worker, epoch, need, now) for need in renewal.needs]
        for key in [key for key, until in self._scarce.items() if until <= now]:
            del self._scarce[key]
        lacking = {(need.id, need.window) for need in renewal.needs if need.least}
        for name, window in self._scarce.keys() - lacking:
            lent = self._pots[name, window].lent.get(worker)
            if lent is not None and lent.epoch == epoch and lent.out:
                free = self._pots[name, window].free(now)
                grants.append(Grant(name, window, lent.granted, False, True, free))
        return Renewed(False, self.seconds, grants)

    def _grant(self, worker: str, epoch: str, need: Need, now: float) -> Grant:
        pot = self._pot(need)
        lent = pot.lent.get(worker)
        if lent is None or lent.epoch != epoch:
            # the worker says what it spent before this epoch; what it had been lent is gone with the last one
            told = pot.base.get(worker, 0) + (lent.used if lent is not None else 0)
            pot.base[worker] = max(need.base, told)
            lent = pot.lent[worker] = Lent(epoch)
        if need.back > lent.back:
            pot.take(lent.back - need.back, now)
        lent.used, lent.back = max(lent.used, need.used), max(lent.back, need.back)
        free = pot.free(now)
        amount = 0
        if need.want and need.least <= free:
            share = max(free // (2 * max(len(self._heard), 1)), 1)
            amount = max(min(free, max(need.least, min(need.want, share))), 0)
        dry = need.want > 0 and amount <= 0
        if dry and need.least:
            self._scarce[need.id, need.window] = now + _SCARCE_SECONDS
        lent.granted += amount
        pot.take(amount, now)
        return Grant(need.id, need.window, lent.granted, dry, free=max(free - amount, 0))

    def _pot(self, need: Need) -> Pot:
        pot = self._pots.get((need.id, need.window))
        if pot is None:
            base = {}
            if need.kind == MONEY:
                base = {
                    w: by[need.id][1] for w, by in self._known.items() if by.get(need.id, ("", 0))[0] == need.window
                }
            pot = self._pots[need.id, need.window] = Pot(need.kind, need.ends, need.limit, base, {})
        pot.limit = need.limit
        return pot

    def ended(self, now: float) -> list[str]:
        """Workers whose lease has ended."""
        return [worker for worker, (_, heard) in self._heard.items() if now - heard > self.seconds]

    def take_back(self, worker: str, total: Mapping[str, tuple[str, int]]) -> None:
        """A lease has ended: what the ledger says was spent is spent, the rest is free again."""
        self._heard.pop(worker, None)
        self._known[worker] = dict(total)
        for (name, window), pot in self._pots.items():
            lent = pot.lent.pop(worker, None)
            told = lent.used if lent is not None else 0
            label, spent = total.get(name, ("", 0))
            if pot.kind == MONEY:
                pot.base[worker] = max(pot.base.get(worker, 0) + told, spent if label == window else 0)

    def sweep(self, wall: float) -> None:
        """Forget the windows that ended a day ago."""
        for key in [key for key, pot in self._pots.items() if pot.ends + _KEPT_SECONDS < wall]:
            del self._pots[key]
            self._scarce.pop(key, None)

    def spent(self) -> dict[str, tuple[str, int, int]]:
        """By budget id: window, spent, and lent but not spent yet."""
        found = {}
        for (name, window), pot in self._pots.items():
            if pot.kind == MONEY:
                used = sum(pot.base.values()) + sum(lent.used for lent in pot.lent.values())
                found[name] = (window, used, sum(lent.out for lent in pot.lent.values()))
        return found
