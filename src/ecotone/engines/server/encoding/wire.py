"""One request of an encoder over ASGI: its body bounded, its client watched, its answer written at once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from ecotone.engines.server.encoding.engine import Encoders
from ecotone.engines.server.encoding.texts import Found, Text
from ecotone.engines.server.encoding.turns import Job
from ecotone.engines.server.errors import RequestError

LARGEST_BODY = 4_000_000  # bytes
_PREPARE_SECONDS = 20.0
_SMALL = 4096  # bytes of a body that is tokenised at once rather than in a thread
_QUICK = 200_000  # numbers that are turned into an answer at once

Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")


class Gone(Exception):
    """The client has left; nobody reads an answer."""


async def body_of(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        RequestError: it is larger than this engine reads.
        Gone: the client left before its end.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > LARGEST_BODY:
            raise RequestError(
                f"The body has more than {LARGEST_BODY} bytes; send fewer or shorter inputs.",
                status=413,
                code="request_too_large",
            )
        if not message.get("more_body"):
            return b"".join(parts) + part if parts else part
        parts.append(part)


async def prepared(size: int, act: Callable[[], T]) -> T:
    """What `act` gives: at once for a small request, else beside the event loop and within a time."""
    if size <= _SMALL:
        return act()
    try:
        async with asyncio.timeout(_PREPARE_SECONDS):
            return await run_in_threadpool(act)
    except TimeoutError:
        raise RequestError(
            f"The texts could not be prepared within {_PREPARE_SECONDS:g} s; send fewer.", code="too_slow"
        ) from None


async def computed(encoders: Encoders, texts: Sequence[Text], receive: Receive) -> list[Found]:
    """What was wanted of each text.

    Raises:
        RequestError: too many wait, or the engine failed.
        Gone: the client left before; its texts are computed no more.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Found]] = loop.create_future()
    job = Job(texts, (loop, future))
    encoders.begin(job)
    leaving = loop.create_task(_watch(receive, future))
    try:
        return await future
    except asyncio.CancelledError:
        if future.cancelled() and leaving.done():
            raise Gone from None
        raise
    finally:
        job.cancelled = not future.done() or future.cancelled()
        leaving.cancel()


async def finished(found: Sequence[Found], act: Callable[[Sequence[Found]], T]) -> T:
    """The answer that `act` makes of what was computed, in a thread when that is much."""
    if sum(one.size for one in found) <= _QUICK:
        return act(found)
    return await run_in_threadpool(act, found)


async def answer(send: Send, value: Any, status: int = 200, headers: Headers | None = None) -> None:
    """JSON."""
    body = msgspec.json.encode(value)
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


class Endpoint:
    """An ASGI endpoint whose errors are answered in a shape of its own."""

    def __init__(
        self, act: Callable[[Scope, Receive, Send], Awaitable[None]], shape: Callable[[RequestError], Any]
    ) -> None:
        self._act = act
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(Gone):
            try:
                await self._act(scope, receive, send)
            except RequestError as error:
                more: Headers = [(b"retry-after", b"1")] if error.status in (429, 503) else []
                await answer(send, self._shape(error), error.status, more)


async def _watch(receive: Receive, future: "asyncio.Future[Any]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    future.cancel()
