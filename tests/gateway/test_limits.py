"""Limits and budgets of one process: nothing is overspent, nothing leaks, and a refusal says what to do."""

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.gateway.answers import Refusal
from ecotone.gateway.limits import Hold, Limiter
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.gateway.windows import KINDS, window_of

USD = 10**12
LEVELS = ("key:k", "project:p", "organisation", "backend:b")


class Clock:
    """Both clocks, moved by the test."""

    def __init__(self, at: str = "2026-11-28T07:30:00") -> None:
        self.wall = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
        self.now = 1000.0

    def later(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


def limiter(clock: Clock, limits: dict[str, Limit], **more: Any) -> Limiter:
    made = Limiter(None, lambda: clock.now, lambda: clock.wall, **more)
    made.use(limits)
    return made


def budget(usd: float, window: str = "month", name: str = "b") -> Limit:
    return Limit(budgets=(Budget(id=name, limit=round(usd * USD), window=window),))


def refused(made: Limiter, clock: Clock, *scopes: str, tokens: int = 10, cost: int | None = USD) -> Refusal:
    with pytest.raises(Refusal) as caught:
        made.reserve(scopes, tokens, cost, clock.now)
    return caught.value


def test_a_stream_that_runs_into_another_window_outgrows_its_reservation_there() -> None:
    """It was cut for a budget of yesterday, or went on at the cost of one that nobody counts any more."""
    clock = Clock("2026-11-28T23:59:00")
    made = limiter(clock, {"project:p": budget(10, "day")})
    hold = made.reserve(("project:p",), 0, 10 * USD, clock.now)
    assert not hold.extend(0, USD)
    clock.later(120)
    assert hold.extend(0, 4 * USD) and hold.extend(0, 3 * USD) and not hold.extend(0, 4 * USD)
    lacking = hold.lacking(4 * USD)
    assert lacking is not None and lacking.window == "2026-11-29"
    assert made.spent()["b"] == ("2026-11-29", 0, 7 * USD)
    refused(made, clock, "project:p", cost=4 * USD)
    hold.settle(0, 12 * USD)
    assert made.spent()["b"] == ("2026-11-29", 2 * USD, 0)
    made.reserve(("project:p",), 0, 8 * USD, clock.now)


def test_other_limits_hold_for_a_stream_that_began_before_them() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(2)})
    holds = [made.reserve(("project:p",), 0, USD, clock.now) for _ in range(2)]
    assert not holds[0].extend(0, USD)
    made.use({"project:p": budget(5, name="other")})
    assert holds[0].extend(0, 3 * USD) and not holds[1].extend(0, 3 * USD)
    holds[0].settle(0, 5 * USD)  # more than was reserved: all of it counts
    assert made.spent() == {"other": ("2026-11", 4 * USD, 0)}
    assert holds[1].extend(0, USD)
    holds[1].settle(0, None)
    assert made.spent() == {"other": ("2026-11", 5 * USD, 0)}
    hold = made.reserve(("project:p",), 0, 0, clock.now)
    assert not hold.extend(0, USD)
    made.use({})
    assert hold.extend(0, USD), "there is no budget any more"
    hold.release()


def test_two_hundred_calls_at_once_on_a_budget_for_ten_are_ten() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(10)})
    held, turned_away = [], 0
    for _ in range(200):
        try:
            held.append(made.reserve(("key:k", "project:p"), 100, USD, clock.now))
        except Refusal as refusal:
            turned_away += 1
            assert (refusal.status, refusal.code) == (429, "budget_exceeded")
    assert (len(held), turned_away) == (10, 190)
    for hold in held:
        hold.settle(50, USD // 2)
    assert made.spent()["b"] == ("2026-11", 5 * USD, 0)


@pytest.mark.parametrize("levels", [pair for n in (1, 2) for pair in itertools.combinations(LEVELS, n)])
def test_a_budget_at_any_level_alone_and_with_another_refuses_and_leaves_nothing_reserved(
    levels: tuple[str, ...],
) -> None:
    clock = Clock()
    limits = {scope: budget(1 if scope == levels[-1] else 100, name=scope) for scope in levels}
    made = limiter(clock, limits)
    made.reserve(LEVELS, 10, USD, clock.now).settle(10, USD)
    told = refused(made, clock, *LEVELS)
    assert told.ecotone["scope"] == levels[-1]
    assert {name: spent for name, (_, *spent) in made.spent().items()} == {scope: [USD, 0] for scope in levels}


def test_a_refusal_by_the_last_scope_takes_no_slot_and_no_request_of_the_first() -> None:
    clock = Clock()
    limits = {"key:k": Limit(requests=2, tokens=100, concurrent=1), "organisation": budget(1)}
    made = limiter(clock, limits)
    for _ in range(5):
        assert refused(made, clock, "key:k", "organisation", tokens=90, cost=2 * USD).is_about_money
    made.reserve(("key:k", "organisation"), 90, USD, clock.now).release()
    made.reserve(("key:k",), 90, USD, clock.now).release()


def test_an_unknown_price_is_refused_under_any_budget_and_passes_without_one() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(10), "project:free": Limit(requests=5)})
    told = refused(made, clock, "key:k", "project:p", cost=None)
    assert (told.status, told.code) == (429, "price_unknown") and "ecotone price set" in told.message
    made.reserve(("key:k", "project:free"), 10, None, clock.now).settle(5, None)


