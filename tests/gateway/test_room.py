"""No room for one candidate of a route, at the wire: the next one answers, and what is told names the cause."""

import hashlib
import socket
import time
from typing import Any

import msgspec
import pytest

from ecotone.gateway.limits import Limiter
from ecotone.gateway.pricelists import Figures
from ecotone.gateway.prices import Price
from ecotone.gateway.snapshot import Budget, Key, Limit
from ecotone.ledger import Ledger, explain
from tests.gateway.conftest import route

USD = 10**12
FREE = Price(version="local", free=True)
PRICED = Price(version="own v1", scale=(Figures(input="2.5", output="10").rates(),))


@pytest.fixture
def through() -> str:
    return "connections"


def priced(house: Any, *, prices: dict[str, Price], budget: int = USD, **limits: Limit) -> None:
    """Put a budget on the project, and these prices in force."""
    held = {"project:shop": Limit(budgets=(Budget(id="b", limit=budget, window="month"),))}
    held |= {scope.replace("__", ":"): limit for scope, limit in limits.items()}
    now = house.snapshots.current
    routes = now.routes | {
        "unpriced-first": route("unpriced-first", "fake/gpt-new", "fake/gpt-test"),
        "then-unpriced": route("then-unpriced", "fake/gpt-fails", "fake/gpt-new"),
        "then-local": route("then-local", "fake/gpt-test", "demo/local"),
    }
    house.snapshots.current = msgspec.structs.replace(now, version=2, prices=prices, limits=held, routes=routes)
    house.gateway.limiter = Limiter(spent={})
    house.gateway.limiter.use(held)


def test_a_route_goes_on_to_a_candidate_with_a_price_where_a_budget_stands(house: Any) -> None:
    priced(house, prices={"fake/gpt-test": PRICED})
    answer = house.post("unpriced-first", max_tokens=10)
    assert (answer.status_code, answer.headers["x-ecotone-model"]) == (200, "fake/gpt-test")
    assert "fake/gpt-new had no room (price_unknown)" in answer.headers["x-ecotone-reason"]
    assert len(house.provider.seen) == 1


def test_a_route_whose_budget_is_spent_goes_on_to_the_model_that_costs_nothing(house: Any) -> None:
    priced(house, prices={"fake/gpt-test": PRICED, "demo/local": FREE}, budget=1)
    answer = house.post("then-local", max_tokens=10)
    assert (answer.status_code, answer.headers["x-ecotone-model"]) == (200, "demo/local")
    assert "budget_exceeded" in answer.headers["x-ecotone-reason"]


def test_a_backend_that_is_as_busy_as_it_may_be_leaves_the_call_to_the_next_of_the_route(house: Any) -> None:
    busy = Limit(requests=0)
    priced(house, prices={"fake/gpt-test": PRICED, "demo/local": FREE}, backend__fake=busy)
    answer = house.post("then-local", max_tokens=10)
    assert (answer.status_code, answer.headers["x-ecotone-model"]) == (200, "demo/local")
    assert house.post("fake/gpt-test", max_tokens=10).status_code == 429


