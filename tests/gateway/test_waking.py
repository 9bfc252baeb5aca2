"""Engines that are loaded by a first call: only for calls that limits let through, and each of them counted."""

import socket
import threading
import time
from typing import Any

import msgspec
import pytest

from ecotone.engines.entities import Deployment
from ecotone.gateway.builder import note_of
from ecotone.gateway.limits import Limiter
from ecotone.gateway.prices import Price, Rates
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.vocabulary import DeploymentState
from tests.gateway.engine import Engine
from tests.gateway.test_tasks_face import engine, engine_at, place, post
from tests.receiver import until

__all__ = ["engine"]


@pytest.fixture
def woken(house: Any) -> list[str]:
    """Models that were asked to be loaded; none of them ever is."""
    found: list[str] = []
    house.gateway.wake = found.append
    house.gateway.limiter = Limiter()
    cold = engine_at("demo/bert", None, ready=False, starting=True, wakes=True, note="idle")
    place(house, targets={**house.snapshots.current.targets, "demo/bert": cold})
    return found


def test_a_call_that_a_limit_refuses_loads_no_engine(house: Any, woken: list[str]) -> None:
    for limit in (Limit(requests=0), Limit(concurrent=0)):
        place(house, limits={"project:shop": limit})
        assert post(house, "/models/demo/bert").status_code == 429
    budget = Budget(id="b", limit=100, window="total")
    price = Price(version="t", scale=(Rates(*[10**6] * 7),))
    for prices in ({"demo/bert": price}, {}):  # the money does not suffice for one token; nobody knows the price
        place(house, limits={"project:shop": Limit(budgets=(budget,))}, prices=prices)
        assert post(house, "/models/demo/bert").json()["code"] in ("budget_exceeded", "price_unknown")
    assert woken == [], "engines were loaded, and others unloaded for them, by calls that may not be made"
    place(house, limits={"project:shop": Limit(requests=9)})
    assert post(house, "/models/demo/bert").status_code == 503
    assert set(woken) == {"demo/bert"}


def test_who_has_an_engine_loaded_and_leaves_has_made_a_request(house: Any, woken: list[str]) -> None:
    place(house, limits={"project:shop": Limit(requests=3)})
    body = b'{"inputs": "x"}'
    head = b"POST /models/demo/bert HTTP/1.1\r\nhost: x\r\nauthorization: Bearer eck_shop\r\ncontent-length: %d\r\n\r\n"
    for _ in range(2):
        asked = len(woken)
        with socket.create_connection(("127.0.0.1", house.port), timeout=60) as hasty:
            hasty.sendall(head % len(body) + body)
            until(lambda asked=asked: len(woken) > asked)
        until(lambda: not house.gateway.jobs)
    assert post(house, "/models/demo/bert").status_code == 503, "two were counted, and this one is the third"
    count = len(woken)
    time.sleep(0.1)
    assert post(house, "/models/demo/bert").status_code == 429
    assert len(woken) == count


@pytest.mark.parametrize("patience", [{"engine_wait": 30.0}], ids=["patient"])
def test_a_call_that_waited_for_its_engine_counts_once(house: Any, woken: list[str]) -> None:
    place(house, limits={"project:shop": Limit(requests=2)})
    warm = msgspec.structs.replace(house.snapshots.current.targets["demo/local"], name="demo/bert")

    def load() -> None:
        time.sleep(0.3)
        place(house, targets={**house.snapshots.current.targets, "demo/bert": warm})

    thread = threading.Thread(target=load)
    thread.start()
    assert house.post("demo/bert").status_code == 200
    thread.join()
    assert house.post("demo/bert").status_code == 200
    assert house.post("demo/bert").status_code == 429


@pytest.mark.parametrize("state", [DeploymentState.IDLE, DeploymentState.FAILED, DeploymentState.STARTING])
def test_a_key_learns_nothing_of_an_engines_log(state: DeploymentState) -> None:
    secret = "it died. The end of its log:\n/srv/data/materialised/hidden/model"
    told = note_of(Deployment(id="d", model="demo/bert", revision="a", state=state, error=secret))
    assert told.startswith(str(state)) and "log" not in told and "hidden" not in told


def test_a_project_that_fills_its_queue_at_an_engine_keeps_no_other_from_it(house: Any, engine: Engine) -> None:
    for _ in range(6):
        assert post(house, "/models/demo/llama", {"inputs": "crowded"}).status_code == 429
        assert house.post("demo/llama", "crowded").status_code == 429
    for key in ("eck_house", "eck_shop"):
        assert post(house, "/models/demo/llama", key=key).status_code == 200
    parties = [head["x-ecotone-party"] for head in engine.headers]
    assert len(set(parties[:-2])) == 1 and parties[-2] != parties[-1] == parties[0]
    assert "shop" not in parties[0]
