"""Choosing a backend: no broken one is called, no forbidden one found, no good one forgotten."""

import random
import time
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.gateway.admission import Candidate, admit, look_into
from ecotone.gateway.answers import Refusal
from ecotone.gateway.choosing import HOME_SECONDS, MOST_HOMES, MOST_ROUTES, Chooser
from ecotone.gateway.health import MOST_CIRCUITS, outcome_of, wait_of
from ecotone.gateway.parsing import parse
from ecotone.gateway.snapshot import Consumer, Route, RouteCandidate, Ruling, Snapshot, Target
from ecotone.vocabulary import Location, PersonalData, Verdict
from tests.running import slower

NAMES = ("a/m", "b/m", "c/m")
RULING = Ruling(allowed=True, verdict=Verdict.ALLOW, message="")


def target(backend: str, key_env: str = "A_API_KEY") -> Target:
    url = f"http://{backend}.example"
    return Target(name=backend, legal="l", location=Location.EXTERNAL, backend=backend, url=url, key_env=key_env)


def candidate(name: str) -> Candidate:
    return Candidate(target=target(name[0]), model="m", name=name, ruling=RULING)


A, B, C = ALL = tuple(candidate(name) for name in NAMES)


def route(strategy: str = "fallback", weights: tuple[float, ...] = (1, 1, 1), **more: Any) -> Route:
    places = tuple(RouteCandidate(model=name, weight=weight) for name, weight in zip(NAMES, weights, strict=True))
    return Route(name="r", strategy=strategy, candidates=places, **more)


def names(found: list[Candidate]) -> list[str]:
    return [c.name for c in found]


def fails(chooser: Chooser, name: str, now: float, times: int = 5, **more: Any) -> None:
    for _ in range(times):
        chooser.began(name)
        chooser.ended(name, "failed", None, 0.0, now, **more)


class Price:
    def __init__(self, prompt: int, completion: int) -> None:
        self.prompt, self.completion = prompt, completion

    def most(self, prompt_tokens: int, completion_tokens: int) -> int:
        return prompt_tokens * self.prompt + completion_tokens * self.completion


