"""Strategies, retries and shadows of routes over the wire, and what their records and figures tell of each call."""

import time
from typing import Any

import pytest

from ecotone.gateway.counters import Counters
from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Limit
from tests.gateway.wires import EACH, MUCH, Scene, Wire, reset, whole

NAMES = ("one", "two", "three")


def failing(scene: Scene) -> list[Wire]:
    """Three providers of which each breaks the connection."""
    return [scene.wire(lambda s, _: reset(s), name=name) for name in NAMES]


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("strategy", ["weighted", "cheapest", "fastest"])
def test_so_many_further_candidates_are_called_as_the_route_says(scene: Scene, strategy: str, retries: int) -> None:
    wires = failing(scene)
    scene.route("r", *(f"{name}/m" for name in NAMES), strategy=strategy, retries=retries)
    assert scene.call("r")["status"] == 502
    assert sum(wire.requests for wire in wires) == 1 + retries
    scene.settle(1 + retries)


def test_a_fallback_route_goes_down_its_whole_list(scene: Scene) -> None:
    wires = failing(scene)
    scene.route("r", *(f"{name}/m" for name in NAMES), retries=0)
    assert scene.call("r")["status"] == 502
    assert [wire.requests for wire in wires] == [1, 1, 1]


def test_a_candidate_that_had_no_room_was_not_tried_and_takes_no_retry(scene: Scene) -> None:
    dear, dead, good = (scene.wire(lambda s, _: s.sendall(whole()), name=name) for name in NAMES)
    dead.script = lambda s, _: reset(s)
    scene.place(limits={"backend:one": Limit(requests=0)})
    scene.route("r", *(f"{name}/m" for name in NAMES), strategy="cheapest", retries=1)
    assert scene.call("r")["text"] == "Hi you"
    assert [wire.requests for wire in (dear, dead, good)] == [0, 1, 1]


def test_a_conversation_whose_home_fails_goes_to_the_next_cheapest(scene: Scene) -> None:
    home, dear, cheap = (scene.wire(lambda s, _: s.sendall(whole()), name=name) for name in NAMES)
    each = zip(NAMES, (EACH, 9 * EACH, 3 * EACH), strict=True)
    scene.place(prices={f"{name}/*": Price(version=name, scale=(Rates(*[cost] * 7),)) for name, cost in each})
    scene.route("r", *(f"{name}/m" for name in NAMES), strategy="cheapest", sticky=True)
    assert scene.call("r")["text"] == "Hi you"
    home.script = lambda s, _: reset(s)
    assert scene.call("r")["text"] == "Hi you"
    assert (dear.requests, cheap.requests) == (0, 1)


def test_a_shadow_says_in_its_record_whose_it_is(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    scene.wire(lambda s, _: s.sendall(whole()), name="other")
    scene.route("watched", "wire/m", shadow="other/m")
    assert scene.call("watched", messages=[{"role": "user", "content": "Hi"}])["text"] == "Hi you"
    end = time.monotonic() + 90
    while len(scene.ends()) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    opened = {r["backend"]: r for r in scene.records if r["kind"] == "opened"}
    assert opened["wire"]["why"] is None
    assert opened["other"]["why"] == f"shadow of route watched, for request {opened['wire']['request_id']}"


@pytest.mark.parametrize("turns", [1, 2])
def test_the_record_of_every_attempt_tells_what_was_found_in_the_text(house: Any, turns: int) -> None:
    """Also those of candidates that come after one that failed, or rests."""
    house.gateway.chooser.health._rest = 60.0
    for _ in range(turns):
        answer = house.post("rescue", "Write to ann@example.com", key="eck_masked")
    assert answer.status_code == 200
    opened = [r for r in house.records(answer.headers["x-request-id"]) if r["kind"] == "opened"]
    assert len(opened) == (3 if turns == 1 else 1)
    assert "fallback" in opened[-1]["why"]
    assert {(r["data_class"], tuple(r["kinds"])) for r in opened} == {("personal", ("email",))}


@pytest.mark.stalls
def test_an_attempt_that_may_have_cost_something_is_in_the_figures_as_in_the_ledger(scene: Scene) -> None:
    counters = scene.house.gateway.counters = Counters()
    slow = scene.wire(lambda s, _: False)
    slow.script = lambda s, _: slow.hold(s)
    scene.wire(lambda s, _: s.sendall(whole()), name="other")
    scene.route("both", "wire/m", "other/m")
    assert scene.call("both")["text"] == "Hi you"
    scene.settle(2, "done")
    told = sum(r["cost"] for r in scene.records if r["kind"] in ("failed", "settled"))
    assert 18 * EACH < told < MUCH
    assert sum(cell[3] for cell in counters.cells.values()) == told
    assert sorted(labels[-1] for labels in counters.cells) == ["done", "failed"]
