"""The coordinator of one machine: the supervisor's Unix socket, and the worker's end of it.

Messages are msgpack, each behind its length in four bytes. The socket lies in a private folder, so who can open it is
one of ours. The server's state is not written anywhere: it is the ledger's sums. For a lease's time after a start it
does not listen, as slices of the server before it may still be in use.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ecotone.gateway.lease_pool import Pool, Totals
from ecotone.gateway.leases import LEASE_SECONDS, Renewal, Renewed

log = logging.getLogger("ecotone.gateway")

_MOST = 64 * 1024 * 1024
_ANSWER_SECONDS = 2.0


class LeaseServer:
    """Lends to workers that connect to a socket.

    Args:
        path: of the socket, at most 107 bytes.
        totals: reads from the ledger what each worker's chain spent and holds, by budget; called in a thread at the
            start and when a worker's lease has ended.
        seconds: how long a lease lasts.
        alone: no worker of an earlier server can be alive: lend from the start.
    """

    def __init__(
        self,
        path: Path,
        totals: Callable[[], Totals],
        *,
        seconds: float = LEASE_SECONDS,
        alone: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._totals = totals
        self._seconds = seconds
        self._alone = alone
        self._clock = clock
        self._pool = Pool(seconds, {})
        self._server: asyncio.Server | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen, when the leases of an earlier server have ended and the ledger was read."""
        self._path.unlink(missing_ok=True)
        if self._alone:
            await self._listen()
        self._keeping = asyncio.create_task(self._keep())

    async def _listen(self) -> None:
        self._pool = Pool(self._seconds, await asyncio.to_thread(self._totals))
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        os.chmod(self._path, 0o600)  # noqa: PTH101

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.close()
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    def spent(self) -> dict[str, tuple[str, int, int]]:
        """By budget id: window, spent, and lent but not spent yet."""
        return self._pool.spent()

    async def _keep(self) -> None:
        """Take back what workers without contact were lent."""
        if not self._alone:
            await asyncio.sleep(self._seconds)
            await self._listen()
        while True:
            await asyncio.sleep(self._seconds / 10)
            if ended := self._pool.ended(self._clock()):
                try:
                    totals = await asyncio.to_thread(self._totals)
                except Exception:  # the next round tries again
                    log.exception("the ledger cannot be read; slices of %s stay lent", ", ".join(ended))
                    continue
                still = set(self._pool.ended(self._clock()))
                for worker in still & set(ended):
                    log.warning("the lease of %s has ended; its slices are free again", worker)
                    self._pool.take_back(worker, totals.get(worker, {}))
            self._pool.sweep(time.time())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                renewal = msgspec.msgpack.decode(await _read(reader), type=Renewal)
                _write(writer, msgspec.msgpack.encode(self._pool.renew(renewal, self._clock())))
                await writer.drain()
        except (OSError, EOFError):
            pass
        except msgspec.DecodeError as error:
            log.warning("a worker's message to the coordinator of limits cannot be read: %s", error)
        finally:
            self._open.discard(writer)
            writer.close()


class SocketCoordinator:
    """A worker's connection to the supervisor's `LeaseServer`; made anew when it breaks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def renew(self, renewal: Renewal) -> Renewed:
        """Raises OSError when nobody answers."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._ends is None:
                    self._ends = await asyncio.open_unix_connection(self._path)
                reader, writer = self._ends
                _write(writer, msgspec.msgpack.encode(renewal))
                await writer.drain()
                return msgspec.msgpack.decode(await _read(reader), type=Renewed)
        except asyncio.CancelledError:
            await self.close()  # its answer may still come, and is for nobody
            raise
        except (OSError, EOFError, msgspec.DecodeError) as error:
            await self.close()
            raise ConnectionError(f"the supervisor does not answer at its socket ({type(error).__name__})") from None

    async def close(self) -> None:
        if self._ends is not None:
            self._ends[1].close()
            self._ends = None


async def _read(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > _MOST:
        raise ConnectionError("a message is too long")
    return await reader.readexactly(length)


def _write(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(len(message).to_bytes(4, "big") + message)