def test_a_model_that_is_free_works_when_the_budget_is_spent() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(1)})
    made.reserve(("project:p",), 10, USD, clock.now).settle(10, 3 * USD)  # the provider billed more than it could
    refused(made, clock, "project:p", cost=1)
    made.reserve(("project:p",), 10, 0, clock.now).settle(10, 0)


def test_a_refusal_for_money_names_scope_sum_window_and_when_it_opens_again() -> None:
    clock = Clock()
    made = limiter(clock, {"project:shop": budget(10)})
    made.reserve(("project:shop",), 10, 6 * USD, clock.now).settle(10, 6 * USD)
    made.reserve(("project:shop",), 10, 3 * USD, clock.now)
    told = refused(made, clock, "project:shop", cost=2 * USD)
    for word in ("project shop", "10 USD (2026-11)", "6 are spent", "3 are reserved", "2026-12-01T00:00:00Z"):
        assert word in told.message
    assert told.headers == {"x-should-retry": "false"}
    assert told.ecotone == {
        "scope": "project:shop",
        "limit": "budget",
        "value": "10 USD",
        "opens": "2026-12-01T00:00:00Z",
        "window": "2026-11",
        "budget": "b",
    }


@pytest.mark.parametrize("window", KINDS)
def test_a_window_that_ends_opens_the_budget_and_a_call_settles_in_the_window_that_it_began_in(window: str) -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(2, window)})
    made.reserve(("project:p",), 10, USD, clock.now).settle(10, USD)
    running = made.reserve(("project:p",), 10, USD, clock.now)
    refused(made, clock, "project:p")
    end = window_of(window, clock.wall).ends
    clock.later(1e9 if end == math.inf else end - clock.wall - 0.5)
    refused(made, clock, "project:p")
    clock.later(0.5)
    if window == "total":
        refused(made, clock, "project:p")
        return
    running.settle(10, USD)
    assert made.reserve(("project:p",), 10, 2 * USD, clock.now).cost == 2 * USD
    refused(made, clock, "project:p", cost=1)


def test_a_clock_that_jumps_back_never_opens_a_window_again() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(1, "day")})
    made.reserve(("project:p",), 10, USD, clock.now).settle(10, USD)
    clock.wall -= 3 * 86_400
    clock.now += 5
    refused(made, clock, "project:p")
    known = {name: (window, spent) for name, (window, spent, _) in made.spent().items()}
    again = limiter(clock, {"project:p": budget(1, "day")}, spent=known)  # and not by a restart with that clock
    refused(again, clock, "project:p")
    clock.wall += 4 * 86_400
    clock.now += 5
    made.reserve(("project:p",), 10, USD, clock.now)
    again.reserve(("project:p",), 10, USD, clock.now)


def test_a_jump_forward_is_noticed_within_a_second() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(1, "day")})
    made.reserve(("project:p",), 10, USD, clock.now).settle(10, USD)
    clock.wall += 86_400
    clock.now += 1.0
    made.reserve(("project:p",), 10, USD, clock.now)


def test_a_restart_goes_on_with_what_the_ledger_knows_and_an_older_window_counts_no_more() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(2)}, spent={"b": ("2026-11", USD)})
    made.reserve(("project:p",), 10, USD, clock.now)
    refused(made, clock, "project:p", cost=1)
    made = limiter(clock, {"project:p": budget(2)}, spent={"b": ("2026-10", 2 * USD)})
    made.reserve(("project:p",), 10, 2 * USD, clock.now)


