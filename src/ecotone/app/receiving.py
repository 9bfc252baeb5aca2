"""Bodies from a connection to where they are kept, read by worker threads, past the loop and uvicorn's buffers.

A handler that finds the extension in its scope hands over what takes the bytes. The connection's reading is paused,
and what the loop has of the body already goes first. The rest, exactly as much as was announced, is read from a
duplicate of the socket's descriptor. A new parser then waits for the next request: the old one never saw that body.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httptools
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ecotone.app.bodies import Pace
from ecotone.app.traffic import KEY, Transfer

MOST_DROPPED = 64 * 1024 * 1024
_THREADS = 16
_PIECE = 512 * 1024
_TURN_SECONDS = 0.1
_DATA_MILLISECONDS = 5
_threads = ThreadPoolExecutor(_THREADS, "receiving")


async def turn_in(threads: ThreadPoolExecutor, turn: Callable[[], bool]) -> bool:
    """A turn in a worker thread, which has ended when this returns, even cancelled.

    A thread cannot be told to stop. A descriptor that were closed beneath it would soon be another file or connection,
    and the turn would go on with that.
    """
    work = asyncio.wrap_future(threads.submit(turn))
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # looked at: nobody else will
        raise cancelled
    return work.result()


class BodyReader:
    """The body of one request whose length was announced."""

    def __init__(self, protocol: HttpToolsProtocol, length: int, pace: Pace) -> None:
        self._protocol = protocol
        self._pace = pace
        self._cycle = protocol.cycle
        self._length = length

    async def read(self, take: Callable[[memoryview], object]) -> None:
        """Give all of the body to `take`, piece by piece, in a worker thread.

        What `take` raises is raised here once the rest of the body was read and dropped: so the client hears of it;
        where too much is still to come, the connection ends with the answer.

        Raises:
            ClientDisconnect: when the client left, or sends too slowly.
        """
        protocol, cycle = self._protocol, self._cycle
        if cycle.waiting_for_100_continue and not protocol.transport.is_closing():
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if cycle.disconnected or cycle.response_complete or protocol.transport.is_closing():
            raise ClientDisconnect
        protocol.flow.pause_reading()
        first, cycle.body = memoryview(bytes(cycle.body)), bytearray()
        plain: socket.socket = protocol.transport.get_extra_info("socket")
        descriptor = os.dup(plain.fileno())
        transfer: Any = cycle.scope.get(KEY)
        pull = _Pull(descriptor, take, first, self._length, transfer)
        try:
            await self._pulled(pull, descriptor)
        except BaseException:
            cycle.keep_alive = False  # the rest of the body is still to come: there is no next request
            raise
        finally:
            os.close(descriptor)
        if pull.left:
            cycle.keep_alive = False
        elif cycle.more_body:
            protocol.parser = httptools.HttpRequestParser(protocol)
        cycle.more_body = False
        if pull.failure is not None:
            raise pull.failure

    async def _pulled(self, pull: "_Pull", descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        left = pull.left
        while not await turn_in(_threads, pull.turn):
            self._pace.came(left - pull.left)
            left = pull.left
            await self._data(loop, descriptor)

    async def _data(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        """Wait until something is there to be read."""
        there: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, tell, there)
        try:
            while not there.done():
                began = time.monotonic()
                await asyncio.wait([there], timeout=self._pace.left)
                if self._pace.waited(time.monotonic() - began):
                    raise ClientDisconnect
        finally:
            loop.remove_reader(descriptor)


class _Pull:
    """How much is still to come. A turn runs in a worker thread and ends when nothing is there to be read."""

    def __init__(
        self,
        descriptor: int,
        take: Callable[[memoryview], object],
        first: memoryview,
        size: int,
        transfer: Transfer | None,
    ) -> None:
        self._transfer = transfer
        self._descriptor = descriptor
        self._take = take
        self._first = first
        self.left = size
        self.failure: Exception | None = None
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def turn(self) -> bool:
        """Read what is there; returns whether no more is to be read."""
        if self._first:
            self._give(self._first)
            self._first = memoryview(b"")
        buffer = memoryview(bytearray(min(_PIECE, self.left)))
        end = time.monotonic() + _TURN_SECONDS
        while self.left and (self.failure is None or self.left <= MOST_DROPPED):
            if time.monotonic() > end:  # however fast its client is: others wait for a thread too
                return False
            try:
                count = os.readv(self._descriptor, [buffer[: min(len(buffer), self.left)]])
            except BlockingIOError:
                if not self._poll.poll(_DATA_MILLISECONDS):
                    return False
                continue
            except OSError:
                raise ClientDisconnect from None
            if not count:
                raise ClientDisconnect
            self._give(buffer[:count])
        return True

    def _give(self, piece: memoryview) -> None:
        self.left -= len(piece)
        if self._transfer is not None:
            self._transfer.received += len(piece)
        if self.failure is None:
            try:
                self._take(piece)
            except Exception as failure:
                self.failure = failure


def tell(there: "asyncio.Future[None]") -> None:
    """Say that what is waited for has come; it may say so more than once."""
    if not there.done():
        there.set_result(None)


def announced_length(headers: Any) -> int | None:
    """The one content-length of a request's headers; None when the body is chunked or absent."""
    found = [value for name, value in headers if name == b"content-length"]
    if len(found) != 1 or any(name == b"transfer-encoding" for name, _ in headers) or not found[0].isdigit():
        return None
    return int(found[0])
