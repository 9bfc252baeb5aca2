"""The bytes of a file on their way out: whole or one range, from any form of storage (protocol section 1.6).

Reading is done in worker threads, one chunk at a time: a client that stops reading holds one chunk and no thread.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ecotone.storage import Content, Outgoing, Storage, Stored
from ecotone.storage.objects import segment

SMALL = 1024 * 1024
FILES, BODY = "ecotone.files", "ecotone.body"  # extensions of the server, in a request's scope
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class Part(NamedTuple):
    """A range of bytes, `end` exclusive."""

    start: int
    end: int


def asked_range(header: str | None, size: int) -> Part | None:
    """The one range that a Range header asks for; None for the whole file.

    Several ranges, other units and malformed headers are ignored, as RFC 9110 section 14.2 allows.

    Raises:
        ValueError: when the range lies outside of the file (416).
    """
    found = _RANGE.match((header or "").strip().lower())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise ValueError("an empty range")
        return Part(max(0, size - int(last)), size)
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError("beyond the end")
    return Part(start, end)


class FilesResponse(Response):
    """A body that goes from files onto the connection by the server's own extension; see `ecotone.app.sending`."""

    def __init__(
        self, outgoing: Iterator[Outgoing], size: int, status: int, *, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(None, status, headers=headers, media_type=media_type)
        self._outgoing = outgoing
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await scope["extensions"][FILES].send(self._outgoing, self._size)
        except ConnectionError:
            return
        await send({"type": "http.response.body", "body": b""})


async def content_response(
    request: Request, storage: Storage, content: Content, *, headers: dict[str, str], media_type: str
) -> Response:
    """200 with the whole file, 206 with a range, 304 for one that the client has, 416 for one that is not there."""
    if _has_it(request, headers.get("etag", "")):
        return Response(status_code=304, headers=_kept_at_304(headers))
    wanted = request.headers.get("range")
    if request.headers.get("if-range", headers.get("etag")) != headers.get("etag"):
        wanted = None
    try:
        part = asked_range(wanted, content.size)
    except ValueError:
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{content.size}"})
    status = 200
    if part is not None:
        status = 206
        headers = headers | {"content-range": f"bytes {part.start}-{part.end - 1}/{content.size}"}
    start, end = part or (0, content.size)
    headers = headers | {"content-length": str(end - start)}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    if end - start <= SMALL:
        data = await run_in_threadpool(_whole, storage, content, start, end)
        return Response(data, status, headers=headers, media_type=media_type)
    if FILES in request.scope.get("extensions", {}):
        outgoing = await run_in_threadpool(storage.outgoing, content, start, end)
        if outgoing is not None:
            return FilesResponse(outgoing, end - start, status, headers=headers, media_type=media_type)
    chunks = storage.read(content, start, end)
    first = await run_in_threadpool(_gathered, chunks)  # an object that is gone is found before a status is sent
    return StreamingResponse(_chunks(first, chunks), status, headers=headers, media_type=media_type)


def _whole(storage: Storage, content: Content, start: int, end: int) -> bytes:
    return b"".join(storage.read(content, start, end)) if end > start else b""


async def _chunks(first: bytes, chunks: Iterator[bytes | memoryview]) -> AsyncIterator[bytes]:
    """`first`, then a blocking iterator's bytes, about a MiB each time a worker thread is asked; closed at the end."""
    try:
        chunk = first
        while chunk:
            yield chunk
            chunk = await run_in_threadpool(_gathered, chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _gathered(chunks: Iterator[bytes | memoryview]) -> bytes:
    held: list[bytes | memoryview] = []
    size = 0
    while size < SMALL and (chunk := next(chunks, None)) is not None:
        held.append(chunk)
        size += len(chunk)
    return b"".join(held)


def stored_response(
    request: Request, stored: Stored, start: int, end: int, status: int, *, headers: dict[str, str]
) -> Response:
    """Bytes [start, end) of an open object, which is closed at the end."""
    media_type = "application/octet-stream"
    if FILES in request.scope.get("extensions", {}) and stored.fileno() is not None:
        outgoing = segment(stored, start, end)
        return FilesResponse(outgoing, end - start, status, headers=headers, media_type=media_type)
    return StreamingResponse(pieces_of(stored, start, end), status, headers=headers, media_type=media_type)


async def pieces_of(stored: Stored, start: int, end: int) -> AsyncIterator[bytes]:
    """Bytes [start, end) of an open object, which is closed at the end."""
    with stored:
        while start < end and (piece := await run_in_threadpool(stored.read, start, min(SMALL, end - start))):
            start += len(piece)
            yield piece


def _has_it(request: Request, etag: str) -> bool:
    known = request.headers.get("if-none-match")
    if known is None or not etag or "range" in request.headers:
        return False
    return etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}


def _kept_at_304(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in ("content-disposition", "accept-ranges")}


async def receive_into(request: Request, take: Callable[[bytes | memoryview], object]) -> None:
    """Give the body of a request to `take` in a worker thread, by the server's own way where it has one.

    Raises:
        ClientDisconnect: when it does not come whole. What `take` raises ends the reading.
    """
    reader = request.scope.get("extensions", {}).get(BODY)
    if reader is not None:
        await reader.read(take)
        return
    async for gathered in gather(request.stream()):
        await run_in_threadpool(take, gathered)


async def gather(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in larger pieces: each costs a change of thread."""
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= SMALL:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
