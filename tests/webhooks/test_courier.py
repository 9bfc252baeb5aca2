"""The courier ends when it is told to, whatever happens in that moment."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from ecotone.webhooks import Targets, Webhooks
from ecotone.webhooks.courier import Courier


class Outbox:
    """Nothing is due."""

    def __init__(self) -> None:
        self.wake: Callable[[], None]
        self.asked = asyncio.Event()

    def on_waiting(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self._loop = asyncio.get_running_loop()

    def due(self, **_: Any) -> tuple[list[Any], float]:
        self._loop.call_soon_threadsafe(self.asked.set)
        return [], 3600.0

    def forget_old(self) -> None:
        pass


@pytest.mark.parametrize("steps", range(8))
def test_told_to_end_in_the_moment_when_something_comes_it_ends(steps: int) -> None:
    """Else the server waits for it at its own end, for good."""

    async def play() -> None:
        outbox = Outbox()
        task = asyncio.create_task(Courier(cast(Webhooks, outbox), Targets()).run())
        for _ in range(2):  # the first round looks at what is old as well
            await outbox.asked.wait()
            outbox.asked.clear()
            await asyncio.sleep(0.1)
            outbox.wake()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        ended, _ = await asyncio.wait({task}, timeout=30)
        assert ended

    asyncio.run(play())
