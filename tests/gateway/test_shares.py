"""What is drawn ahead changes nothing but the cost: no call is refused or allowed that would not be without it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.gateway.answers import Refusal
from ecotone.gateway.lease_pool import Pool
from ecotone.gateway.leases import Renewal, Renewed, Slices
from ecotone.gateway.limits import Hold, Limiter
from ecotone.gateway.snapshot import Budget, Limit
from tests.gateway.test_lease_pool import done

LIMITS = {
    "key:a": Limit(requests=50_000, tokens=2_000_000, budgets=(Budget(id="a", limit=300_000, window="total"),)),
    "key:b": Limit(tokens=900, budgets=(Budget(id="b", limit=40_000, window="total"),)),
    "project:p": Limit(concurrent=300, budgets=(Budget(id="p", limit=400_000, window="total"),)),
    "organisation": Limit(requests=60_000),
}
SCOPES = (("key:a", "project:p", "organisation"), ("key:b", "project:p", "organisation"), ("project:p",), ("nobody",))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call"] * 6 + ["end"] * 4 + ["round", "later", "extend"]),
        st.sampled_from(SCOPES),
        st.integers(0, 1500),
        st.integers(0, 3000) | st.none(),
        st.integers(1, 60),
    ),
    max_size=60,
)


class Process:
    """One process, with or without a coordinator; what it answers is kept in order."""

    def __init__(self, *, leased: bool, folds: bool) -> None:
        self.now = 1000.0
        self.folds = folds
        self.pool = Pool(1e9, {})
        self.slices = Slices(self, "w", clock=lambda: self.now) if leased else None
        self.limiter = Limiter(self.slices, lambda: self.now, lambda: self.now)
        self.limiter.use(LIMITS)
        self.open: list[Hold] = []
        self.told: list[object] = []
        self.round()
        self.round()

    async def renew(self, renewal: Renewal) -> Renewed:
        return self.pool.renew(renewal, self.now)

    async def close(self) -> None: ...

    def round(self) -> None:
        if self.slices is not None:
            done(self.slices.round())

    def step(self, act: str, scopes: tuple[str, ...], tokens: int, cost: int | None, times: int) -> None:
        for _ in range(times if act in ("call", "end") else 1):
            self._once(act, scopes, tokens, cost)
            if self.folds:
                self.limiter.fold()

    def _once(self, act: str, scopes: tuple[str, ...], tokens: int, cost: int | None) -> None:
        if act == "call":
            try:
                self.open.append(self.limiter.reserve(scopes, tokens, cost, self.now))
                self.told.append("taken")
            except Refusal as refusal:
                self.told.append((refusal.status, refusal.message))
        elif act == "end" and self.open:
            self.open.pop(tokens % len(self.open)).settle(tokens * 2 // 3, cost)
        elif act == "extend" and self.open:
            self.told.append(self.open[0].extend(tokens, cost))
        elif act == "later":
            self.now += tokens / 1000
        elif act == "round":
            self.round()


@settings(max_examples=60, deadline=None)
@given(STEPS, st.booleans())
def test_calls_get_the_same_answers_whether_shares_are_drawn_ahead_or_not(steps: list[Any], leased: bool) -> None:
    with_shares, without = Process(leased=leased, folds=False), Process(leased=leased, folds=True)
    for step in steps:
        with_shares.step(*step)
        without.step(*step)
        assert with_shares.told == without.told
    assert with_shares.limiter.spent() == without.limiter.spent()
    for hold in (*with_shares.open, *without.open):
        hold.release()
    assert with_shares.limiter.spent() == without.limiter.spent()
    assert all(held == 0 for _, _, held in with_shares.limiter.spent().values())


def test_a_stream_that_outlives_its_lease_draws_on_the_next_one_and_brings_back_nothing_of_the_first() -> None:
    """What was lent before must not be lent once more, nor take the place of what is lent now."""
    process = Process(leased=True, folds=False)
    process.step("call", SCOPES[0], 0, 3, 1)
    old = [account for account in process.limiter._meters.money() if account.granted]
    assert old
    process.limiter.forget_slices()
    now = list(process.limiter._meters.money())
    for _ in range(3):
        process.step("extend", SCOPES[0], 0, 10, 1)
        process.round()
    assert process.told[-3:] == [False, True, True]
    assert process.slices is not None
    assert not {id(account) for account in process.slices._active.values()} & {id(account) for account in old}
    process.step("end", SCOPES[0], 0, 23, 1)
    assert all(account.held == 0 for account in now)
    assert sorted({account.spent - account.base for account in now}) == [0, 20]


def test_what_no_call_took_of_a_share_is_not_shown_as_held() -> None:
    process = Process(leased=True, folds=False)
    process.step("call", SCOPES[0], 10, 3, 3)
    assert process.told == ["taken"] * 3
    held = process.limiter.spent()
    assert (held["a"][2], held["p"][2]) == (9, 9)


def test_the_first_call_after_a_pause_waits_one_round_however_many_limits_it_is_under() -> None:
    """What lies idle is given back. A call that fetched one account each round was refused with room in all of them."""
    process = Process(leased=True, folds=False)
    scopes = ("key:many", "project:many", "organisation:many", "backend:many")
    process.limiter.use(
        {
            scope: Limit(
                requests=10**6,
                tokens=10**9,
                concurrent=10**4,
                budgets=tuple(Budget(id=f"{scope}{i}", limit=10**9, window="total") for i in range(2)),
            )
            for scope in scopes
        }
    )
    process.round()
    process.step("call", scopes, 1000, 1000, 1)
    process.step("end", scopes, 1000, 1000, 1)
    for _ in range(20):
        process.step("later", scopes, 1000, None, 1)
        process.round()
    process.step("call", scopes, 1000, 1000, 1)
    process.round()
    process.step("call", scopes, 1000, 1000, 1)
    assert [told == "taken" for told in process.told] == [True, False, True]
