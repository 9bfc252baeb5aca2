"""Slices of budgets, rates and slots that a coordinator lends to several processes which share them.

A worker keeps `Slices`: what it was lent, renewed in the background before it is used up. A `Coordinator` is asked in
rounds: the supervisor's socket on one machine (`lease_server`), Redis across machines (`lease_redis`). All figures in
the messages are sums since the worker's epoch began, so a message that is lost or sent twice changes nothing. What is
lent counts as used until it is told as spent or given back: overspend is 0. A worker that hears nothing for the time
of its lease throws its slices away, and the coordinator, which counts from later, takes them back.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from ecotone.gateway.accounts import MONEY, REQUESTS, SLOTS, Account

log = logging.getLogger("ecotone.gateway")

LEASE_SECONDS = 10.0
_EVERY_SECONDS = 0.1
_IDLE_SECONDS = 5.0
_GAP_SECONDS = 0.005
_MOST_USED = 2**62  # that a message holds
_SHARE = {MONEY: 50, REQUESTS: 20, "tokens": 20, SLOTS: 8}


class Need(msgspec.Struct, array_like=True):
    """What a worker says of one account. Sums since its epoch began; money in 10^-12 USD.

    `base` was spent by this worker before, `want` is what it would like, `least` what one refused call lacks.
    """

    id: str
    window: str
    kind: str
    ends: float
    limit: int
    base: int
    used: int
    granted: int
    back: int
    want: int
    least: int


class Renewal(msgspec.Struct, array_like=True):
    """One round of a worker; its `epoch` is new after each start and each lease that ended."""

    worker: str
    epoch: str
    needs: list[Need]


class Grant(msgspec.Struct, array_like=True):
    """What was granted in this epoch in sum; `dry` when not even the least can be had, `scarce` when others lack it.

    `free` is what nobody has after that, of a rate.
    """

    id: str
    window: str
    granted: int
    dry: bool
    scarce: bool = False
    free: int = 0


class Renewed(msgspec.Struct, array_like=True):
    """`expired`: the epoch is not known (any more). The lease lasts for `seconds` from when it was asked for."""

    expired: bool
    seconds: float
    grants: list[Grant]


class Coordinator(Protocol):
    """Hands out slices."""

    async def renew(self, renewal: Renewal) -> Renewed:
        """Raises OSError when it cannot be reached."""

    async def close(self) -> None: ...


class Slices:
    """What one worker was lent. All on the thread of its event loop.

    Args:
        coordinator: who lends.
        worker: a name that stays over restarts and is this process's alone: that of its chain in the ledger.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        worker: str,
        *,
        every: float = _EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._coordinator = coordinator
        self._worker = worker
        self._every = every
        self._clock = clock
        self._epoch = secrets.token_hex(8)
        self._active: dict[tuple[str, str], Account] = {}
        self._waiting: list[Callable[[], None]] = []
        self._poked = asyncio.Event()
        self._until = clock() + LEASE_SECONDS
        self._heard = float("-inf")
        self._looked = clock()
        self._seconds = LEASE_SECONDS
        self._ending = False
        self.in_touch = True
        self.met = asyncio.Event()
        """Set once the coordinator has answered for the first time."""
        self.on_end: Callable[[], None] = lambda: None
        self.on_round: Callable[[], None] = lambda: None

    # -- for the limiter ---------------------------------------------------------------------------------------------
    def add(self, account: Account) -> None:
        """An account that lives on slices from now on."""
        self._active[account.id, account.window] = account

    def poke(self, account: Account) -> None:
        """A call lacked something: ask soon."""
        self._active[account.id, account.window] = account
        self._poked.set()

    def park(self, callback: Callable[[], None]) -> None:
        """Call back once after the next round, whatever it brought."""
        self._waiting.append(callback)
        self._poked.set()

    def over(self, now: float) -> bool:
        """Whether the lease has ended; its slices must not be used then."""
        return now >= self._until

    def begin_anew(self) -> None:
        """Another epoch, with nothing lent yet."""
        self._epoch = secrets.token_hex(8)
        self._active.clear()
        self._until = self._clock() + LEASE_SECONDS

    # -- in the background -------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Renew until `end` is called. Not by cancelling: a client library may swallow that."""
        while not self._ending:
            try:
                await self.round()
            except (OSError, ValueError, TimeoutError) as error:
                if self.in_touch:
                    log.warning("no contact with the coordinator of limits: %s", error)
                self.in_touch = False
            except Exception:  # whatever it is, the worker must go on renewing
                log.exception("a round of leases failed")
                self.in_touch = False
            finally:
                waiting, self._waiting = self._waiting, []
                for callback in waiting:
                    callback()
            await asyncio.sleep(_GAP_SECONDS if self.in_touch else self._every)
            try:
                async with asyncio.timeout(self._every):
                    await self._poked.wait()
            except TimeoutError:
                pass
            self._poked.clear()

    async def round(self) -> None:
        """Tell what was used, give back what lies idle, ask for what is needed. Raises OSError without contact."""
        now = self._clock()
        if self.over(now):
            self.on_end()
        self.on_round()
        rounds = max((now - self._looked) / self._every, 1.0)  # that this one stands for: it may be late
        self._looked = now
        accounts = list(self._active.values())
        needs = [need for account in accounts if (need := self._need(account, now, rounds)) is not None]
        if not needs and now - self._heard < self._seconds / 4:
            return
        epoch = self._epoch
        renewed = await self._coordinator.renew(Renewal(self._worker, epoch, needs))
        if epoch != self._epoch:
            return
        self.in_touch = True
        self.met.set()
        if renewed.expired:
            self.on_end()
            self._poked.set()
            return
        self._heard, self._seconds, self._until = now, renewed.seconds, now + renewed.seconds
        for grant in renewed.grants:
            self._granted(grant)

    def end(self) -> None:
        """Let `run` return after the round that it is in."""
        self._ending = True
        self._poked.set()

    async def stop(self) -> None:
        """After `run` has returned: give everything back that no call holds, and ask for nothing."""
        self._ending = True
        self.on_round()
        for account in self._active.values():
            _give_back(account, account.left)
            account.told = -1
        await self.round()
        await self._coordinator.close()

    def _need(self, account: Account, now: float, rounds: float) -> Need | None:
        """What to say of an account; None when there is no news. What it wants is for some rounds to come."""
        used = min(account.spent - account.base, _MOST_USED)
        moved = account.granted - account.back - account.left
        lately, account.seen = moved - account.seen, moved
        if lately or account.lacking or not account.quiet:
            account.quiet = now
        idle = now - account.quiet > _IDLE_SECONDS
        target = max(account.limit // _SHARE[account.kind], int(4 * lately / rounds), account.lacking, 1)
        want = 0
        news = account.told != used + account.back
        if self._ending:
            pass
        elif idle:
            _give_back(account, account.left)
            if account.told == used + account.back and not account.left and (_is_rate(account) or not account.held):
                del self._active[account.id, account.window]
                return None
        elif account.lacking or (account.left * 2 < target and (news or not account.dry)):
            want = max(target - account.left, account.lacking)
        if not want and account.told == used + account.back:
            return None
        account.told = used + account.back
        return Need(
            account.id,
            account.window,
            account.kind,
            account.ends,
            account.limit,
            account.base,
            used,
            account.granted,
            account.back,
            want,
            account.lacking,
        )

    def _granted(self, grant: Grant) -> None:
        account = self._active.get((grant.id, grant.window))
        if account is None:
            return
        more = grant.granted - account.granted
        account.granted, account.free = grant.granted, grant.free
        account.left += more
        if more or grant.dry:  # what asked for nothing tells nothing of what there is
            account.dry = grant.dry
        if more or grant.dry or not grant.scarce:
            account.lacking = 0
        if grant.scarce:
            _give_back(account, account.left // 2)


def _is_rate(account: Account) -> bool:
    return account.kind not in (MONEY, SLOTS)


def _give_back(account: Account, amount: int) -> None:
    if amount > 0:
        account.left -= amount
        account.back += amount