# -- never anything else than what policy gave -------------------------------------------------------------------------
_act = st.tuples(
    st.sampled_from(["order", "order", "began", "answered", "ended", "retry", "moved", "shadow", "use"]),
    st.sampled_from([*NAMES, "d/forbidden"]),
    st.sampled_from(["ok", "failed", "busy", "client"]),
    st.floats(0, 40),
    st.sampled_from([None, 0.0, 0.5, 20.0, 1e9]),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
    st.sampled_from([b"", b"x", b"y"]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([None, "fixed", "fallback", "weighted", "cheapest", "fastest"]),
    st.lists(_act, max_size=60),
    st.tuples(*[st.sampled_from([0.0, 1.0, 7.5, -1.0, float("nan")])] * 3),
)
def test_no_state_of_health_leads_to_a_backend_that_policy_did_not_give(
    strategy: str | None, acts: list[Any], weights: tuple[float, float, float]
) -> None:
    chooser = Chooser(draw=random.Random(1).random)
    made = None if strategy is None else route(strategy, weights, sticky=True, shadow="d/forbidden")
    now = 0.0
    for act, name, outcome, passed, wait, given_names, conversation in acts:
        now += passed
        if act == "order":
            given_ = [candidate(n) for n in given_names]
            found = chooser.order(made, given_, now, conversation, prompt_tokens=5, completion_tokens=5)
            assert len(set(names(found))) == len(found)
            assert all(any(c is g for g in given_) for c in found)
            if not found and not (strategy == "fixed" and given_names[0] != NAMES[0]):
                assert chooser.opens_in(given_, now) > 0
        elif act == "began":
            chooser.began(name)
        elif act == "answered":
            chooser.answered(name)
        elif act == "ended":
            chooser.ended(name, outcome, wait, passed, now, wait=wait)
        elif act == "retry":
            chooser.may_retry(made, now)
        elif made is not None and act == "moved":
            chooser.moved(made, conversation, name, now)
        elif made is not None and act == "shadow":
            assert chooser.shadow(made, now) in (None, "d/forbidden")
        else:
            chooser.use(Snapshot(routes={"r": made} if made else {}), {"a/m": Price(1, 2)})


# -- strategies --------------------------------------------------------------------------------------------------------
def test_a_fixed_route_never_goes_elsewhere_not_even_when_its_model_was_refused_or_is_down() -> None:
    chooser = Chooser()
    made = route("fixed")
    assert names(chooser.order(made, ALL, 0.0)) == ["a/m"]
    assert chooser.order(made, [B, C], 0.0) == []
    fails(chooser, "a/m", 0.0)
    assert chooser.order(made, ALL, 0.1) == []
    assert 3.0 < chooser.opens_in([A], 0.1) < 7.0


def test_a_fixed_route_refuses_a_text_that_its_model_may_not_see_where_a_fallback_route_goes_on() -> None:
    local = msgspec.structs.replace(target("b"), location=Location.LOCAL)
    consumer = Consumer(name="p", use="u", personal_data=PersonalData.LOCAL_ONLY, may_call_private=True)
    text = {"model": "r", "messages": [{"role": "user", "content": "write to maria.lopez@example.org"}]}
    request = parse("chat", msgspec.json.encode(text))
    backends, rulings = {"a": target("a"), "b": local}, {"l|u": RULING}
    snapshot = Snapshot(backends=backends, rulings=rulings, routes={"r": route("fallback")})
    assert names(list(admit(snapshot, consumer, request, look_into(request)).candidates)) == ["b/m"]
    with pytest.raises(Refusal) as refused:
        admit(msgspec.structs.replace(snapshot, routes={"r": route("fixed")}), consumer, request, look_into(request))
    assert (refused.value.status, refused.value.code) == (403, "privacy_denied")


def test_a_fallback_route_keeps_its_order() -> None:
    assert names(Chooser().order(route(), ALL, 0.0)) == list(NAMES)


def test_weights_share_requests_exactly_and_spread_them() -> None:
    chooser = Chooser()
    made = route("weighted", (5, 1, 2))
    firsts = [names(chooser.order(made, ALL, 0.0))[0] for _ in range(80)]
    assert [firsts.count(name) for name in NAMES] == [50, 10, 20]
    assert "a/m" * 4 not in "".join(firsts), "smooth: a big share comes in no long runs"


def test_weights_hold_among_those_that_a_text_may_reach_and_0_is_a_fallback_only() -> None:
    chooser = Chooser()
    made = route("weighted", (3, 1, 0))
    for _ in range(50):
        chooser.order(made, [A], 0.0)  # a class of texts that only one may see
    firsts = [chooser.order(made, ALL, 0.0) for _ in range(400)]
    assert abs([found[0].name for found in firsts].count("a/m") - 300) <= 4
    assert all(names(found)[-1] == "c/m" for found in firsts)
    assert names(chooser.order(made, [C], 0.0)) == ["c/m"]


def test_weights_survive_a_new_snapshot_and_follow_a_changed_one() -> None:
    chooser = Chooser()
    firsts = [chooser.order(route("weighted", (1, 1, 2)), ALL, 0.0)[0].name for _ in range(40)]
    assert [firsts.count(name) for name in NAMES] == [10, 10, 20]
    firsts = [chooser.order(route("weighted", (0, 0, 2)), ALL, 0.0)[0].name for _ in range(10)]
    assert set(firsts) == {"c/m"}


def test_the_cheapest_depends_on_the_size_of_the_request_and_an_unknown_price_comes_last() -> None:
    chooser = Chooser()
    chooser.use(Snapshot(), {"b/m": Price(1, 50), "c/m": Price(10, 10)})
    made = route("cheapest")
    order = chooser.order(made, ALL, 0.0, prompt_tokens=1000, completion_tokens=10)
    assert names(order) == ["b/m", "c/m", "a/m"]
    order = chooser.order(made, ALL, 0.0, prompt_tokens=10, completion_tokens=1000)
    assert names(order) == ["c/m", "b/m", "a/m"]


def test_the_fastest_is_found_and_a_slow_one_that_recovered_is_found_again() -> None:
    chooser = Chooser()
    made = route("fastest")
    slow = {"a/m": 3.0, "b/m": 0.2, "c/m": 1.0}
    now = 0.0
    served: list[str] = []

    def go(requests: int) -> None:
        nonlocal now
        for _ in range(requests):
            now += 0.5
            name = chooser.order(made, ALL, now)[0].name
            chooser.began(name)
            chooser.ended(name, "ok", slow[name], slow[name] + 5, now + slow[name] + 5)
            served.append(name)

    go(300)
    assert served.count("b/m") > 270, "quickest, but for a look at the others now and then"
    slow["a/m"] = 0.05
    served.clear()
    go(600)
    assert served[-100:].count("a/m") > 90
    assert served.count("c/m") < 600 * 0.05


def test_whole_answers_are_compared_by_the_token_so_that_long_ones_do_not_look_slow() -> None:
    chooser = Chooser()
    made = route("fastest")
    chooser.order(made, ALL, 0.0)
    chooser.ended("a/m", "ok", 10.0, 10.0, 40.0, tokens=1000, stream=False)
    for name in ("b/m", "c/m"):
        chooser.ended(name, "ok", 1.0, 1.0, 40.0, tokens=10, stream=False)
    assert chooser.order(made, ALL, 41.0, stream=False)[0].name == "a/m"


def test_a_shadow_gets_its_share_and_nothing_while_it_is_down() -> None:
    chooser = Chooser()
    made = route(shadow="s/m", shadow_share=0.25)
    assert [chooser.shadow(made, 0.0) for _ in range(100)].count("s/m") == 25
    assert chooser.shadow(route(), 0.0) is None
    fails(chooser, "s/m", 0.0)
    assert [chooser.shadow(made, 0.1) for _ in range(100)] == [None] * 100
    assert names(chooser.order(made, ALL, 0.0)) == list(NAMES), "a shadow never answers"


# -- circuits ----------------------------------------------------------------------------------------------------------
def test_after_one_failure_the_next_request_tries_another_first_but_still_has_the_first_in_reserve() -> None:
    chooser = Chooser()
    fails(chooser, "a/m", 0.0, times=1)
    assert names(chooser.order(route(), ALL, 0.1)) == ["b/m", "c/m", "a/m"]
    assert names(chooser.order(None, [A], 0.1)) == ["a/m"]
    assert chooser.rests("a/m") and not chooser.rests("b/m"), "so that the answer can tell why"
    assert names(chooser.order(route(), ALL, 7.0)) == list(NAMES)


def test_a_dead_backend_gets_one_probe_at_a_time_and_comes_back_after_a_good_one() -> None:
    chooser = Chooser()
    fails(chooser, "a/m", 0.0)
    assert names(chooser.order(route(), ALL, 0.1)) == ["b/m", "c/m"]
    firsts = [chooser.order(route(), ALL, 10.0) for _ in range(10)]
    assert [found[0].name for found in firsts].count("a/m") == 1
    assert chooser.began("a/m")
    assert not chooser.began("a/m"), "a second one must not probe"
    assert all(names(chooser.order(route(), ALL, 20.0)) == ["b/m", "c/m"] for _ in range(3))
    chooser.ended("a/m", "ok", 0.1, 11.0, 21.0)
    assert names(chooser.order(route(), ALL, 21.0)) == list(NAMES)


def test_rests_double_with_each_failed_probe_up_to_a_bound_and_differ_among_workers() -> None:
    rests = []
    for draw in (lambda: 0.5, lambda: 1.0):
        chooser = Chooser(draw=draw)
        now = 0.0
        fails(chooser, "a/m", now)
        for _ in range(12):
            rest = chooser.opens_in([A], now)
            rests.append(rest)
            now += rest
            assert chooser.order(route(), [A], now)
            chooser.began("a/m")
            now += 0.5
            chooser.ended("a/m", "failed", None, 0.5, now)
    assert [round(rest) for rest in rests[:6]] == [5, 10, 20, 40, 60, 60]
    assert max(rests) <= 75
    assert rests[12] != rests[0]


def test_a_stream_that_began_before_the_circuit_opened_neither_closes_it_nor_opens_it_longer() -> None:
    chooser = Chooser(draw=lambda: 0.5)
    fails(chooser, "a/m", 100.0)
    chooser.ended("a/m", "ok", 0.1, 50.0, 100.5)
    assert chooser.order(None, [A], 100.5) == []
    chooser.ended("a/m", "failed", None, 50.0, 101.0)
    assert chooser.opens_in([A], 101.0) == pytest.approx(4.0)


def test_the_first_content_of_a_probe_lets_others_in_before_its_long_stream_ends() -> None:
    chooser = Chooser()
    fails(chooser, "a/m", 0.0)
    assert chooser.order(None, [A], 10.0)
    chooser.began("a/m")
    chooser.answered("a/m")
    assert names(chooser.order(None, [A], 10.1)) == ["a/m"]


def test_a_probe_that_was_offered_and_never_made_or_never_ended_does_not_lock_the_backend_out() -> None:
    chooser = Chooser()
    fails(chooser, "a/m", 0.0)
    assert chooser.order(None, [A], 10.0)  # refused by a limit before the call began
    assert chooser.order(None, [A], 14.0) == []
    assert chooser.order(None, [A], 15.5)
    chooser.began("a/m")
    assert chooser.order(None, [A], 45.0) == []
    assert chooser.order(None, [A], 46.0), "its end was lost"
    assert chooser.order(None, [A], 46.1) == [], "and again one at a time"


def test_a_client_that_leaves_during_a_probe_decides_nothing() -> None:
    chooser = Chooser()
    fails(chooser, "a/m", 0.0)
    assert chooser.order(None, [A], 10.0)
    chooser.began("a/m")
    chooser.ended("a/m", "client", None, 0.1, 10.1)
    assert names(chooser.order(None, [A], 10.2)) == ["a/m"], "the next one probes"
    assert chooser.order(None, [A], 10.3) == []


def test_a_stream_that_breaks_after_its_first_content_counts_against_its_backend() -> None:
    # Portkey-AI/gateway #1142 and #1797: an upstream that closes in the middle of an answer was taken for well
    chooser = Chooser()
    for step in range(5):
        chooser.began("a/m")
        chooser.answered("a/m")
        chooser.ended("a/m", "failed", 0.1, 3.0, 10.0 + step * 0.1)
    assert names(chooser.order(route(), ALL, 10.5)) == ["b/m", "c/m"]


def test_a_share_of_failures_opens_a_circuit_although_some_calls_work() -> None:
    chooser = Chooser()
    for step in range(12):
        chooser.ended("a/m", "failed" if step % 3 else "ok", 0.1, 0.1, step * 0.1)
    assert names(chooser.order(route(), ALL, 1.3)) == ["b/m", "c/m"]
    chooser = Chooser()
    for step in range(400):
        chooser.ended("a/m", "ok" if step % 4 else "failed", 0.1, 0.1, step * 0.1)
    assert "a/m" in names(chooser.order(route(), ALL, 40.0)), "one in four is no reason to cut off"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 413, 418, 422, 451, 499])
