"""Deployments with options: replicas, replacing without a lost answer, unloading and loading, memory, damaged files."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.app.engine_figures import EngineFigures
from ecotone.engines import Deployment, DeploymentNotFound, Engines, Options, deployment_of, visible
from ecotone.engines.errors import NoRoom, NotServable
from ecotone.engines.supervision import Pace
from ecotone.gateway.waking import Caller
from ecotone.settings import Settings
from ecotone.vocabulary import DeploymentState, Role
from tests.engines.shelf import Shelf, running
from tests.engines.test_engines import says
from tests.running import in_time

Until = Callable[..., None]
Gone = Callable[[int], bool]
Connect = Callable[[str | None], httpx.Client]

READY, IDLE = DeploymentState.READY, DeploymentState.IDLE


def one(engines: Engines, model: str = "demo/llama") -> Deployment:
    return next(d for d in engines.deployments() if d.model == model)


def asking(connect: Connect, socket: str | None, over: threading.Event) -> None:
    """Ask for long answers, one after the other."""
    body = {"model": "demo/llama", "prompt": "hello", "max_tokens": 110, "n": 8, "ignore_eos": True}
    with connect(socket) as client:
        while not over.is_set():
            client.post("/v1/completions", json=body)


def test_a_dead_replica_is_left_out_at_once_and_comes_back(engines: Engines, connect: Connect, until: Until) -> None:
    made = engines.serve("demo/llama", "main", (), SYSTEM, Options(replicas=2))
    assert len(set(made.sockets)) == 2 and made.socket == made.sockets[0] and made.state == READY
    first, second = made.replicas
    assert first.pid != second.pid and {says(connect, socket) for socket in made.sockets}.__len__() == 1
    seen: list[Deployment] = []
    kills = 0

    def kill(turn: int) -> Callable[[], object]:
        nonlocal kills
        until(lambda: len(one(engines).sockets) == 2)
        kills += 1
        os.kill(one(engines).replicas[1].pid or 0, signal.SIGKILL)
        return is_left_out

    def is_left_out() -> bool:
        seen.append(one(engines))
        return len(seen[-1].sockets) == 1 and seen[-1].replicas[1].error is not None

    in_time(kill, 1)
    left = seen[-1]
    assert left.state == READY and left.sockets == made.sockets[:1]
    assert "no memory left" in (left.replicas[1].error or "") and "int8" in (left.replicas[1].error or "")
    until(lambda: len(one(engines).sockets) == 2)
    assert one(engines).replicas[1].restarts == kills
    figures = {family.name: family.samples for family in EngineFigures(engines).collect()}
    assert {s.labels["state"]: s.value for s in figures["ecotone_engines"] if s.value} == {"ready": 2}
    assert (
        figures["ecotone_engine_restarts"][0].value == kills and figures["ecotone_engine_memory_bytes"][0].value > 1e7
    )


def test_options_that_make_no_sense_are_refused_before_anything_starts(engines: Engines) -> None:
    for options, said in (
        (Options(kind="llamacpp"), "known are builtin"),
        (Options(replicas=4, most_replicas=2), "replicas are 4 to 2"),
        (Options(replicas=0), "replicas"),
        (Options(quantise="int3"), "int8 is expected"),
        (Options(slots=-1), "slots is -1"),
        (Options(idle=-5), "idle is -5"),
        (Options(url="http://127.0.0.1:1/v1"), "has no url"),
    ):
        with pytest.raises(NotServable, match=said):
            engines.serve("demo/llama", "main", (), SYSTEM, options)
    assert engines.deployments() == []


@pytest.mark.slow
def test_what_8_bits_cost_is_told_with_the_deployment_and_vectors_are_not_moved(engines: Engines, until: Until) -> None:
    made = engines.serve("demo/llama", "main", (), SYSTEM, Options(quantise="int8"))
    assert {"argmax_agreement", "measured_on"} <= set(made.info["quantised"]) and made.info["slots"] > 0
    until(lambda: one(engines).memory)
    assert one(engines).tokens_per_second == 0, "what was measured while it loaded is no throughput"
    with pytest.raises(NotServable, match="int8 is refused for models that make embeddings"):
        engines.serve("demo/bert", "main", (), SYSTEM, Options(quantise="int8"))


@pytest.mark.slow
def test_an_answer_under_way_ends_while_other_options_take_over(
    engines: Engines, connect: Connect, gone: Gone, until: Until
) -> None:
    old = engines.serve("demo/llama", "main", (), SYSTEM)
    body = {
        "model": "demo/llama",
        "prompt": "hello",
        "max_tokens": 100,
        "stream": True,
        "ignore_eos": True,
        "temperature": 0,
    }
    events: list[str] = []

    def ask() -> None:
        with connect(old.socket) as client, client.stream("POST", "/v1/completions", json=body) as answer:
            for line in answer.iter_lines():
                events.append(line)
                time.sleep(0.02)  # a reader that takes its time

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: events)
    new = engines.serve("demo/llama", "main", (), SYSTEM, Options(threads=1))
    assert new.options.threads == 1 and new.id == old.id and new.sockets != old.sockets
    asking.join(90)
    assert events[-2:] == ["data: [DONE]", ""], events[-3:]
    until(lambda: gone(old.pid or 0))
    again = engines.serve("demo/llama", "main", (), SYSTEM)
    assert again.options.threads == 1 and again.pid == new.pid, "without options those that it has stay"


def test_an_idle_engine_is_unloaded_and_the_first_call_loads_it(tmp_path: Path, shelf: Shelf, until: Until) -> None:
    with running(tmp_path, shelf) as engines:
        engines.own()
        made = engines.serve("demo/llama", "main", (), SYSTEM, Options(idle=4))
        assert not made.options.pin
        assert made.state == IDLE or (made.idle_left is not None and made.idle_left <= 4)
        until(lambda: one(engines).state == IDLE and one(engines).pid is None)
        idle = one(engines)
        assert (idle.sockets, idle.loadable, idle.error) == ((), True, None)
        Caller(tmp_path)("demo/llama")  # as another process of the gateway does
        Caller(tmp_path)("demo/nothing")
        until(lambda: one(engines).state == READY)
    assert not (tmp_path / "engines" / "waking").exists()
    Caller(tmp_path)("demo/llama")  # nobody is there any more: no error


@pytest.mark.slow
def test_calls_by_openais_face_keep_a_model_loaded(engines: Engines, connect: Connect, until: Until) -> None:
    """ollama #3645: what keeps a model loaded has no effect through OpenAI's face. Each call begins the time anew."""
    made = engines.serve("demo/llama", "main", (), SYSTEM, Options(idle=600))
    for _ in range(2):
        until(lambda: (one(engines).idle_left or 0) < 597)
        left = one(engines).idle_left or 0
        assert says(connect, made.socket)
        until(lambda left=left: (one(engines).idle_left or 0) > left)
    engines.serve("demo/llama", "main", (), SYSTEM, Options(idle=0.2))
    until(lambda: one(engines).state == IDLE)


