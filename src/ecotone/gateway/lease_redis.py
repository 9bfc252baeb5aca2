"""The coordinator across machines: Redis, with one script for each pot. Needs the extra `redis`.

Money is counted there in 10^-9 USD, as scripts calculate in doubles, which are exact up to 2^53: the most that a budget
can hold is 9,007,199 USD in a window. Rounding is always against the worker. What a worker was lent of money stays lent
when it dies: a worker of the same name that starts again, or `take_back`, tells what the ledger says was spent, and the
rest is free again; rates and slots are free when the lease ends. After Redis was found empty nothing is lent for a
lease's time, in which every living worker tells what it spent; so Redis should keep its data over restarts.
"""

import importlib
from collections.abc import Awaitable, Mapping
from typing import Any

from ecotone.gateway.accounts import MONEY
from ecotone.gateway.leases import LEASE_SECONDS, Grant, Need, Renewal, Renewed
from ecotone.vocabulary import EcotoneError

_NANO = 1000
_MOST = 2**53 - 1
_KEPT_SECONDS = 86_400
_SECONDS = 2.0

_HELLO = """
local time = redis.call('TIME'); local now = time[1] + time[2] / 1e6
local worker, epoch, seconds, has = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
if redis.call('SETNX', KEYS[2], string.format('%.6f', now)) == 1 and ARGV[5] == '1' then
  redis.call('SET', KEYS[2], '0')
end
local known = redis.call('HGET', KEYS[1], worker)
local same, alive = false, false
if known then
  local at = string.find(known, ' ')
  same = string.sub(known, 1, at - 1) == epoch
  alive = now - tonumber(string.sub(known, at + 1)) <= seconds
end
if has and not (same and alive) then return {1, 0, 0} end
redis.call('HSET', KEYS[1], worker, epoch .. ' ' .. string.format('%.6f', now))
local count = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 2, #all, 2 do
  if now - tonumber(string.sub(all[i], string.find(all[i], ' ') + 1)) <= seconds then count = count + 1 end
end
local open = now - tonumber(redis.call('GET', KEYS[2])) >= seconds
return {0, count, open and 1 or 0}
"""

_GRANT = """
local time = redis.call('TIME'); local now = time[1] + time[2] / 1e6
local worker, epoch, kind, seconds = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local limit, base, used, back = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local want, least, alive, open = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12] == '1'
local pot, workers = {}, {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do pot[flat[i]] = flat[i + 1] end
local function number(field) return tonumber(pot[field] or '0') end
local function set(field, value)
  pot[field] = string.format('%.0f', value)
  redis.call('HSET', KEYS[1], field, pot[field])
end
local full = number('full')
local function take(amount)
  if kind ~= 'money' and kind ~= 'slots' and limit > 0 and amount ~= 0 then
    full = math.max(full, now) + amount * 60 / limit
    redis.call('HSET', KEYS[1], 'full', string.format('%.6f', full))
  end
end
if pot['e:' .. worker] ~= epoch then
  set('b:' .. worker, math.max(base, number('b:' .. worker) + number('u:' .. worker)))
  set('u:' .. worker, 0); set('g:' .. worker, 0); set('k:' .. worker, 0)
  pot['e:' .. worker] = epoch
  redis.call('HSET', KEYS[1], 'e:' .. worker, epoch)
end
if back > number('k:' .. worker) then take(number('k:' .. worker) - back); set('k:' .. worker, back) end
if used > number('u:' .. worker) then set('u:' .. worker, used) end
local free = limit
if kind == 'money' or kind == 'slots' then
  for field in pairs(pot) do
    if string.sub(field, 1, 2) == 'e:' then
      local name = string.sub(field, 3)
      local heard = redis.call('HGET', KEYS[2], name)
      local gone = not heard or now - tonumber(string.sub(heard, string.find(heard, ' ') + 1)) > seconds
      local out = math.max(number('g:' .. name) - number('k:' .. name) - number('u:' .. name), 0)
      if kind == 'money' then
        free = free - number('b:' .. name) - number('u:' .. name) - out
      elseif not gone then
        free = free - out
      end
    end
  end
elseif limit > 0 then
  free = math.floor((now + 60 - math.max(full, now)) * limit / 60 + 1e-6)
end
if not open then free = 0 end
local amount = 0
if want > 0 and least <= free then
  local share = math.max(math.floor(free / (2 * math.max(alive, 1))), 1)
  amount = math.max(math.min(free, math.max(least, math.min(want, share))), 0)
end
local dry = want > 0 and amount <= 0
local scarce = 0
if dry and least > 0 then
  redis.call('HSET', KEYS[1], 'scarce', string.format('%.6f', now + 3))
  redis.call('HSET', KEYS[1], 'lacks', worker)
elseif least <= 0 and number('scarce') > now and pot['lacks'] ~= worker then
  scarce = 1
end
set('g:' .. worker, number('g:' .. worker) + amount)
take(amount)
if tonumber(ARGV[13]) > 0 then redis.call('EXPIREAT', KEYS[1], ARGV[13]) end
return {pot['g:' .. worker], (dry and open) and 1 or 0, scarce, math.max(free - amount, 0)}
"""

