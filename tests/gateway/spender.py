"""A worker process that spends: reserves and settles through slices as fast as it can, and writes what it did.

    python spender.py WHERE NAME JOURNAL LIMITS.json SECONDS CALL_SECONDS

It says that it is ready, and begins at a line on its standard input. WHERE is the supervisor's socket or redis://...;
each line of the journal is written before what it says is done, as the ledger's records are: `+ID COST` a call began,
`-ID COST` it settled. The last line of the output is a sum in JSON.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from pathlib import Path

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.leases import Coordinator, Renewal, Renewed, Slices
from ecotone.gateway.limits import Limiter
from ecotone.gateway.refusals import NotLeased
from ecotone.gateway.snapshot import Limit

_SOME = 30


def totals(journals: Path, budget: str, window: str) -> dict[str, dict[str, tuple[str, int]]]:
    """What each worker spent and holds, read from all journals of a folder; a line being written is none yet."""
    found: dict[str, dict[str, tuple[str, int]]] = {}
    for journal in journals.glob("*.journal"):
        calls: dict[str, int] = {}
        for line in journal.read_text().rpartition("\n")[0].splitlines():
            name, _, cost = line[1:].partition(" ")
            calls[name] = int(cost)
        found[journal.stem] = {budget: (window, sum(calls.values()))}
    return found


async def spend(where: str, name: str, journal: Path, limits: Path, seconds: float, call_seconds: float) -> None:
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    noting = Noting(coordinator(where, seconds=1.0))
    slices = Slices(noting, name, every=0.02)
    known = totals(journal.parent, "b", "total").get(name, {})
    limiter = Limiter(slices, spent=known)
    chosen = msgspec.json.decode(limits.read_bytes(), type=dict[str, Limit])
    limiter.use(chosen)
    background = asyncio.create_task(slices.run())
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    done, refused = 0, dict[str, int]()
    dry: float | None = None  # when money was refused first; without a budget, a rate
    rates: list[float] = []
    running: list[tuple[float, float]] = []

    async def call(number: int) -> None:
        nonlocal done, dry
        cost = random.randint(1, 2 * 10**9)
        scopes = ("key:k", "project:p", "organisation")
        try:
            hold = limiter.reserve(scopes, 100, 2 * 10**9, time.monotonic())
        except NotLeased:
            event = asyncio.Event()
            limiter.park(event.set)
            await event.wait()
            refused["not leased"] = refused.get("not leased", 0) + 1
            return
        except Refusal as refusal:
            refused[refusal.code] = refused.get(refusal.code, 0) + 1
            if (refusal.is_about_money or (not of_money and refusal.status == 429)) and dry is None:
                dry = time.monotonic()
            await asyncio.sleep(0.02)
            return
        sent = time.monotonic()
        os.write(file, f"+{os.getpid()}.{number} {2 * 10**9}\n".encode())
        await asyncio.sleep(call_seconds)
        os.write(file, f"-{os.getpid()}.{number} {cost}\n".encode())
        rates.append(sent)
        running.append((sent, time.monotonic()))
        hold.settle(50, cost)
        done += 1

    number = 0
    of_money = any(limit.budgets for limit in chosen.values())

    def goes_on() -> bool:
        """For so many seconds; on a slow machine until a budget is spent and a moment more, or some calls are made and
        one was refused."""
        now = time.monotonic()
        if now < began + seconds:
            return True
        if not of_money:
            return now < began + 90 and (done <= _SOME or dry is None)
        return now < began + 90 and (dry is None or now < dry + 2)

    async def caller() -> None:
        nonlocal number
        while goes_on():
            number += 1
            await call(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(caller() for _ in range(8)))
    slices.end()
    await background
    with contextlib.suppress(OSError):
        await slices.stop()
    told = {"done": done, "refused": refused, "running": running, "leases_ended": len(noting.epochs) - 1}
    print(json.dumps(told), flush=True)


class Noting:
    """A coordinator as it is, and the epochs in which it was asked: one more for each lease that ended."""

    def __init__(self, asked: Coordinator) -> None:
        self._asked = asked
        self.epochs: set[str] = set()

    async def renew(self, renewal: Renewal) -> Renewed:
        self.epochs.add(renewal.epoch)
        return await self._asked.renew(renewal)

    async def close(self) -> None:
        await self._asked.close()


def coordinator(where: str, *, seconds: float) -> Coordinator:
    if where.startswith(("redis:", "unix:")):
        from ecotone.gateway.lease_redis import RedisCoordinator

        return RedisCoordinator(where, seconds=seconds, alone=True)
    from ecotone.gateway.lease_server import SocketCoordinator

    return SocketCoordinator(Path(where))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(
        spend(
            arguments[0],
            arguments[1],
            Path(arguments[2]),
            Path(arguments[3]),
            float(arguments[4]),
            float(arguments[5]),
        )
    )