def test_what_clients_send_wrong_takes_a_backend_from_nobody(status: int) -> None:
    chooser = Chooser()
    for _ in range(100):
        chooser.began("a/m")
        chooser.ended("a/m", outcome_of(status), 0.1, 0.1, 1.0)
    assert names(chooser.order(route(), ALL, 1.0)) == list(NAMES)


@pytest.mark.parametrize("status", [None, 408, 409, 425, 429, 500, 501, 502, 503, 504, 529])
def test_what_is_the_backends_fault_opens_its_circuit(status: int | None) -> None:
    chooser = Chooser()
    for _ in range(5):
        chooser.ended("a/m", outcome_of(status), None, 0.1, 1.0)
    assert names(chooser.order(route(), ALL, 1.0)) == ["b/m", "c/m"]


def test_a_backend_that_says_when_to_come_back_is_not_called_before_and_workers_do_not_come_at_once() -> None:
    opened = set()
    for jitter in (0.0, 0.3, 1.0):
        chooser = Chooser(draw=partial(float, jitter))
        chooser.ended("a/m", "busy", 0.1, 0.1, 100.0, wait=20.0)
        opened.add(chooser.opens_in([A], 100.0))
        assert names(chooser.order(route(), ALL, 119.9)) == ["b/m", "c/m"]
        assert names(chooser.order(route(), ALL, 122.1)) == list(NAMES)
    assert len(opened) == 3
    chooser = Chooser()
    chooser.ended("a/m", "busy", 0.1, 0.1, 0.0, wait=1e12)
    assert chooser.opens_in([A], 0.0) <= 3960, "a mad figure shuts nobody out for ever"