def test_a_failure_is_told_as_it_was_when_the_next_candidate_has_no_price(house: Any) -> None:
    priced(house, prices={"fake/gpt-fails": PRICED})
    answer = house.post("then-unpriced", max_tokens=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert answer.headers["x-ecotone-backend"] == "fake"
    assert "x-should-retry" not in answer.headers


def test_a_model_without_a_price_is_called_where_no_budget_stands(house: Any) -> None:
    house.gateway.limiter = Limiter(spent={})
    answer = house.post("fake/gpt-test", max_tokens=10)
    assert answer.status_code == 200, answer.text
    settled = house.settled(answer)
    assert (settled["prompt_tokens"], settled["cost"]) == (11, None)


def test_a_price_that_is_not_known_is_told_with_the_model_and_the_command_also_behind_a_route(house: Any) -> None:
    priced(house, prices={})
    told = house.post("unpriced-first", max_tokens=10)
    assert (told.status_code, told.reason_phrase) == (429, "Too Many Requests")
    assert told.json()["error"]["type"] == "insufficient_quota" and "retry-after" not in told.headers
    assert told.headers["x-should-retry"] == "false"
    assert "The price of fake/gpt-new is not known" in told.json()["error"]["message"]
    assert "`ecotone price set fake/gpt-new --input" in told.json()["error"]["message"]


def test_a_call_that_is_dearer_than_the_whole_budget_is_told_so_not_that_the_budget_is_spent(house: Any) -> None:
    priced(house, prices={"fake/gpt-test": PRICED})
    told = house.post("fake/gpt-test", max_tokens=1_000_000).json()["error"]["message"]
    assert "more than the whole budget of the project shop: 1 USD" in told and "are spent" not in told


def test_a_refusal_for_money_stands_in_the_ledger_with_its_key_so_that_why_can_tell(house: Any) -> None:
    priced(house, prices={"fake/gpt-test": PRICED}, budget=1)
    told = house.post("fake/gpt-test", max_tokens=10)
    assert told.status_code == 429
    why = explain(Ledger(house.folder / "ledger"), told.headers["x-request-id"])
    assert why is not None
    assert (why["status"], why["code"], why["project"], why["key"]) == (429, "budget_exceeded", "shop", "shop")
    assert why["message"] == told.json()["error"]["message"] and "may cost" in why["message"]


@pytest.mark.parametrize("how", ["revoked", "drained"])
def test_a_stream_that_is_cut_by_us_is_counted_for_what_it_had_produced(house: Any, how: str) -> None:
    text = "word " * 40
    body = msgspec.json.encode(
        {"model": "fake/gpt-slow", "stream": True, "messages": [{"role": "user", "content": text}]}
    )
    with socket.create_connection(("127.0.0.1", house.port), timeout=60) as client:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer eck_shop\r\n"
        client.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        got = b""
        while got.count(b"data: ") < 6:
            got += client.recv(65536)
        if how == "revoked":
            now = house.snapshots.current
            house.snapshots.current = msgspec.structs.replace(now, version=2, keys={})
        else:
            for job in list(house.gateway.jobs):
                house.gateway._loop.call_soon_threadsafe(job.drained)
        while b'"error"' not in got and (more := client.recv(65536)):
            got += more
    name = got.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()
    end = time.monotonic() + 90
    while not (found := [r for r in house.records(name) if r["kind"] == "settled"]) and time.monotonic() < end:
        time.sleep(0.02)
    assert found and found[0]["estimate"] is True
    assert found[0]["completion_tokens"] >= 3, "what was produced costs money, whoever cut the stream"


def test_a_key_that_ended_says_when_not_that_it_is_unknown(house: Any) -> None:
    now = house.snapshots.current
    ended = Key(id="old", project="shop", expires=1_700_000_000.0)
    keys = now.keys | {hashlib.sha256(b"eck_old").hexdigest(): ended}
    house.snapshots.current = msgspec.structs.replace(now, version=2, keys=keys)
    told = house.post("fake/gpt-test", key="eck_old")
    assert (told.status_code, told.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "ended at 2023-11-14T22:13:20Z" in told.json()["error"]["message"]


def test_a_model_that_is_no_string_is_told_so_not_as_missing(house: Any) -> None:
    told = house.raw(b'{"model": 3, "messages": [{"role": "user", "content": "x"}]}').json()["error"]["message"]
    assert "must be a string" in told


def test_a_provider_that_refuses_our_key_is_not_asked_again_by_the_client(house: Any) -> None:
    told = house.post("fake/gpt-key")
    assert (told.status_code, told.headers["x-should-retry"]) == (502, "false")


def test_what_a_request_cost_is_told_exactly_never_in_powers_of_ten(house: Any) -> None:
    priced(house, prices={"fake/gpt-test": PRICED})
    answer = house.post("fake/gpt-test", max_tokens=10)
    house.settled(answer)
    why = explain(Ledger(house.folder / "ledger"), answer.headers["x-request-id"])
    assert why is not None and why["cost_usd"] == "0.0000975"