def test_a_limit_that_changes_while_calls_run_keeps_what_was_spent_and_is_reserved() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(10)})
    made.reserve(("project:p",), 10, 4 * USD, clock.now).settle(10, 4 * USD)
    running = made.reserve(("project:p",), 10, 2 * USD, clock.now)
    made.use({"project:p": budget(5)})
    refused(made, clock, "project:p", cost=1)
    running.settle(10, USD // 2)
    refused(made, clock, "project:p", cost=USD)
    made.use({})
    made.reserve(("project:p",), 10, 100 * USD, clock.now).settle(10, 100 * USD)
    made.use({"project:p": budget(7)})
    refused(made, clock, "project:p", cost=3 * USD)  # what it had spent before it was taken away is still known
    made.reserve(("project:p",), 10, 2 * USD, clock.now)


def test_requests_a_minute_refuse_the_next_and_say_when() -> None:
    clock = Clock()
    made = limiter(clock, {"key:k": Limit(requests=60)})
    for _ in range(60):
        made.reserve(("key:k",), 10, 0, clock.now).settle(10, 0)
    told = refused(made, clock, "key:k")
    assert (told.status, told.code) == (429, "rate_limit_exceeded")
    rate = {"limit": "60", "remaining": "0", "reset": "60s"}
    assert told.headers == {"retry-after": "1", "retry-after-ms": "1000"} | {
        f"x-ratelimit-{name}-requests": value for name, value in rate.items()
    }
    assert "the key k" in told.message.lower() and "60 requests a minute" in told.message
    clock.later(1.0)
    made.reserve(("key:k",), 10, 0, clock.now)
    refused(made, clock, "key:k")


def test_tokens_a_minute_count_what_was_used_not_what_was_reserved() -> None:
    clock = Clock()
    made = limiter(clock, {"key:k": Limit(tokens=1000)})
    for _ in range(10):
        made.reserve(("key:k",), 550, 0, clock.now).settle(50, 0)
    told = refused(made, clock, "key:k", tokens=550)
    assert told.headers["retry-after-ms"] == "3000"
    clock.later(3.0)
    made.reserve(("key:k",), 550, 0, clock.now).release()
    made.reserve(("key:k",), 550, 0, clock.now)


def test_a_call_that_may_use_more_tokens_than_a_minute_has_passes_once_and_pays_afterwards() -> None:
    clock = Clock()
    made = limiter(clock, {"key:k": Limit(tokens=1000)})
    made.reserve(("key:k",), 16_384, 0, clock.now).settle(2000, 0)
    clock.later(60.0)
    refused(made, clock, "key:k", tokens=10)
    clock.later(60.0)
    made.reserve(("key:k",), 1000, 0, clock.now)


def test_slots_are_taken_until_the_last_byte_and_free_on_every_path() -> None:
    clock = Clock()
    made = limiter(clock, {"key:k": Limit(concurrent=2)})
    ends: list[Any] = [Hold.release, lambda hold: hold.settle(1, 1), lambda hold: hold.settle(1, None)]
    for end in ends * 3:
        holds = [made.reserve(("key:k",), 10, USD, clock.now) for _ in range(2)]
        told = refused(made, clock, "key:k")
        assert (told.status, told.code) == (429, "concurrency_limit_exceeded")
        for hold in holds:
            end(hold)
            hold.release()  # a second end changes nothing
            hold.settle(10_000, USD)


@pytest.mark.parametrize("limit", [Limit(requests=0), Limit(tokens=0), Limit(concurrent=0)])
def test_a_limit_of_nothing_lets_nothing_pass(limit: Limit) -> None:
    clock = Clock()
    assert refused(limiter(clock, {"key:k": limit}), clock, "key:k").status == 429


def test_a_stream_that_outgrows_its_reservation_extends_it_until_the_budget_refuses() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(3), "key:k": Limit(tokens=1000)})
    hold = made.reserve(("key:k", "project:p"), 100, USD, clock.now)
    assert hold.extend(100, USD) and hold.extend(0, USD)
    assert not hold.extend(1, 1) and not hold.extend(1, None)
    hold.settle(200, 3 * USD)
    assert not hold.extend(1, 0)
    assert made.spent()["b"] == ("2026-11", 3 * USD, 0)
    made.reserve(("key:k",), 800, 0, clock.now)
    refused(made, clock, "key:k", tokens=1)