def test_a_longer_wait_of_a_call_that_ends_later_counts() -> None:
    chooser = Chooser(draw=lambda: 0.0)
    chooser.ended("a/m", "busy", 0.1, 0.1, 10.0, wait=2.0)
    chooser.ended("a/m", "busy", 0.1, 5.0, 10.5, wait=30.0)
    assert chooser.opens_in([A], 10.5) == pytest.approx(30.0)
    chooser.ended("a/m", "busy", 0.1, 5.0, 11.0, wait=1.0)
    assert chooser.opens_in([A], 11.0) == pytest.approx(29.5)


@pytest.mark.parametrize(
    ("after", "after_ms", "want"),
    [
        ("3", None, 3.0), ("3", "250", 0.25), ("1.5", None, 1.5), (None, None, None), ("soon", None, None),
        ("-3", None, None), ("nan", None, None), ("inf", None, None), ("9" * 400, None, None), ("٣", None, None),
        ("Thu, 01 Jan 1970 00:16:45 GMT", None, 5.0), ("Thu, 01 Jan 1970 00:00:00 GMT", None, 0.0),
        ("Thu, 99 Foo 1970", "x", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_seconds_and_as_a_date(after: str | None, after_ms: str | None, want: Any) -> None:
    assert wait_of(after, after_ms, 1000.0) == want


def test_a_new_key_or_address_starts_with_a_clean_slate_and_other_backends_keep_theirs() -> None:
    chooser = Chooser()
    chooser.use(Snapshot(backends={"a": target("a"), "b": target("b")}, routes={"r": route()}))
    fails(chooser, "a/m", 0.0)
    fails(chooser, "b/m", 0.0)
    chooser.use(Snapshot(backends={"a": target("a", "NEW_API_KEY"), "b": target("b")}, routes={"r": route()}))
    assert names(chooser.order(route(), ALL, 0.1)) == ["a/m", "c/m"]


def test_one_model_of_a_backend_that_fails_does_not_take_the_others_along() -> None:
    chooser = Chooser()
    other = Candidate(target=target("a"), model="other", name="a/other", ruling=RULING)
    fails(chooser, "a/m", 0.0)
    assert names(chooser.order(None, [A, other], 0.1)) == ["a/other"]


# -- retries -----------------------------------------------------------------------------------------------------------
def test_a_fixed_route_has_nobody_to_go_on_with_when_its_stream_breaks() -> None:
    # BerriAI/litellm #19077: a fallback in mid-stream although fallbacks were off
    chooser = Chooser()
    assert names(chooser.order(route("fixed"), ALL, 0.0)) == ["a/m"]
    chooser.ended("a/m", "failed", 0.1, 3.0, 3.0)
    assert names(chooser.order(route("fixed"), ALL, 3.0)) == ["a/m"]


def test_an_outage_is_not_made_worse_by_retries() -> None:
    chooser = Chooser(failures=10**9)
    made = route()
    retried = 0
    for step in range(10_000):
        now = step * 0.001
        chooser.order(made, ALL, now)
        retried += chooser.may_retry(made, now)
    assert 1000 <= retried <= 1000 + 10 + 10
    assert chooser.may_retry(route().__class__(name="quiet"), 10.0), "another route has its own"


def test_a_quiet_route_may_always_retry_a_little() -> None:
    chooser = Chooser()
    assert sum(chooser.may_retry(None, 0.0) for _ in range(100)) == 10
    assert sum(chooser.may_retry(None, 5.0) for _ in range(100)) == 5


# -- conversations -----------------------------------------------------------------------------------------------------
def test_a_conversation_stays_where_its_beginning_is_cached_and_others_are_spread() -> None:
    chooser = Chooser()
    made = route("weighted", sticky=True)
    homes = {f"c{n}".encode(): chooser.order(made, ALL, 0.0, f"c{n}".encode())[0].name for n in range(30)}
    assert sorted(list(homes.values()).count(name) for name in NAMES) == [10, 10, 10]
    for turn in range(1, 4):
        for conversation, home in homes.items():
            found = chooser.order(made, ALL, turn * 100.0, conversation)
            assert (found[0].name, len(found)) == (home, 3)


def test_a_conversation_leaves_a_home_that_is_down_or_forbidden_and_stays_at_the_new_one() -> None:
    chooser = Chooser()
    made = route(sticky=True)
    assert chooser.order(made, ALL, 0.0, b"c")[0] is A
    assert chooser.order(made, [B, C], 0.0, b"c")[0] is B, "its text holds now what a may not see"
    fails(chooser, "b/m", 0.0)
    assert chooser.order(made, ALL, 0.1, b"c")[0] is A
    chooser.moved(made, b"c", "c/m", 0.2)
    assert names(chooser.order(made, ALL, 0.3, b"c")) == ["c/m", "a/m"]
    assert chooser.order(route(), ALL, 0.3, b"c")[0] is A, "only where the route is sticky"


def test_a_home_expires_and_made_up_conversations_take_no_more_memory_than_their_bound() -> None:
    chooser = Chooser()
    made = route("weighted", (1, 1, 1), sticky=True)
    first = chooser.order(made, ALL, 0.0, b"c")[0]
    assert chooser.order(made, ALL, HOME_SECONDS + 1, b"c")[0] is not first
    for number in range(MOST_HOMES + 500):
        chooser.order(made, ALL, 0.0, number.to_bytes(16, "big"))
    assert len(chooser._homes) == MOST_HOMES


def test_made_up_names_and_routes_take_no_more_memory_than_their_bound() -> None:
    chooser = Chooser()
    for number in range(MOST_CIRCUITS + 500):
        chooser.began(f"x/{number}")
        chooser.ended(f"x/{number}", "failed", None, 0.1, 0.0)
        chooser.ended(f"y/{number}", "client", 0.1, 0.1, 0.0)
    assert len(chooser.health.names()) == len(chooser.health.resting) == MOST_CIRCUITS
    for number in range(MOST_ROUTES + 500):
        chooser.order(Route(name=str(number), candidates=(RouteCandidate(model="a/m"),)), [A], 0.0)
    assert len(chooser._traffic) == MOST_ROUTES


def test_ordering_takes_no_time_that_a_request_would_notice() -> None:
    for strategy, most in (("fixed", 1.5), ("fallback", 1.5)):
        chooser = Chooser()
        made = route(strategy)
        best = 1e9
        for _ in range(20):
            begin = time.thread_time()
            for _ in range(2000):
                chooser.order(made, ALL, 0.0)
            best = min(best, time.thread_time() - begin)
        assert best / 2000 * 1e6 < most * 4 * slower(), "four times the bar, for a busy machine"
