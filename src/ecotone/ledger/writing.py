"""The writer of one chain. One process writes one chain; threads and the event loop share it.

A record is in the kernel (one `write()` to a file opened for appending) before `append` returns, so that it survives
the death of the process. A thread flushes to disk at most a second later, `flush=True` at once. A power cut may
cost that second. No flush is made under the lock that appending takes, so that none stands in a request's way.
"""

import asyncio
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ecotone.ledger import records
from ecotone.ledger.reading import Ledger
from ecotone.ledger.records import Head, Receipt
from ecotone.ledger.segments import head_of_chain, next_segment, segments, whole_bytes
from ecotone.vocabulary import Unavailable

_FLUSH_SECONDS = 1.0


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

    Raises:
        LedgerBusy: when it goes on holding it.

    A record that a crash tore off half-way is cut when the chain is opened, and a record says so.
    """

    def __init__(self, folder: Path, writer: str, *, segment_bytes: int = 64 * 1024 * 1024, wait: float = 20.0) -> None:
        self._root = folder
        self._writer = writer
        self._folder = folder / writer
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold = _held(self._folder, wait)
        self._most = segment_bytes
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._full: list[int] = []
        self._pending: list[tuple[str, bytes, asyncio.Future[Receipt]]] = []
        self._dirty = self._torn = False
        self._closed = threading.Event()
        head = head_of_chain(self._folder)
        self._records, self._hash = head.records, head.hash
        self._checkpointed: dict[str, Head] = {}
        self._signed_at = 0.0
        known = segments(self._folder)
        self._segment = known[-1] if known else self._folder / "000001.jsonl"
        self._descriptor = _append_to(self._segment)
        _flush_folder(self._folder)
        size = os.fstat(self._descriptor).st_size
        self._size = whole_bytes(self._segment)
        if self._size < size:
            os.ftruncate(self._descriptor, self._size)
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
        return not self._closed.is_set()

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
            receipts = self._write([(kind, own)])
        if flush:
            self._flush()
        return receipts[0]

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
        """Write records in one `write()`; each is a kind and its own fields as JSON.

        Raises:
            LedgerFull: when they cannot be written; the chain is then as before.
        """
        with self._lock:
            self._write(items)

    def _write_pending(self) -> None:
        waiting, self._pending = self._pending, []
        try:
            with self._lock:
                receipts = self._write([(kind, own) for kind, own, _ in waiting])
        except Exception as error:  # whatever it is, nobody may be left waiting
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, _, future), receipt in zip(waiting, receipts, strict=True):
            if not future.done():
                future.set_result(receipt)

    def _write(self, items: Sequence[tuple[str, bytes]]) -> list[Receipt]:
        if self._closed.is_set():
            raise LedgerFull("The ledger is closed; the server is about to end.")
        number, prev = self._records, self._hash
        lines, receipts = [], []
        for kind, own in items:
            number += 1
            line, prev = records.encode(number, kind, prev, own)
            lines.append(line)
            receipts.append(Receipt(writer=self._writer, segment=self._segment.name, record=number, hash=prev))
        block = b"".join(lines)
        size = self._size
        try:
            if self._torn:
                os.ftruncate(self._descriptor, size)
                self._torn = False
            written = os.write(self._descriptor, block)
            while written < len(block):
                written += os.write(self._descriptor, block[written:])
        except OSError as error:
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
                self._torn = False
            raise LedgerFull(
                f"The ledger cannot be written ({error.strerror}); free space in the data folder. Nothing was done.",
                retry_after=30,
            ) from None
        self._records, self._hash, self._size, self._dirty = number, prev, size + len(block), True
        if self._size >= self._most:
            self._begin_segment()
        return receipts

    def _begin_segment(self) -> None:
        """Go on in the next segment; in this one, larger than meant, when that cannot be made."""
        following = next_segment(self._segment)
        try:
            descriptor = _append_to(following)
        except OSError:
            return
        self._full.append(self._descriptor)
        self._segment, self._descriptor, self._size = following, descriptor, 0

    # -- the disk ----------------------------------------------------------------------------------------------------
    def _flush(self) -> dict[str, Head]:
        """Bring all that was written to disk; returns length and last hash that are there now."""
        with self._flushing:
            with self._lock:
                full, self._full = self._full, []
                dirty, self._dirty = self._dirty or bool(full), False
                descriptor = os.dup(self._descriptor) if dirty else -1
                head = Head(records=self._records, hash=self._hash)
            if dirty:
                self._flush_files(full, descriptor)
        return {self._writer: head} if head.records else {}

    def _flush_files(self, full: list[int], descriptor: int) -> None:
        try:
            for older in full:
                os.fsync(older)
            os.fsync(descriptor)
            if full:
                _flush_folder(self._folder)
        except OSError as error:
            self._dirty = True
            raise LedgerFull(f"The ledger does not reach the disk ({error.strerror}); look at the disk.") from None
        finally:
            for used in (*full, descriptor):
                os.close(used)

    def _flush_often(self) -> None:
        while not self._closed.wait(_FLUSH_SECONDS):
            with contextlib.suppress(LedgerFull):  # a disk that fails here fails the next append, which says so
                self._flush()

    def close(self) -> None:
        """Flush and close; nothing can be appended afterwards."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._flusher.join(5)
        with contextlib.suppress(LedgerFull):
            self._flush()
        os.close(self._descriptor)
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
        heads = Ledger(self._root).heads(besides=self._writer) | self.heads()
        if heads == self._checkpointed or not heads:
            self._signed_at = time.time()
            return heads
        root = records.merkle_root(heads)
        signature = Ed25519PrivateKey.from_private_bytes(seed[:32]).sign(root.encode())
        told = {writer: msgspec.to_builtins(head) for writer, head in heads.items()}
        receipt = self.append("checkpoint", {"heads": told, "root": root, "signature": signature.hex()}, flush=True)
        self._signed_at = time.time()
        self._checkpointed = heads | {self._writer: Head(records=receipt.record, hash=receipt.hash)}
        return self._checkpointed


def public_key(seed: bytes) -> bytes:
    """The public half of the signing key, 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed[:32]).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


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


def _append_to(segment: Path) -> int:
    return os.open(segment, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