@pytest.mark.slow
def test_a_pinned_engine_stays(engines: Engines) -> None:
    engines.serve("demo/llama", "main", (), SYSTEM, Options(idle=0.2, pin=True))
    time.sleep(1)
    assert one(engines).state == READY and one(engines).idle_left is None


def test_options_survive_a_restart_and_what_loads_on_demand_waits(tmp_path: Path, shelf: Shelf, until: Until) -> None:
    chosen = Options(on_demand=True, idle=900.0, slots=4)
    with running(tmp_path, shelf) as engines:
        made = engines.serve("demo/llama", "main", ("shop",), SYSTEM, chosen)
        assert (made.state, made.pid, made.options) == (IDLE, None, chosen)
        shelf.hidden.add("demo/llama")
        stranger = Actor("user", "rita", Role.READ)
        catalogue: Any = shelf
        assert [d.model for d in visible(engines, catalogue, SYSTEM)] == ["demo/llama"]
        assert visible(engines, catalogue, stranger) == []
        with pytest.raises(DeploymentNotFound):
            deployment_of("demo/llama", engines, catalogue, stranger)
    with running(tmp_path, shelf) as engines:
        engines.restore()
        assert one(engines).state == IDLE and one(engines).options == chosen
        seen = set()
        engines.on_change(lambda: seen.add(one(engines).progress))
        engines.wake("demo/llama")
        until(lambda: one(engines).state == READY)
        assert any("loading" in (phase or "") for phase in seen), seen
        assert one(engines).memory is None or one(engines).memory > 50 << 20


