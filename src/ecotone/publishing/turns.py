"""Room for writers: they work in threads of their own, few of one caller, and who waits for a turn holds no thread.

Commits and merges take long, and those on one branch go one after the other. In the threads that answer everybody,
one person with many of them at once would keep everybody else waiting.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from ecotone.accounts import Actor

MOST_AT_ONCE = 16
MOST_OF_ONE = 4
T = TypeVar("T")


class _Room:
    """Of one event loop: all writers, and those of each caller that has some."""

    def __init__(self) -> None:
        self.all = CapacityLimiter(MOST_AT_ONCE)
        self.of: dict[str, CapacityLimiter] = {}


_room: RunVar[_Room] = RunVar("ecotone_writers")


async def in_turn(actor: Actor, function: Callable[..., T], /, *args: Any, **how: Any) -> T:
    """What a function that changes something returns, called in a thread when its caller's turn has come.

    Nobody is counted who has no name: such callers may change next to nothing.
    """
    try:
        room = _room.get()
    except LookupError:
        room = _Room()
        _room.set(room)
    call = partial(function, *args, **how)
    async with AsyncExitStack() as held:
        if actor.kind == "user":
            own = room.of.setdefault(actor.name, CapacityLimiter(MOST_OF_ONE))
            ticket = object()
            try:
                await own.acquire_on_behalf_of(ticket)
            finally:
                held.callback(_left, room, actor.name)
            held.callback(own.release_on_behalf_of, ticket)
        return await to_thread.run_sync(call, limiter=room.all)


def _left(room: _Room, name: str) -> None:
    """Forget a caller who has nothing under way and waits for nothing."""
    seen = room.of[name].statistics() if name in room.of else None
    if seen is not None and not seen.borrowed_tokens and not seen.tasks_waiting:
        del room.of[name]