_TAKE_BACK = """
local function number(field) return tonumber(redis.call('HGET', KEYS[1], field) or '0') end
local told = number('b:' .. ARGV[1]) + number('u:' .. ARGV[1])
redis.call('HSET', KEYS[1], 'b:' .. ARGV[1], string.format('%.0f', math.max(told, tonumber(ARGV[2]))))
for _, letter in ipairs({'u:', 'g:', 'k:'}) do redis.call('HSET', KEYS[1], letter .. ARGV[1], '0') end
redis.call('HSET', KEYS[1], 'e:' .. ARGV[1], 'taken back')
"""


class RedisMissing(EcotoneError):
    """The extra is not installed."""

    def __init__(self) -> None:
        super().__init__('Limits across machines need the Redis client: pip install "ecotone[redis]"')


class RedisCoordinator:
    """Asks Redis for slices.

    Args:
        url: `redis://host:port/0`, `rediss://` or `unix://`; may hold a password, which stands in no error.
        seconds: how long a lease lasts.
        prefix: of all keys; one for each installation.
        alone: no other worker has spent anything that Redis does not know: lend at once from an empty Redis.
    """

    def __init__(
        self, url: str, *, seconds: float = LEASE_SECONDS, prefix: str = "ecotone", alone: bool = False
    ) -> None:
        try:
            client = importlib.import_module("redis.asyncio")
            self._errors = importlib.import_module("redis.exceptions").RedisError
        except ImportError:
            raise RedisMissing from None
        try:
            self._redis: Any = client.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
        except ValueError:  # its text may hold the password
            raise EcotoneError(
                "The address of Redis in ECOTONE_LIMITS_URL cannot be read; redis://[:PASSWORD@]HOST:PORT/NUMBER is "
                "expected, with a password written as in any URL (%40 for @)."
            ) from None
        self._seconds = seconds
        self._prefix = "{" + prefix + "}:lease"
        self._alone = alone
        self._hello = self._redis.register_script(_HELLO)
        self._grant = self._redis.register_script(_GRANT)
        self._take_back = self._redis.register_script(_TAKE_BACK)

    async def renew(self, renewal: Renewal) -> Renewed:
        """Raises ConnectionError without contact."""
        renewed: Renewed = await self._told(self._renewed(renewal))
        return renewed

    async def take_back(self, worker: str, total: Mapping[str, tuple[str, int]]) -> None:
        """A worker is dead and will not come again: what its chain of the ledger says, by budget id, is spent, and the
        rest of its slices is free. Raises ConnectionError without contact."""
        await self._told(self._taken_back(worker, total))

    async def born(self) -> str:
        """When Redis was first asked; another time after it was emptied. Raises ConnectionError without contact."""
        found = await self._told(self._redis.get(f"{self._prefix}:born"))
        return found.decode() if found is not None else ""

    async def close(self) -> None:
        await self._redis.aclose()

    async def _told(self, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except (self._errors, OSError) as error:
            raise ConnectionError(f"Redis does not answer ({type(error).__name__})") from None

    async def _renewed(self, renewal: Renewal) -> Renewed:
        has = any(need.granted for need in renewal.needs)
        expired, alive, opened = await self._hello(
            keys=[f"{self._prefix}:workers", f"{self._prefix}:born"],
            args=[renewal.worker, renewal.epoch, self._seconds, int(has), int(self._alone)],
        )
        if expired or not renewal.needs:
            return Renewed(bool(expired), self._seconds, [])
        pipe = self._redis.pipeline(transaction=False)
        for need in renewal.needs:
            await self._grant(
                keys=[self._pot(need.id, need.window), f"{self._prefix}:workers"],
                args=[
                    renewal.worker,
                    renewal.epoch,
                    need.kind,
                    self._seconds,
                    *_figures(need),
                    alive,
                    opened,
                    _end(need),
                ],
                client=pipe,
            )
        grants = []
        for need, (granted, dry, scarce, free) in zip(renewal.needs, await pipe.execute(), strict=True):
            unit = _NANO if need.kind == MONEY else 1
            grants.append(Grant(need.id, need.window, int(granted) * unit, bool(dry), bool(scarce), free * unit))
        return Renewed(False, self._seconds, grants)

    async def _taken_back(self, worker: str, total: Mapping[str, tuple[str, int]]) -> None:
        await self._redis.hdel(f"{self._prefix}:workers", worker)
        for name, (window, spent) in total.items():
            await self._take_back(keys=[self._pot(name, window)], args=[worker, -(-spent // _NANO)])

    def _pot(self, name: str, window: str) -> str:
        return f"{self._prefix}:{name}@{window}"


def _figures(need: Need) -> list[int]:
    """limit, base, used, back, want, least in the units of Redis; roundings never make more of what is there."""
    if need.kind != MONEY:
        return [need.limit, need.base, need.used, need.back, need.want, need.least]
    return [
        min(need.limit // _NANO, _MOST),
        min(-(-need.base // _NANO), _MOST),
        need.used // _NANO,
        need.back // _NANO,
        -(-need.want // _NANO),
        -(-need.least // _NANO),
    ]


def _end(need: Need) -> int:
    return int(need.ends) + _KEPT_SECONDS if need.ends != float("inf") else 0


__all__ = ["RedisCoordinator", "RedisMissing"]
