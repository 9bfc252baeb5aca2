"""The arithmetic of leases: messages are lost, workers die and come back, time passes, and nothing is overspent."""

from collections.abc import Coroutine
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecotone.gateway.answers import Refusal
from ecotone.gateway.lease_pool import Pool
from ecotone.gateway.leases import Renewal, Renewed, Slices
from ecotone.gateway.limits import Hold, Limiter
from ecotone.gateway.snapshot import Budget, Limit

LIMIT = 1000
LIMITS = {"project:p": Limit(budgets=(Budget(id="b", limit=LIMIT, window="total"),), concurrent=4)}
SECONDS = 4.0


class Lossy:
    """Carries a worker's messages to the pool, or loses the next one on its way there or back."""

    def __init__(self, house: "House") -> None:
        self.house = house
        self.fate = "ok"

    async def renew(self, renewal: Renewal) -> Renewed:
        fate, self.fate = self.fate, "ok"
        if fate == "lost":
            raise ConnectionError
        answer = self.house.pool.renew(renewal, self.house.now)
        if fate == "half":
            raise ConnectionError
        return answer

    async def close(self) -> None: ...


class Worker:
    """One process: its slices, its limiter, and its journal, which outlives it."""

    def __init__(self, house: "House", name: str) -> None:
        self.house = house
        self.name = name
        self.settled = 0
        self.open: list[tuple[Hold, int]] = []
        self.start()

    def start(self) -> None:
        self.line = Lossy(self.house)
        self.slices = Slices(self.line, self.name, clock=lambda: self.house.now)
        self.limiter = Limiter(
            self.slices, lambda: self.house.now, lambda: self.house.now, spent={"b": ("total", self.used)}
        )
        self.limiter.use(LIMITS)

    @property
    def used(self) -> int:
        return self.settled + sum(cost for _, cost in self.open)

    def die(self) -> None:
        """What was open is settled as an estimate of what it had reserved."""
        self.settled, self.open = self.used, []

    def call(self, cost: int) -> bool:
        try:
            self.open.append((self.limiter.reserve(("project:p",), 0, cost, self.house.now), cost))
        except Refusal:
            return False
        return True

    def call_on_a_slice(self, cost: int) -> None:
        """Refused at first, for want of a slice."""
        self.call(cost)
        self.round()
        assert self.call(cost)

    def end(self, place: int, share: float) -> None:
        if self.open:
            hold, cost = self.open.pop(place % len(self.open))
            used = int(cost * share)
            self.settled += used
            if any(hold is each for each in self.house.held_over):
                self.house.stranded += cost - used
            hold.settle(0, used)

    def round(self) -> None:
        done(self.slices.round())


def done(work: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    try:
        work.send(None)
    except (StopIteration, ConnectionError):
        return
    raise AssertionError("it waits")


class House:
    """Three workers and their coordinator."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.held_over: list[Hold] = []
        """Calls that ran while the coordinator began anew or their worker's leases ended: they count as spent with
        what they had reserved."""
        self.stranded = 0
        self.pool = Pool(SECONDS, {})
        self.workers = [Worker(self, f"w{n}") for n in range(3)]

    def totals(self) -> dict[str, dict[str, tuple[str, int]]]:
        return {worker.name: {"b": ("total", worker.used)} for worker in self.workers}

    def later(self, seconds: float) -> None:
        self.now += seconds
        for name in self.pool.ended(self.now):
            self.pool.take_back(name, self.totals()[name])
            self.held_over += [hold for worker in self.workers if worker.name == name for hold, _ in worker.open]

    @property
    def used(self) -> int:
        return sum(worker.used for worker in self.workers)


KINDS = ["call", "call", "call", "end", "end", "round", "round", "lost", "half", "tick", "die", "anew"]
ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["call", "call", "call", "end", "end", "round", "round", "lost", "half", "tick", "die", "anew"]
        ),
        st.integers(0, 2),
        st.integers(1, 300),
        st.floats(0, 1),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(ACTS)
@example([("round", 0, 1, 0.0), ("call", 0, 1, 0.0), ("tick", 0, 1, 1.0), ("tick", 0, 1, 1.0), ("end", 0, 1, 0.0)])
def test_whatever_is_lost_and_whoever_dies_nothing_is_overspent_and_nothing_stays_lent(acts: list[Any]) -> None:
    house = House()
    for act, number, size, share in acts:
        worker = house.workers[number]
        if act == "call":
            worker.call(size)
        elif act == "end":
            worker.end(size, share)
        elif act == "tick":
            house.later(share * 3)
        elif act == "die":
            worker.die()
            worker.start()
        elif act == "anew":  # the coordinator starts again, when all leases of the one before have ended
            house.now += SECONDS
            house.pool = Pool(SECONDS, house.totals())
            house.held_over += [hold for each in house.workers for hold, _ in each.open]
        else:
            worker.line.fate = "ok" if act == "round" else act
            worker.round()
        assert house.used <= LIMIT
    for worker in house.workers:
        while worker.open:
            worker.end(0, 1.0)
    for _ in range(40):
        house.later(0.5)
        for worker in house.workers:
            worker.round()
    rest = LIMIT - house.used - house.stranded
    heir = house.workers[0]
    for _ in range(4):
        if rest <= 0 or heir.call(rest):
            break
        heir.round()
    assert LIMIT - house.stranded <= house.used <= LIMIT


def test_who_stops_gives_everything_back_and_asks_for_nothing_more() -> None:
    """What it asked for while it went would be lent to nobody for as long as it is away."""
    house = House()
    worker = house.workers[0]
    worker.call_on_a_slice(300)
    worker.end(0, 1.0)
    worker.round()
    assert house.pool.spent()["b"][2] > 0
    done(worker.slices.stop())
    assert house.pool.spent() == {"b": ("total", 300, 0)}


def test_who_stood_still_wants_what_it_uses_in_some_rounds_and_not_all_that_had_piled_up() -> None:
    """Else it takes what others need meanwhile: their streams are cut while there is money."""
    house = House()
    worker = house.workers[0]
    worker.call_on_a_slice(200)
    worker.end(0, 1.0)
    house.later(2.0)
    worker.round()
    assert house.pool.spent()["b"] == ("total", 200, 4 * 200 // 20)


def test_a_budget_that_is_dry_stays_so_for_who_settles_until_there_is_more() -> None:
    """A stream that outgrew its money would go on unpaid."""
    house = House()
    first, second = house.workers[:2]
    for worker, cost in ((first, 600), (second, 400)):
        worker.call_on_a_slice(cost)
    first.call(5)
    first.round()
    (account,) = first.limiter._meters.money()
    assert account.dry
    first.end(0, 1.0)
    first.round()
    assert account.dry, "it was told what was spent, and asked for nothing"
    second.end(0, 0.5)
    second.round()
    for _ in range(4):  # what lies idle is given back
        house.later(2.0)
        first.round()
        second.round()
    first.call(5)
    first.round()
    assert not account.dry and account.left >= 5
