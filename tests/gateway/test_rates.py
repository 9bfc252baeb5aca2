"""What a caller is told of its rates, in OpenAI's header names: programs wait by them."""

import re
from typing import Any

import pytest

from ecotone.gateway.limits import Limiter
from ecotone.gateway.plans import Plan
from ecotone.gateway.rates import rate_fields
from ecotone.gateway.snapshot import Limit
from tests.gateway.test_shares import Process
from tests.gateway.wires import EACH, EVENTS, STREAM, Scene, chunked, whole

NAMES = [f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")]
THEIRS = (b"x-ratelimit-limit-requests: 7", b"x-ratelimit-remaining-tokens: 8", b"x-ratelimit-limit-tokens: 9")


def rates_of(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in NAMES if name in headers}


def test_an_answer_tells_what_is_left_of_the_tightest_limit_of_who_asks(scene: Scene) -> None:
    streams = [False]
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS) if streams[0] else whole(None, *THEIRS)))
    scene.place(
        limits={
            "key:shop": Limit(requests=50, tokens=10**6),
            "project:shop": Limit(requests=1000, tokens=60_000),
            "backend:wire": Limit(requests=20, tokens=30_000),
        }
    )
    first = scene.house.post("wire/m", max_tokens=100)
    assert first.status_code == 200
    told = rates_of(first.headers)
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("50", "49")
    assert told["x-ratelimit-reset-requests"] == "2s", "1.2 s to be full again, in whole seconds"
    assert told["x-ratelimit-limit-tokens"] == "60000", "the provider's own is not ours"
    assert 59_800 < int(told["x-ratelimit-remaining-tokens"]) < 59_900, "what the call may use is taken"
    assert re.fullmatch(r"\d+ms", told["x-ratelimit-reset-tokens"])
    streams[0] = True
    second = scene.house.post("wire/m", stream=True)
    assert second.headers["x-ratelimit-limit-requests"] == "50"
    assert int(second.headers["x-ratelimit-remaining-requests"]) in (48, 49), "one may have come back since"


def test_where_nothing_is_limited_nothing_is_told_least_of_all_the_providers_own(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole(None, *THEIRS)))
    scene.place(limits={"backend:wire": Limit(requests=20, tokens=30_000), "key:shop": Limit(concurrent=3)})
    answer = scene.house.post("wire/m")
    assert answer.status_code == 200 and rates_of(answer.headers) == {}
    scene.place(limits={"project:shop": Limit(tokens=30_000)})
    answer = scene.house.post("wire/m")
    assert set(rates_of(answer.headers)) == set(NAMES[3:])


def test_a_refusal_tells_the_rate_that_refused(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    scene.place(limits={"organisation": Limit(requests=1), "key:shop": Limit(requests=10)})
    assert scene.house.post("wire/m").headers["x-ratelimit-remaining-requests"] == "0"
    refused = scene.house.post("wire/m")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    told = rates_of(refused.headers)
    assert told.pop("x-ratelimit-reset-requests") in {f"{n}s" for n in range(1, 61)}
    assert told == {"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "0"}
    scene.place(limits={"backend:wire": Limit(requests=0), "key:shop": Limit(requests=10)})
    assert rates_of(scene.house.post("wire/m").headers) == {}, "a backend's own limits are the operator's affair"


@pytest.mark.parametrize(("left", "told"), [(60, "0ms"), (59, "1s"), (30, "30s"), (0, "60s"), (-60, "120s")])
def test_a_time_is_written_as_openai_writes_it(left: int, told: str) -> None:
    fields = rate_fields("requests", 60, left)
    assert fields["x-ratelimit-reset-requests"] == told
    assert fields["x-ratelimit-remaining-requests"] == str(max(left, 0))


def test_of_slices_what_is_left_is_what_the_process_has_and_what_nobody_has() -> None:
    """A slice alone would say that a thousandth of the limit is left, and callers would wait."""
    process = Process(leased=True, folds=False)
    process.limiter.use({"project:p": Limit(requests=1000, tokens=100_000)})
    scopes = ("key:k", "project:p")
    for _ in range(3):
        process.step("call", scopes, 100, 0, 1)
        process.round()
    hold = process.open[-1]
    plan = hold.plan
    assert isinstance(plan, Plan)
    assert [(kind, limit) for kind, limit, _ in plan.rates(process.now)] == [("requests", 1000), ("tokens", 100_000)]
    used = len(process.open)
    (_, _, requests), (_, _, tokens) = plan.rates(process.now)
    assert requests == 1000 - used and tokens == 100_000 - 100 * used


def test_of_several_limits_the_one_with_the_least_left_is_told() -> None:
    limiter = Limiter(None, lambda: 1000.0, lambda: 1000.0)
    limiter.use({"key:k": Limit(requests=100), "project:p": Limit(requests=99)})
    for _ in range(3):
        limiter.reserve(("key:k",), 0, 0, 1000.0)
    plan = limiter.reserve(("key:k", "project:p"), 0, 0, 1000.0).plan
    assert plan is not None and plan.rates(1000.0) == [("requests", 100, 96)]


def test_where_many_call_at_once_what_is_told_is_made_now_and_then() -> None:
    limiter = Limiter(None, lambda: 1000.0, lambda: 1000.0)
    limiter.use({"key:k": Limit(requests=60)})
    plan: Any = limiter.reserve(("key:k",), 0, 0, 1000.0).plan
    told = plan.tell(1000.0, 0.0)
    assert b"remaining-requests: 59" in told
    limiter.reserve(("key:k",), 0, 0, 1000.0)
    assert plan.tell(1000.005, 0.01) is told
    assert b"remaining-requests: 58" in plan.tell(1000.005, 0.0)
    limiter.reserve(("key:k",), 0, 0, 1000.0)
    assert b"remaining-requests: 57" in plan.tell(1000.02, 0.01)


def test_a_whole_answer_tells_what_it_cost_where_that_is_known(scene: Scene) -> None:
    streams = [False]
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS) if streams[0] else whole()))
    answer = scene.house.post("wire/m")
    assert answer.headers["x-ecotone-cost-usd"] == "0.000018000000"
    assert scene.house.settled(answer)["cost"] == 18 * EACH
    scene.route("kept", "wire/m", cache_seconds=60)
    for cost in ("0.000018000000", "0.000000000000"):
        assert scene.house.post("kept").headers["x-ecotone-cost-usd"] == cost
    streams[0] = True
    assert "x-ecotone-cost-usd" not in scene.house.post("wire/m", stream=True).headers
    streams[0] = False
    scene.place(prices={}, limits={"key:shop": Limit(requests=1000)})
    answer = scene.house.post("wire/m")
    assert answer.status_code == 200 and "x-ecotone-cost-usd" not in answer.headers, "what nobody knows is not nothing"
    engine = scene.house.post("demo/local")
    assert engine.status_code == 200 and "x-ecotone-cost-usd" not in engine.headers
