"""A relay tells each second how its engine is, for as long as it lives: by that it is unloaded, or started anew."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from ecotone.engines.kinds.relay import __main__ as relay
from ecotone.engines.kinds.relay import vllm
from ecotone.engines.kinds.relay.far import Far, Fault


class Engine:
    """One whose answers are given; an error is raised."""

    running = served = 0

    def __init__(self, *told: Any) -> None:
        self._told = iter(told)

    async def well(self) -> bool:
        return True

    async def figures(self) -> dict[str, Any]:
        found = next(self._told, {"tokens": 7})
        if isinstance(found, Exception):
            raise found
        return cast(dict[str, Any], found)


def test_figures_that_cannot_be_had_once_do_not_end_the_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of a Ray cluster is away for a moment, say: its client's errors are many."""
    monkeypatch.setattr(relay, "_BEAT_SECONDS", 0.01)
    beats: list[dict[str, Any]] = []
    engine = Engine({"tokens": 1}, ConnectionError("the head is away"), RuntimeError("of Ray"), Fault("silent"))

    async def play() -> None:
        beating = asyncio.create_task(relay._beat(cast(Far, engine), lambda message: beats.append(message["beat"])))
        await there(lambda: len(beats) > 4 or beating.done())
        beating.cancel()

    asyncio.run(play())
    assert [(beat.get("tokens"), beat["well"]) for beat in beats[:5]] == [
        (1, True),
        (None, True),
        (None, True),
        (None, False),
        (7, True),
    ]


def test_vllm_is_watched_on_after_figures_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that hangs later is never found out."""
    asked: list[bool] = []

    async def metrics(_far: Far) -> dict[str, float]:
        asked.append(True)
        if len(asked) == 1:
            raise ValueError("no metrics")
        return {}

    async def healthy(_far: Far) -> bool:
        return True

    monkeypatch.setattr(vllm, "metrics", metrics)
    monkeypatch.setattr(vllm.Started, "_healthy", healthy)
    spec = {"socket": "s.sock", "info": {"model": "demo/llama", "revision": "0"}}
    times = {"probe_every": 0.01, "stall": 60, "probe_within": 60}

    async def play() -> None:
        watching = asyncio.create_task(vllm.Started({**spec, **times})._watch())
        await there(lambda: len(asked) > 2 or watching.done())
        watching.cancel()

    asyncio.run(play())
    assert len(asked) > 2


def test_figures_that_are_no_numbers_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    page = b"vllm:num_requests_running NaN\nvllm:num_requests_waiting 2\nvllm:generation_tokens_total +Inf\n"

    class Page:
        async def ask(self, _path: str) -> tuple[int, bytes]:
            return 200, page

    assert asyncio.run(vllm.metrics(cast(Far, Page()))) == {"vllm:num_requests_waiting": 2.0}


async def there(true: Callable[[], object]) -> None:
    async with asyncio.timeout(90):
        while not true():
            await asyncio.sleep(0.01)
