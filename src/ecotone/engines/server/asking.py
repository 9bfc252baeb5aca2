"""How the faces of models that write read a request: its body, bounded; what may take long; the client leaving."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Receive

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.generation import Piece
from ecotone.engines.server.writing import Writing

LARGEST_BODY = 32 << 20
PARTY = "x-ecotone-party"
"""The header by which the gateway says for whom it asks."""
GONE = 499  # a status that nobody reads: the client has left

_PREPARE_SECONDS = 20.0
_T = TypeVar("_T")


async def body(request: Request) -> bytes:
    """The whole body. Raises RequestError when it is larger than this engine reads."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > LARGEST_BODY:
            raise RequestError(
                f"The body has more than {LARGEST_BODY} bytes; send less at once.", status=413, code="request_too_large"
            )
    return bytes(found)


async def prepared(act: Callable[[], _T]) -> _T:
    """Template and tokenizer, beside the event loop and within a time."""
    try:
        async with asyncio.timeout(_PREPARE_SECONDS):
            return await run_in_threadpool(act)
    except TimeoutError:
        raise RequestError(
            f"The prompt could not be prepared within {_PREPARE_SECONDS:g} s; send a shorter one.", code="too_slow"
        ) from None


async def whole(request: Request, writing: Writing) -> list[Piece] | None:
    """Each answer as one piece; None when the client left before, and then nothing is made any more."""
    leaving = watched(request.receive, writing)
    try:
        return await writing.whole()
    finally:
        leaving.cancel()
        writing.cancel()


def watched(receive: Receive, writing: Writing) -> "asyncio.Task[None]":
    """Ends the answers when their client leaves; to be cancelled when they have ended by themselves."""
    leaving = asyncio.ensure_future(_left(receive))
    leaving.add_done_callback(lambda _: writing.leave())
    return leaving


async def unless_gone(request: Request, work: "asyncio.Future[Any]") -> Any:
    """The work's result, or None when the client left before."""
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        leaving.cancel()
        work.cancel()


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
