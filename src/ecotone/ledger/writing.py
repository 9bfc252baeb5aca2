"""The writer of one chain. One process writes one chain; threads and the event loop share it.

A record is in the kernel (one `write()` to a file opened for appending) before `append` returns, so that it survives
the death of the process. A thread flushes to disk at most a second later, `flush=True` at once. A power cut may
cost that second.
"""

import asyncio
import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ecotone.ledger import records
from ecotone.ledger.reading import Ledger, segments
from ecotone.ledger.records import GENESIS, Head, Receipt
from ecotone.vocabulary import Unavailable

_FLUSH_SECONDS = 1.0


class LedgerFull(Unavailable):
    """The record could not be written; what it stands for must not happen."""

    code = "ledger_full"


class LedgerWriter:
    """Appends to the chain of one writer, in segments `folder/<writer>/<number>.jsonl`.

    Args:
        folder: the ledger's folder.
        writer: name of the chain; lower-case letters and digits.
        segment_bytes: size above which the next segment is begun.

    A record that a crash tore off half-way is cut when the chain is opened, and a record says so.
    """

    def __init__(self, folder: Path, writer: str, *, segment_bytes: int = 64 * 1024 * 1024) -> None:
        self._root = folder
        self._writer = writer
        self._folder = folder / writer
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._most = segment_bytes
        self._lock = threading.Lock()
        self._pending: list[tuple[str, dict[str, Any], asyncio.Future[Receipt]]] = []
        self._dirty = False
        self._closed = threading.Event()
        self._descriptor = -1
        self._size = 0
        self._records, self._hash = 0, GENESIS
        self._checkpointed: dict[str, Head] = {}
        torn = self._open()
        self._flusher = threading.Thread(target=self._flush_often, name="ledger-flush", daemon=True)
        self._flusher.start()
        if torn:
            self.append("cut", {"segment": self._segment.name, "bytes": torn}, flush=True)

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
        with self._lock:
            receipts = self._write([(kind, data)])
            if flush:
                os.fsync(self._descriptor)
                self._dirty = False
        return receipts[0]

    async def appended(self, kind: str, data: dict[str, Any]) -> Receipt:
        """Write one record with all others of this turn of the event loop, in one `write()`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        self._pending.append((kind, data, future))
        if len(self._pending) == 1:
            loop.call_soon(self._write_pending)
        return await future

    def _write_pending(self) -> None:
        waiting, self._pending = self._pending, []
        try:
            with self._lock:
                receipts = self._write([(kind, data) for kind, data, _ in waiting])
        except LedgerFull as error:
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, _, future), receipt in zip(waiting, receipts, strict=True):
            if not future.done():
                future.set_result(receipt)

    def _write(self, items: list[tuple[str, dict[str, Any]]]) -> list[Receipt]:
        number, prev = self._records, self._hash
        lines, receipts = [], []
        for kind, data in items:
            number += 1
            line, prev = records.encode(number, kind, prev, data)
            lines.append(line)
            receipts.append(Receipt(writer=self._writer, segment=self._segment.name, record=number, hash=prev))
        block = b"".join(lines)
        size = self._size
        try:
            written = os.write(self._descriptor, block)
            while written < len(block):
                written += os.write(self._descriptor, block[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise LedgerFull(
                f"The ledger cannot be written ({error.strerror}); free space in the data folder. Nothing was done.",
                retry_after=30,
            ) from None
        self._records, self._hash, self._size, self._dirty = number, prev, size + len(block), True
        if self._size >= self._most:
            self._next_segment()
        return receipts

    # -- segments ----------------------------------------------------------------------------------------------------
    def _open(self) -> int:
        """Open the last segment behind its last whole record; returns how many torn bytes were cut."""
        known = segments(self._folder)
        self._segment = known[-1] if known else self._folder / "000001.jsonl"
        for segment in reversed(known):
            last = _last_whole_line(segment)
            if last is not None:
                found = msgspec.json.decode(last)
                self._records, self._hash = found["n"], found["hash"]
                break
        self._descriptor = _append_to(self._segment)
        size = os.fstat(self._descriptor).st_size
        whole = _whole_bytes(self._segment)
        if whole < size:
            os.ftruncate(self._descriptor, whole)
        self._size = whole
        return size - whole

    def _next_segment(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        number = int(self._segment.stem) + 1
        self._segment = self._folder / f"{number:06d}.jsonl"
        self._descriptor = _append_to(self._segment)
        self._size = 0

    # -- heads and checkpoints ---------------------------------------------------------------------------------------
    def heads(self) -> dict[str, Head]:
        """Length and last hash of this chain, once on disk."""
        with self._lock:
            if self._dirty:
                os.fsync(self._descriptor)
                self._dirty = False
            return {self._writer: Head(records=self._records, hash=self._hash)} if self._records else {}

    def checkpoint(self, seed: bytes) -> dict[str, Head]:
        """Sign the heads of all chains into a record of this one, when any has grown; returns all heads.

        Args:
            seed: 32 bytes of the installation's signing key (Ed25519, RFC 8032).
        """
        heads = Ledger(self._root).heads(besides=self._writer) | self.heads()
        if heads == self._checkpointed or not heads:
            return heads
        root = records.merkle_root(heads)
        signature = Ed25519PrivateKey.from_private_bytes(seed[:32]).sign(root.encode())
        told = {writer: msgspec.to_builtins(head) for writer, head in heads.items()}
        self.append("checkpoint", {"heads": told, "root": root, "signature": signature.hex()}, flush=True)
        self._checkpointed = heads | self.heads()
        return self._checkpointed

    def close(self) -> None:
        """Flush and close; the writer must not be used afterwards."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._flusher.join(5)
        with self._lock:
            os.fsync(self._descriptor)
            os.close(self._descriptor)

    def _flush_often(self) -> None:
        while not self._closed.wait(_FLUSH_SECONDS):
            with self._lock:
                if not self._dirty:
                    continue
                descriptor = os.dup(self._descriptor)
                self._dirty = False
            with contextlib.suppress(OSError):  # a disk that fails here fails the next append, which says so
                os.fsync(descriptor)
            os.close(descriptor)


def public_key(seed: bytes) -> bytes:
    """The public half of the signing key, 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed[:32]).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _append_to(segment: Path) -> int:
    created = not segment.exists()
    descriptor = os.open(segment, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    if created:
        folder = os.open(segment.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return descriptor


def _whole_bytes(segment: Path) -> int:
    """Bytes up to and with the last line end."""
    with segment.open("rb") as file:
        file.seek(0, os.SEEK_END)
        at = file.tell()
        while at > 0:
            step = min(65536, at)
            file.seek(at - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                return at - step + found + 1
            at -= step
    return 0


def _last_whole_line(segment: Path) -> bytes | None:
    end = _whole_bytes(segment)
    if end == 0:
        return None
    with segment.open("rb") as file:
        size = 65536
        while True:
            start = max(0, end - size)
            file.seek(start)
            block = file.read(end - start)
            cut = block[:-1].rfind(b"\n")
            if cut >= 0 or start == 0:
                return block[cut + 1 :]
            size *= 4
