"""The writer of one chain. One process writes one chain; threads and the event loop share it.

A record is in the kernel (one `write()` to a file opened for appending) before `append` returns, so that it survives
the death of the process. A thread flushes to disk at most a second later, `flush=True` at once. A power cut may
cost that second. No flush is made under the lock that appending takes, so that none stands in a request's way.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ecotone.ledger import records
from ecotone.ledger.lines import encode_all
from ecotone.ledger.reading import Ledger
from ecotone.ledger.records import Head, Receipt
from ecotone.ledger.segments import flush_folder, head_of_chain, next_segment, segments, whole_bytes
from ecotone.ledger.spilling import Spill, number_of, spilled
from ecotone.vocabulary import Unavailable

log = logging.getLogger("ecotone.ledger")

_FLUSH_SECONDS = 1.0
_MOVED_BYTES = 1024 * 1024


class LedgerFull(Unavailable):
    """The record could not be written; what it stands for must not happen."""

    code = "ledger_full"


class LedgerBusy(Unavailable):
    """Another process writes this chain."""

    code = "ledger_busy"


class LedgerWriter:
    """Appends to the chain of one writer, in segments `folder/<writer>/<number>.jsonl`.

    Args:
        folder: the ledger's folder.
        writer: name of the chain; lower-case letters and digits.
        segment_bytes: size above which the next segment is begun.
        wait: seconds to wait for another process that still holds the chain.
        spill: a second folder; what an earlier writer left there is moved to the chain.
        spilling: whether records go there while this folder's disk is full, instead of being refused.

    Raises:
        LedgerBusy: when it goes on holding it.

    A record that a crash tore off half-way is cut when the chain is opened, and a record says so.
    """

    def __init__(
        self,
        folder: Path,
        writer: str,
        *,
        segment_bytes: int = 64 * 1024 * 1024,
        wait: float = 20.0,
        spill: Path | None = None,
        spilling: bool = True,
    ) -> None:
        self._root = folder
        self._writer = writer
        self._folder = folder / writer
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold = _held(self._folder, wait)
        self._most = segment_bytes
        self._spill = spill
        self._may_spill = spilling
        self._spilled: Spill | None = None
        self._in_place = self._moved = 0
        self.epoch = 0
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._moving = threading.Lock()
        self._full: list[int] = []
        self._pending: list[tuple[str, bytes, asyncio.Future[Receipt]]] = []
        self._dirty = self._torn = self._over = False
        self._closed = threading.Event()
        head = head_of_chain(self._folder)
        self._records, self._hash = head.records, head.hash
        self._checkpointed: dict[str, Head] = {}
        self._signed_at = 0.0
        known = segments(self._folder)
        self._segment = known[-1] if known else self._folder / "000001.jsonl"
        self._descriptor = _append_to(self._segment)
        flush_folder(self._folder)
        size = os.fstat(self._descriptor).st_size
        self._size = whole_bytes(self._segment)
        torn = self._size < size
        if torn:
            os.ftruncate(self._descriptor, self._size)
        self._take_up_spilled()
        if torn:
            self.append("cut", {"segment": self._segment.name, "bytes": size - self._size}, flush=True)
        self._flusher = threading.Thread(target=self._flush_often, name="ledger-flush", daemon=True)
        self._flusher.start()

    @property
    def writer(self) -> str:
        """The chain's name."""
        return self._writer

    @property
    def writable(self) -> bool:
        """Whether records are taken; a full disk is found by the next one."""
        return not self._over

    @property
    def spilling(self) -> bool:
        """Whether records go to the second folder, as there is no room in the first."""
        return self._spilled is not None

    @property
    def records(self) -> int:
        """How many records the chain has."""
        return self._records

    @property
    def last_checkpoint(self) -> float:
        """When heads were last found signed by this writer, or were signed, as `time.time()`; 0 for never."""
        return self._signed_at

    # -- appending ---------------------------------------------------------------------------------------------------
    def append(self, kind: str, data: dict[str, Any], *, flush: bool = False) -> Receipt:
        """Write one record.

        Args:
            kind: what it is: decision, opened, settled, refused, admin, checkpoint, ...
            data: JSON object; never a prompt, never a secret.
            flush: wait until it is on disk.

        Raises:
            LedgerFull: when it cannot be written; the chain is then as before.
        """
        own = records.packed(data)
        with self._lock:
            segment = self._segment.name
            self._write(((kind, own),))
            receipt = Receipt(writer=self._writer, segment=segment, record=self._records, hash=self._hash)
        if flush:
            self._flush()
        return receipt

    async def appended(self, kind: str, data: dict[str, Any]) -> Receipt:
        """Write one record with all others of this turn of the event loop, in one `write()`."""
        own = records.packed(data)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        self._pending.append((kind, own, future))
        if len(self._pending) == 1:
            loop.call_soon(self._write_pending)
        return await future

    def append_all(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Write records in one `write()`; each is a kind and its own fields as a JSON object in UTF-8, without blanks
        around it and without the names `n`, `at`, `kind`, `prev`, `hash`. Nothing of that is checked here.

        Raises:
            LedgerFull: when they cannot be written; the chain is then as before.
        """
        with self._lock:
            self._write(items)

    def _write_pending(self) -> None:
        waiting, self._pending = self._pending, []
        try:
            with self._lock:
                first, segment = self._records + 1, self._segment.name
                self._write([(kind, own) for kind, own, _ in waiting])
        except Exception as error:  # whatever it is, nobody may be left waiting
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for number, (_, _, future) in enumerate(waiting, start=first):
            if not future.done():
                future.set_result(Receipt(writer=self._writer, segment=segment, record=number))

    def _write(self, items: Sequence[tuple[str, bytes]]) -> None:
        if self._over:
            raise LedgerFull("The ledger is closed; the server is about to end.")
        block, last = encode_all(self._records + 1, self._hash, items)
        try:
            if self._spilled is None:
                self._into_segment(block)
            else:
                self._spilled.write(block)
        except OSError as error:
            self._spill_or_refuse(block, error)
        self._records += len(items)
        self._hash = last
        self._dirty = True
        if self._size >= self._most and self._spilled is None:
            self._begin_segment()

    def _into_segment(self, block: bytes) -> None:
        """Append to the segment; when that fails, the segment is as before."""
        size = self._size
        try:
            if self._torn:
                os.ftruncate(self._descriptor, size)
                self._torn = False
            written = os.write(self._descriptor, block)
            while written < len(block):
                written += os.write(self._descriptor, block[written:])
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
                self._torn = False
            raise
        self._size = size + len(block)

    def _spill_or_refuse(self, block: bytes, error: OSError) -> None:
        self.epoch += 1
        if self._spill is not None and self._may_spill and self._spilled is None:
            with contextlib.suppress(OSError):
                opened = Spill(self._spill / self._writer)
                opened.write(block)
                self._spilled, self._in_place, self._moved = opened, self._records, 0
                log.error(
                    "the ledger cannot be written (%s): records go to %s until there is room; free space in the data "
                    "folder",
                    error.strerror,
                    self._spill,
                )
                return
        raise LedgerFull(
            f"The ledger cannot be written ({error.strerror}); free space in the data folder. Nothing was done.",
            retry_after=30,
        ) from None

    def _begin_segment(self) -> None:
        """Go on in the next segment; in this one, larger than meant, when that cannot be made."""
        following = next_segment(self._segment)
        try:
            descriptor = _append_to(following)
        except OSError:
            return
        self._full.append(self._descriptor)
        self.epoch += 1
        self._segment, self._descriptor, self._size = following, descriptor, 0

    # -- the second folder -------------------------------------------------------------------------------------------
    def _take_up_spilled(self) -> None:
        """Go on behind what an earlier process left in the second folder."""
        if spilled(self._spill, self._writer) is None:
            return
        assert self._spill is not None
        self._in_place, self._moved = self._records, 0
        self._spilled = Spill(self._spill / self._writer)
        whole = 0
        for line in self._spilled.lines(0):
            if number_of(line) > self._records:
                head = records.head_of(line)
                if head is None or f'"prev":"{self._hash}"'.encode() not in line:
                    aside = self._spilled.cut(whole)
                    log.error(
                        "records in %s do not follow the chain %s; they lie in %s", self._spill, self.writer, aside
                    )
                    break
                self._records, self._hash = head.records, head.hash
            whole += len(line)
        with contextlib.suppress(OSError):  # no room yet: the flusher goes on trying
            self._chain_again()

    def _chain_again(self) -> None:
        """Append what lies in the second folder to the chain and leave that folder. Raises OSError for want of room."""
        with self._moving:  # the flusher may be in the middle of it when the chain is closed
            spill = self._spilled
            if spill is None:
                return
            while True:
                with self._lock:
                    if spill.size - self._moved <= _MOVED_BYTES:
                        self._move(spill, spill.size)
                        segment = os.dup(self._descriptor)  # appending may go on in the next one at once
                        self._spilled = None
                        self.epoch += 1
                        break
                self._move(spill, self._moved + _MOVED_BYTES)
            try:
                os.fsync(segment)
            finally:
                os.close(segment)
            spill.close(remove=True)
        log.warning("the ledger's chain %s has room again; what was spilled is chained", self._writer)

    def _move(self, spill: Spill, until: int) -> None:
        lines, moved, last = [], self._moved, self._in_place
        for line in spill.lines(self._moved):
            if moved >= until:
                break
            moved += len(line)
            if number_of(line) > last:
                lines.append(line)
                last = number_of(line)
        if lines:
            self._into_segment(b"".join(lines))
        self._moved, self._in_place = moved, last

    # -- the disk ----------------------------------------------------------------------------------------------------
    def _flush(self) -> dict[str, Head]:
        """Bring all that was written to disk; returns length and last hash that are there now."""
        with self._flushing:
            with self._lock:
                used = self._in_use() if self._dirty else []
                full, self._full, self._dirty = self._full, [], False
                head = Head(records=self._records, hash=self._hash)
            if used:
                self._flush_files(full, used)
        return {self._writer: head} if head.records else {}

    def _in_use(self) -> list[int]:
        """Descriptors of what is appended to, for the caller to close. Raises LedgerFull when none can be had."""
        found: list[int] = []
        try:
            found.append(os.dup(self._descriptor))
            if self._spilled is not None:
                found.append(self._spilled.duplicate())
        except OSError as error:
            _close(found)
            raise LedgerFull(f"The ledger does not reach the disk ({error.strerror}); try again.") from None
        return found

    def _flush_files(self, full: list[int], used: list[int]) -> None:
        """Of segments that are full, and of what is appended to; what does not reach the disk is for the next time."""
        try:
            for descriptor in (*full, *used):
                os.fsync(descriptor)
            if full:
                flush_folder(self._folder)
        except OSError as error:
            with self._lock:
                self._full[:0] = full
                self._dirty = True
            raise LedgerFull(f"The ledger does not reach the disk ({error.strerror}); look at the disk.") from None
        else:
            _close(full)
        finally:
            _close(used)

    def _flush_often(self) -> None:
        while not self._closed.wait(_FLUSH_SECONDS):
            with contextlib.suppress(OSError):  # still no room
                self._chain_again()
            # a disk that fails here fails the next append, which says so
            with contextlib.suppress(OSError, LedgerFull):
                self._flush()

    def close(self) -> None:
        """Flush and close; nothing can be appended afterwards."""
        with self._lock:
            if self._over:
                return
            self._over = True
        self._closed.set()
        self._flusher.join(5)
        with contextlib.suppress(OSError, LedgerFull):
            self._chain_again()
        with contextlib.suppress(LedgerFull):
            self._flush()
        _close([*self._full, self._descriptor])
        if self._spilled is not None:
            self._spilled.close(remove=False)
        os.close(self._hold)

    # -- heads and checkpoints ---------------------------------------------------------------------------------------
    def heads(self) -> dict[str, Head]:
        """Length and last hash of this chain, once on disk."""
        return self._flush()

    def checkpoint(self, seed: bytes) -> dict[str, Head]:
        """Sign the heads of all chains into a record of this one, when any has grown; returns all heads.

        Args:
            seed: 32 bytes of the installation's signing key (Ed25519, RFC 8032).
        """
        heads = Ledger(self._root, spill=self._spill).heads(besides=self._writer) | self.heads()
        if heads == self._checkpointed or not heads:
            self._signed_at = time.time()
            return heads
        root = records.merkle_root(heads)
        signature = Ed25519PrivateKey.from_private_bytes(seed[:32]).sign(root.encode())
        told = {writer: msgspec.to_builtins(head) for writer, head in heads.items()}
        receipt = self.append("checkpoint", {"heads": told, "root": root, "signature": signature.hex()}, flush=True)
        self._signed_at = time.time()
        self._checkpointed = heads | {self._writer: Head(records=receipt.record, hash=receipt.hash or "")}
        return self._checkpointed


def public_key(seed: bytes) -> bytes:
    """The public half of the signing key, 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed[:32]).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@contextlib.contextmanager
def unwritten(chain: Path) -> Iterator[None]:
    """Keep others from beginning to write a chain.

    Raises:
        LedgerBusy: somebody writes it.
    """
    descriptor = _held(chain, 0.0)
    try:
        yield
    finally:
        os.close(descriptor)


def _held(chain: Path, wait: float) -> int:
    """Hold a chain against other processes for as long as the descriptor is open; the kernel lets go when we die."""
    descriptor = os.open(chain, os.O_RDONLY)
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise LedgerBusy(
                    f"Another process writes the ledger in {chain}; stop the other server, or use another data folder."
                ) from None
            time.sleep(0.05)
        else:
            return descriptor


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _append_to(segment: Path) -> int:
    return os.open(segment, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
