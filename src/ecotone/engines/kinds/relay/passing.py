"""One call on its way through a relay: sent again while nothing of an answer has come, streamed on as it comes."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ecotone.engines.kinds.relay.far import Far, Fault, whole

log = logging.getLogger("ecotone.engines.relay")

_LARGEST_ANSWER = 256 * 1024 * 1024
_LARGEST_EVENT = 1024 * 1024
_FIRST_PAUSE = 0.1
_GONE = 499
_PASSED_ON = ("content-type", "retry-after", "x-request-id", "x-ecotone-task", "x-ecotone-usage")
_SENT_ON = ("x-request-id", "user-agent", "x-ecotone-model")
_NOT_THE_ENGINES = frozenset({500, 502, 503, 504})


class Opened:
    """An answer whose first bytes have come; `rest` are those after `first`."""

    def __init__(self, stack: contextlib.AsyncExitStack, answer: aiohttp.ClientResponse, first: bytes) -> None:
        self._stack = stack
        self._answer = answer
        self.first = first
        self.status = answer.status
        self.all_headers = answer.headers
        self.headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}

    @property
    def streams(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def pieces(self) -> AsyncIterator[bytes]:
        """All bytes; ends the call when left. Raises Fault when the engine ends first."""
        async with self._stack:
            try:
                yield self.first
                async for piece in self._answer.content.iter_any():
                    yield piece
            except (aiohttp.ClientError, OSError):
                raise Fault(
                    "The engine ended in the middle of its answer; send the request again.", status=503
                ) from None

    async def close(self) -> None:
        await self._stack.aclose()


async def opened(far: Far, path: str, body: bytes, headers: dict[str, str]) -> Opened:
    """An answer that has begun. While nothing of one has come, the call is sent again, as often as the engine's make
    allows. Raises Fault."""
    pause = _FIRST_PAUSE
    for attempt in range(1, far.attempts + 1):
        try:
            return await _once(far, path, body, headers)
        except Fault as fault:
            if not fault.again or attempt == far.attempts:
                raise
            log.warning("a call is sent again in %.1f s: %s", pause, fault.message)
            await asyncio.sleep(pause)
            pause *= 2
    raise AssertionError("unreachable")


async def _once(far: Far, path: str, body: bytes, headers: dict[str, str]) -> Opened:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(far.counted())
        answer = await stack.enter_async_context(far.call(path, body, headers))
        said = answer.headers.get("content-type", "")
        if answer.status in (401, 403):
            raise Fault("The engine refuses the relay's key; look at the deployment's key.", code="engine_key")
        if said.startswith("text/event-stream"):
            first = await answer.content.readany()
            if not first:
                raise Fault("The engine's stream ended before it began.", status=503, again=True)
        else:
            first = await whole(answer, _LARGEST_ANSWER)
            if answer.status in _NOT_THE_ENGINES and not said.startswith("application/json"):
                # words of whoever passes calls on before the engine, never of an engine's own
                told = first[:200].decode("utf-8", "replace").strip()
                raise Fault(f"No engine took the call ({answer.status}: {told}).", status=503, again=True)
        return Opened(stack.pop_all(), answer, first)


async def passed(far: Far, request: Request, path: str, body: bytes) -> Response:
    """The engine's answer to a call, as it is."""
    headers = {name: value for name, value in request.headers.items() if name in _SENT_ON}
    found = await unless_gone(request, opened(far, path, body, headers))
    if found is None:
        return Response(status_code=_GONE)
    if not found.streams:
        await found.close()
        return Response(found.first, status_code=found.status, headers=found.headers)
    return StreamingResponse(
        _to_its_end(found.pieces()),
        status_code=found.status,
        headers={**found.headers, "cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _to_its_end(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole events as they come. A stream that fails ends with an error event and without `[DONE]`."""
    held = b""
    try:
        async for piece in pieces:
            held += piece
            if (end := _end_of_events(held)) or len(held) > _LARGEST_EVENT:
                yield held[: end or None]
                held = held[end:] if end else b""
        if held:
            yield held
    except Fault as fault:
        yield b"data: " + json.dumps(fault.body(), separators=(",", ":")).encode() + b"\n\n"


def _end_of_events(data: bytes) -> int:
    """Where the last whole event ends; 0 when there is none."""
    plain, carried = data.rfind(b"\n\n"), data.rfind(b"\r\n\r\n")
    return max(plain + 2 if plain >= 0 else 0, carried + 4 if carried >= 0 else 0)


async def unless_gone(request: Request, work: Awaitable[Opened]) -> Opened | None:
    """The work's result, or None when the client left before; the engine then learns of it by the closed connection."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        leaving.cancel()
        doing.cancel()


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer_fault(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Fault)
    return JSONResponse(
        error.body(), status_code=error.status, headers={"retry-after": "1"} if error.status == 503 else None
    )