@pytest.mark.slow
def test_the_engine_used_longest_ago_makes_room_and_a_pinned_one_does_not(
    tmp_path: Path, shelf: Shelf, until: Until
) -> None:
    settings = Settings(data=tmp_path, engine_memory=1000 << 20)  # room for one tiny engine beside its process, or two
    with running(tmp_path, shelf, settings=settings) as engines:
        engines.serve("demo/llama", "main", (), SYSTEM, Options(idle=3600))
        engines.serve("demo/other", "main", (), SYSTEM, Options(pin=True))
        until(lambda: one(engines).memory and (one(engines).idle_left or 0) < 3598)  # in use no longer
        engines.serve("demo/bert", "main", (), SYSTEM)
        assert {d.model: d.state for d in engines.deployments()} == {
            "demo/bert": READY,
            "demo/llama": IDLE,
            "demo/other": READY,
        }
        engines.serve("demo/bert", "main", (), SYSTEM, Options(pin=True))
        with pytest.raises(NoRoom, match=r"needs about \d+ MiB .* of 1000 MiB are free.* MiB pinned") as refused:
            engines.serve("demo/plain", "main", (), SYSTEM)
        assert "ECOTONE_ENGINE_MEMORY" in refused.value.message
        assert "demo/plain" not in {d.model for d in engines.deployments()}
        engines.wake("demo/llama")
        until(lambda: one(engines).error)
        assert one(engines).state == IDLE and "MiB are free" in (one(engines).error or "")
        engines.stop("demo/other")
        engines.wake("demo/llama")
        until(lambda: one(engines).state == READY)


def test_weights_with_one_changed_byte_are_refused_by_name(
    engines: Engines, shelf: Shelf, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(made["llama"], tmp_path / "flipped")
    shelf.put("demo/flipped", folder)
    engines.serve("demo/flipped", "main", (), SYSTEM)
    engines.stop("demo/flipped")
    weights = folder / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-7] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(NotServable, match=r"model\.safetensors is damaged on the disk") as refused:
        engines.serve("demo/flipped", "main", (), SYSTEM)
    assert str(tmp_path) not in refused.value.message
    weights.unlink()
    with pytest.raises(NotServable, match=r"model\.safetensors is missing"):
        engines.serve("demo/flipped", "main", (), SYSTEM)


@pytest.mark.slow
def test_what_was_verified_is_not_read_again(engines: Engines, tmp_path: Path) -> None:
    engines.serve("demo/llama", "main", (), SYSTEM)
    kept = list((tmp_path / "engines" / "verified").glob("*.json"))
    assert len(kept) == 1 and "model.safetensors" in json.loads(kept[0].read_text())
    written = kept[0].stat().st_mtime_ns
    engines.stop("demo/llama")
    engines.serve("demo/llama", "main", (), SYSTEM)
    assert kept[0].stat().st_mtime_ns == written


@pytest.mark.slow
def test_an_engine_that_stands_still_under_a_call_is_replaced(
    tmp_path: Path, shelf: Shelf, connect: Connect, until: Until
) -> None:
    pace = Pace(start=300, first_pause=0.1, probe_every=3600, probe_within=5, probes=2, grace=0.5, stall=5)
    with running(tmp_path, shelf, pace=pace) as engines:
        made = engines.serve("demo/llama", "main", (), SYSTEM)
        over = threading.Event()
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(asking, connect, made.socket, over) for _ in range(3)]
            until(lambda: one(engines).running > 0)
            os.kill(made.pid or 0, signal.SIGSTOP)
            # by its silence under a call: the next health check is an hour away
            until(lambda: "hangs" in (one(engines).error or ""))
            over.set()
            assert all(isinstance(call.exception(120), httpx.HTTPError) for call in calls)
        until(lambda: one(engines).state == READY)


@pytest.mark.slow
def test_more_replicas_come_while_calls_wait(engines: Engines, connect: Connect, until: Until) -> None:
    chosen = Options(replicas=1, most_replicas=2, slots=1, threads=1)
    made = engines.serve("demo/llama", "main", (), SYSTEM, chosen)
    assert len(made.replicas) == 1
    over = threading.Event()

    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(asking, connect, made.socket, over)
        try:
            until(lambda: len(one(engines).sockets) == 2)
            until(lambda: one(engines).tokens_per_second > 0)
        finally:
            over.set()