def test_one_scope_named_twice_is_counted_once() -> None:
    clock = Clock()
    made = limiter(clock, {"project:p": budget(1)})
    made.reserve(("project:p", "project:p"), 10, USD, clock.now)
    assert made.spent()["b"] == ("2026-11", 0, USD)


def test_each_user_and_each_tag_has_counters_of_its_own_and_their_number_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("ecotone.gateway.meters._EACH", 3)
    made = limiter(clock, {"project:p/user:*": budget(1, name="each"), "project:p/tag:nightly": budget(1, name="tag")})
    for user in ("ann", "bob"):
        made.reserve((f"project:p/user:{user}",), 10, USD, clock.now).settle(10, USD)
        told = refused(made, clock, f"project:p/user:{user}")
        assert f"the user '{user}' of the project p" in told.message
    assert made.spent()["each:project:p/user:ann"] == ("2026-11", USD, 0)
    made.reserve(("project:p/tag:other",), 10, 9 * USD, clock.now)
    made.reserve(("project:p/tag:nightly",), 10, USD, clock.now)
    refused(made, clock, "project:p/tag:nightly")
    made.reserve(("project:p/user:idle",), 10, USD, clock.now).release()
    made.reserve(("project:p/user:eve",), 10, USD, clock.now).settle(10, USD)  # takes the place of the idle one
    clock.later(2.0)
    assert refused(made, clock, "project:p/user:fay").code == "too_many_individuals"
    assert refused(made, clock, "project:p/user:ann").code == "budget_exceeded"


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "reserve", "settle", "release", "extend", "hour"]),
        st.integers(0, 5),
        st.integers(0, 40),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=200,
)


@settings(max_examples=60, deadline=None)
@given(CALLS)
def test_whatever_the_order_of_two_hundred_calls_no_budget_is_overspent_or_negative(calls: list[Any]) -> None:
    clock = Clock("2026-11-28T22:30:00")
    scopes = [("key:a", "project:p", "organisation"), ("key:b", "project:p", "organisation"), ("organisation",)]
    sizes = {"key:a": 60, "project:p": 90, "organisation": 120}
    windows = dict(zip(sizes, ("hour", "day", "total"), strict=True))
    limits = {s: Limit(budgets=(Budget(id=s, limit=n, window=windows[s]),), concurrent=9) for s, n in sizes.items()}
    made = limiter(clock, limits)
    running: list[tuple[Hold, tuple[str, ...], dict[str, str]]] = []
    spent: dict[tuple[str, str], int] = {}
    for act, place, cost, share in calls:
        labels = {s: window_of(w, clock.wall).label for s, w in windows.items()}
        if act == "reserve":
            chosen = scopes[place % 3]
            try:
                running.append((made.reserve(chosen, cost, cost, clock.now), chosen, labels))
            except Refusal:
                held = dict.fromkeys(sizes, 0)
                for hold, names, began in running:
                    for name in held.keys() & set(names):
                        held[name] += hold.cost if began[name] == labels[name] else 0
                    for amount, accounts in hold.more or ():
                        for account in accounts:
                            held[account.scope] += amount if account.window == labels[account.scope] else 0
                full = any(spent.get((s, labels[s]), 0) + held[s] + cost > sizes[s] for s in chosen if s in sizes)
                assert full or len(running) >= 9
        elif act == "hour":
            clock.later(3600)
        elif running:
            hold, names, began = running[place % len(running)]
            if act == "extend":
                hold.extend(1, cost // 4)
                continue
            running.remove((hold, names, began))
            used = 0 if act == "release" else int(hold.cost * share)
            hold.release() if act == "release" else hold.settle(cost, used)
            for name in names:
                spent[name, began.get(name, "")] = spent.get((name, began.get(name, "")), 0) + used
        for (name, _), total in spent.items():
            assert 0 <= total <= sizes.get(name, total)
    for hold, *_ in running:
        hold.release()
    made.reserve((), 0, 0, clock.now + 2)
    for name, (window, counted, held_now) in made.spent().items():
        assert held_now == 0 and 0 <= counted <= sizes[name]
        assert counted == spent.get((name, window), 0)
