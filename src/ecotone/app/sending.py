"""Bytes of files onto a connection without passing through Python: sendfile from worker threads.

uvicorn has no such path, and uvloop no `sendfile`. So a response that finds the extension in its scope sends its head,
hands what follows to `FileSender.send`, and ends with an empty body. The bytes go to a duplicate of the socket's
descriptor, which the loop watches for room; a client that stops reading holds no thread.
"""

import asyncio
import logging
import os
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from ecotone.app.receiving import tell, turn_in
from ecotone.app.traffic import KEY, Transfer
from ecotone.storage import Outgoing, Segment

log = logging.getLogger("ecotone.app")

_THREADS = 8
_TURN_SECONDS = 0.1
_ROOM_MILLISECONDS = 10
_MOST_AT_ONCE = 1024 * 1024 * 1024
_threads = ThreadPoolExecutor(_THREADS, "sending")


class Cycle(Protocol):
    """What is used of uvicorn's request and response."""

    scope: Any
    disconnected: bool
    expected_content_length: int


class FileSender:
    """One response's way onto its connection.

    Args:
        stalled: seconds for which a client may take nothing.
    """

    def __init__(self, transport: asyncio.Transport, cycle: Cycle, stalled: float) -> None:
        self._transport = transport
        self._cycle = cycle
        self._stalled = stalled

    async def send(self, items: Iterator[Outgoing], size: int) -> None:
        """Send the items behind what was written before, `size` bytes in all, after a head that announced them.

        Raises:
            ConnectionError: when the client left, or took nothing for too long.
        """
        await self._written()
        plain: socket.socket = self._transport.get_extra_info("socket")
        descriptor = os.dup(plain.fileno())
        push = _Push(descriptor, items, self._cycle.scope.get(KEY))
        try:
            while not await turn_in(_threads, push.turn):
                await self._room(descriptor)
                if self._cycle.disconnected:
                    raise ConnectionError("the client left")
        except BaseException:
            self._end()
            raise
        finally:
            push.close()
            os.close(descriptor)
        if push.sent != size:
            self._end()
            raise RuntimeError(f"{push.sent} bytes were sent, {size} were announced")
        self._cycle.expected_content_length -= size

    def _end(self) -> None:
        """End the connection: the head has promised more than will come."""
        self._cycle.disconnected = True
        self._transport.abort()

    async def _written(self) -> None:
        """Wait until what the transport holds is on its way."""
        pause = 0.0
        began = time.monotonic()
        while self._transport.get_write_buffer_size():
            await asyncio.sleep(pause)
            pause = min(pause + 0.001, 0.05)
            if time.monotonic() - began > self._stalled:
                break
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            raise ConnectionError("the client left")

    async def _room(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        loop.add_writer(descriptor, tell, room)
        try:
            async with asyncio.timeout(self._stalled):
                await room
        except TimeoutError:
            log.info("a connection was ended: its client took nothing for %g s", self._stalled)
            raise ConnectionError("the client takes nothing") from None
        finally:
            loop.remove_writer(descriptor)


class _Push:
    """The items and how far they are. A turn runs in a worker thread and ends when the connection has no room."""

    def __init__(self, descriptor: int, items: Iterator[Outgoing], transfer: Transfer | None) -> None:
        self._descriptor = descriptor
        self._items = items
        self._transfer = transfer
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._segment: Segment | None = None
        self._data = memoryview(b"")
        self.sent = 0

    def turn(self) -> bool:
        """Send what the connection takes; returns whether all is sent."""
        end = time.monotonic() + _TURN_SECONDS
        while True:
            if not self._data and self._segment is None and not self._next():
                return True
            if time.monotonic() > end:  # however fast its client is: others wait for a thread too
                return False
            try:
                self._some()
            except BlockingIOError:
                if not self._poll.poll(_ROOM_MILLISECONDS):
                    return False

    def _next(self) -> bool:
        item = next(self._items, None)
        if item is None:
            return False
        if isinstance(item, Segment):
            self._segment = item
        else:
            self._data = memoryview(item)
        return True

    def _some(self) -> None:
        if self._segment is None:
            count = os.write(self._descriptor, self._data)
            self._data = self._data[count:]
        else:
            source, offset, size = self._segment
            count = os.sendfile(self._descriptor, source, offset, min(size, _MOST_AT_ONCE))
            if not count:
                raise OSError("a stored object is shorter than its index says; run `ecotone fsck`")
            self._segment = Segment(source, offset + count, size - count) if count < size else None
        self.sent += count
        if self._transfer is not None:
            self._transfer.sent += count

    def close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()
