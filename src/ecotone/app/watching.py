"""What the gateway's processes count, brought together: sums for `/metrics`, the history for the page of traffic."""

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ecotone.gateway import counters
from ecotone.gateway.counters import Counters, Keeper, Kept
from ecotone.gateway.gathering import Totals
from ecotone.gateway.history import History

log = logging.getLogger("ecotone.app")

_LOOK_SECONDS = 5.0
_SAVE_SECONDS = 60.0


class Watch:
    """The figures of one installation's gateways, as its server sees them.

    Every process saves its own counters. The one server that does the background work keeps the history in
    `DATA/traffic`, over restarts.

    Args:
        own: this process's counters.
        data: the data folder.
        writer: this process's chain in the ledger.
        under_way: how many calls are, in this process.
    """

    def __init__(self, own: Counters, data: Path, writer: str, under_way: Callable[[], int]) -> None:
        self._own = own
        self._under_way = under_way
        self._data = data
        self._writer = writer
        self._file = data / "traffic"
        self._turn = threading.Lock()
        self._keeper = Keeper(own, data, writer, under_way)
        self._left = counters.load(data).get(writer)
        self.totals = Totals()
        self.history = History()

    def start(self) -> None:
        """Begin to save this process's counters."""
        self._keeper.start()

    def stop(self) -> None:
        self._keeper.stop()

    def gather(self) -> None:
        """Bring sums and history up to now; reads the other processes' files."""
        with self._turn:
            found = self._found()
            self.totals.take(found)
            self.history.take(found, time.time())

    async def run(self) -> None:
        """Keep the history until cancelled; in the process that does the background work."""
        await asyncio.to_thread(self._load)
        saved = time.monotonic()
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                try:
                    await asyncio.to_thread(self.gather)
                    if time.monotonic() - saved > _SAVE_SECONDS:
                        saved = time.monotonic()
                        await asyncio.to_thread(self._save)
                except Exception:  # figures must not end the server
                    log.exception("the gateway's figures could not be brought together; it is tried again")
        finally:
            with contextlib.suppress(OSError):
                self.gather()
                self._save()

    def _found(self) -> dict[str, Kept]:
        self._own.open = self._under_way()
        return counters.load(self._data) | {self._writer: counters.kept(self._own)}

    def _load(self) -> None:
        try:
            data = self._file.read_bytes()
        except OSError:
            return
        with self._turn:
            self.history = History.unpacked(data)
            found = counters.load(self._data)
            if self._left is not None:  # what the process before us counted after it saved the history
                found[self._writer] = self._left
            self.history.take(found, time.time())

    def _save(self) -> None:
        with self._turn:
            data = self.history.packed()
        draft = self._file.with_name(f".traffic.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(data)
            draft.chmod(0o600)
            draft.rename(self._file)
        except OSError as error:
            draft.unlink(missing_ok=True)
            log.warning("the gateway's traffic could not be saved: %s", error.strerror)
