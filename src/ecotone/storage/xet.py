"""The Xet store: xorbs and files of a namespace, verified on arrival; reconstruction for clients and plain readers.

A xorb is one immutable file with its chunk index beside it. A file is a list of chunk ranges of xorbs that its
namespace has sent; its sha256 is checked by rebuilding the bytes while its shard is accepted, never later.
"""

import bisect
import functools
import hashlib
import itertools
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.database import Database, utc_now
from ecotone.storage import hashes, shards, xorbs
from ecotone.storage.errors import BadToken, BrokenShard, BrokenXorb, ContentNotFound, RangeNotSatisfiable
from ecotone.storage.files import new_file, sharded
from ecotone.storage.models import XetFileRow, XorbTenantRow
from ecotone.storage.signing import Signer
from ecotone.storage.xorbs import ChunkIndex

TOKEN_SECONDS = 3600
TOKEN_GRACE = 300
URL_SECONDS = 3600
_READ_BYTES = 4 * 1024 * 1024
_CONCURRENT_CHECKS = 4


@dataclass(frozen=True, slots=True)
class StoredTerm:
    xorb: str
    start: int
    end: int
    length: int


@dataclass(frozen=True, slots=True)
class XetFile:
    """A file of a namespace. `offsets` are the file offsets at which its terms begin, and its size at the end."""

    tenant: str
    hash: str
    sha256: str
    size: int
    terms: tuple[StoredTerm, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token of the CAS allows: reading, and writing when `write`, in one namespace."""

    tenant: str
    repo: str
    write: bool


class XetStore:
    """Xorbs and files below one folder, and the tables that say who may name them."""

    def __init__(self, database: Database, folder: Path, signer: Signer) -> None:
        self._database = database
        self._folder = folder
        self._signer = signer
        self._checks = threading.BoundedSemaphore(_CONCURRENT_CHECKS)
        self.index = functools.lru_cache(maxsize=256)(self._load_index)

    # -- tokens ------------------------------------------------------------------------------------------------------
    def token(self, repo: str, namespace: str, operation: str) -> tuple[str, int]:
        """An access token for the CAS and its end in Unix seconds. `operation` is read or write."""
        claims = {"purpose": "xet", "repo": repo, "tenant": namespace, "op": operation}
        token = self._signer.sign(claims, seconds=TOKEN_SECONDS)
        return token, int(self._signer.verify(token, purpose="xet")["exp"])

    def grant(self, token: str) -> Grant:
        """What a token allows; taken for some minutes after its end, since clients renew by their own clock.

        Raises:
            BadToken: when it is not valid.
        """
        claims = self._signer.verify(token, purpose="xet", grace=TOKEN_GRACE)
        return Grant(claims["tenant"], claims["repo"], claims["op"] == "write")

    def sign_range(self, xorb: str, start: int, end: int) -> str:
        """A token for bytes [start, end] (inclusive) of a xorb."""
        return self._signer.sign({"purpose": "xorb", "x": xorb, "s": start, "e": end}, seconds=URL_SECONDS)

    def signed_range(self, token: str) -> tuple[Path, int, int]:
        """The xorb's file and the byte range [start, end] that a data address allows. Raises BadToken."""
        claims = self._signer.verify(token, purpose="xorb", grace=TOKEN_GRACE)
        path = self._path(claims["x"])
        if not path.exists():
            raise BadToken("for something that is no longer here")
        return path, claims["s"], claims["e"]

    # -- xorbs -------------------------------------------------------------------------------------------------------
    def put_xorb(self, tenant: str, claimed: str, data: bytes | bytearray) -> bool:
        """Verify and store a xorb; returns whether this namespace sent it for the first time.

        The same xorb in another compression is the same xorb: the first one stays.

        Raises:
            BrokenXorb: when the bytes are not a xorb of that hash.
        """
        if not hashes.is_hash(claimed):
            raise BrokenXorb("A xorb's name is its hash: 64 lower-case hexadecimal digits.")
        with self._checks:
            length, index = xorbs.verify(data, claimed)
        path = self._path(claimed)
        if not path.exists():
            with new_file(path.with_suffix(".index")) as file:
                file.write(index.packed())
            with new_file(path) as file:
                file.write(memoryview(data)[:length])
        with self._database.writing() as session:
            known = session.get(XorbTenantRow, (tenant, claimed))
            if known is None:
                session.add(XorbTenantRow(tenant=tenant, hash=claimed, created=utc_now()))
        return known is None

    def xorb_size(self, tenant: str, xorb: str) -> int | None:
        """Bytes of a xorb of this namespace, None when it has none such."""
        with self._database.reading() as session:
            if session.get(XorbTenantRow, (tenant, xorb)) is None:
                return None
        return self._path(xorb).stat().st_size

    def _path(self, xorb: str) -> Path:
        return sharded(self._folder, xorb)

    def _load_index(self, xorb: str) -> ChunkIndex:
        return ChunkIndex.unpacked(self._path(xorb).with_suffix(".index").read_bytes())

    # -- shards ------------------------------------------------------------------------------------------------------
    def put_shard(self, tenant: str, data: bytes) -> int:
        """Verify a shard and make its files known in the namespace; returns how many were new.

        Checked for each file: its xorbs were sent by this namespace, chunk ranges and lengths fit what is stored, the
        verification hash of each term, the file hash, and the sha256 by rebuilding the bytes.

        Raises:
            BrokenShard: naming the file and what is wrong; then no file of the shard is taken.
        """
        files = shards.parse(data)
        with self._database.reading() as session:
            known = set(
                session.scalars(
                    sa.select(XetFileRow.hash).where(
                        XetFileRow.tenant == tenant, XetFileRow.hash.in_([hashes.to_text(f.hash) for f in files])
                    )
                )
            )
            fresh = [f for f in files if hashes.to_text(f.hash) not in known and f.terms]
            self._check_tenant(session, tenant, fresh)
        rows = [self._checked(tenant, file) for file in {f.hash: f for f in fresh}.values()]
        if rows:
            with self._database.writing() as session:
                for row in rows:
                    session.merge(row)
        return len(rows)

    def _check_tenant(self, session: Session, tenant: str, files: list[shards.ShardFile]) -> None:
        wanted = {hashes.to_text(t.xorb) for f in files for t in f.terms}
        for some in _batches(sorted(wanted), 500):
            sent = set(
                session.scalars(
                    sa.select(XorbTenantRow.hash).where(XorbTenantRow.tenant == tenant, XorbTenantRow.hash.in_(some))
                )
            )
            for missing in sorted(set(some) - sent)[:1]:
                raise BrokenShard(f"The shard names the xorb {missing}, which was not sent here; send it first.")

    def _checked(self, tenant: str, file: shards.ShardFile) -> XetFileRow:
        name = hashes.to_text(file.hash)
        nodes: list[tuple[bytes, int]] = []
        for number, term in enumerate(file.terms):
            index = self.index(hashes.to_text(term.xorb))
            if not 0 <= term.start < term.end <= index.count:
                raise BrokenShard(f"Term {number} of file {name} names chunks that its xorb does not have.")
            if index.raw_length(term.start, term.end) != term.length:
                raise BrokenShard(f"Term {number} of file {name} has another length than its chunks.")
            if hashes.verification_hash(index.chunk_hashes(term.start, term.end)) != term.verification:
                raise BrokenShard(f"Term {number} of file {name} has a wrong verification hash.")
            nodes += index.nodes(term.start, term.end)
        if hashes.file_hash(nodes) != file.hash:
            raise BrokenShard(f"The terms of file {name} give another file hash.")
        terms = tuple(StoredTerm(hashes.to_text(t.xorb), t.start, t.end, t.length) for t in file.terms)
        found = _file(tenant, name, file.sha256 or "", terms)
        with self._checks:
            digest = hashlib.sha256()
            for piece in self.read(found, 0, found.size):
                digest.update(piece)
        if file.sha256 is not None and digest.hexdigest() != file.sha256:
            raise BrokenShard(f"File {name} has the sha256 {digest.hexdigest()}, not {file.sha256} as the shard says.")
        packed = b"".join(xorbs.packed_term(t.xorb, t.start, t.end, t.length) for t in file.terms)
        return XetFileRow(
            tenant=tenant, hash=name, sha256=digest.hexdigest(), size=found.size, terms=packed, created=utc_now()
        )

    # -- files -------------------------------------------------------------------------------------------------------
    def file(self, tenant: str, file_hash: str) -> XetFile:
        """A file of a namespace. Raises ContentNotFound."""
        with self._database.reading() as session:
            row = session.get(XetFileRow, (tenant, file_hash))
        if row is None:
            raise ContentNotFound(f"There is no file {file_hash} here.")
        return _unpack(row)

    def by_sha256(self, tenant: str, sha256: str) -> XetFile | None:
        """The file of a namespace with these bytes."""
        with self._database.reading() as session:
            row = session.scalars(
                sa.select(XetFileRow).where(XetFileRow.tenant == tenant, XetFileRow.sha256 == sha256).limit(1)
            ).first()
        return None if row is None else _unpack(row)

    def any_by_hash(self, file_hash: str) -> XetFile:
        """A file whoever sent it, for revisions that name it. Raises ContentNotFound."""
        with self._database.reading() as session:
            row = session.scalars(sa.select(XetFileRow).where(XetFileRow.hash == file_hash).limit(1)).first()
        if row is None:
            raise ContentNotFound(f"There is no file {file_hash} here.")
        return _unpack(row)

    def read(self, file: XetFile, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Bytes [start, end) of a file, in pieces of at most 128 KiB."""
        if start >= end:
            return
        number = max(bisect.bisect_right(file.offsets, start) - 1, 0)
        while number < len(file.terms) and file.offsets[number] < end:
            term, begins = file.terms[number], file.offsets[number]
            index = self.index(term.xorb)
            base = index.raw_start(term.start)
            low = _chunk_at(index, base + max(start - begins, 0), term)
            with open(self._path(term.xorb), "rb", buffering=0) as xorb:
                yield from self._read_term(xorb, index, term, low, begins - base, start, end)
            number += 1

    @staticmethod
    def _read_term(
        xorb: Any, index: ChunkIndex, term: StoredTerm, chunk: int, shift: int, start: int, end: int
    ) -> Iterator[bytes | memoryview]:
        """Pieces of one term from `chunk` on; a raw offset in the xorb plus `shift` is the offset in the file."""
        while chunk < term.end and index.raw_start(chunk) + shift < end:
            at = index.stored_start(chunk)
            upto = min(int(index.stored_ends.searchsorted(at + _READ_BYTES)) + 1, term.end)
            size = int(index.stored_ends[upto - 1]) - at
            xorb.seek(at)
            stored = memoryview(xorb.read(size))
            if len(stored) != size:
                raise BrokenXorb("A stored xorb is shorter than its index says; run a check of the store.")
            for raw in xorbs.chunks_of(stored, chunk):
                begins = index.raw_start(chunk) + shift
                if begins >= end:
                    return
                low, high = max(start - begins, 0), min(len(raw), end - begins)
                if low < high:
                    yield raw if low == 0 and high == len(raw) else raw[low:high]
                chunk += 1

    # -- reconstruction ----------------------------------------------------------------------------------------------
    def reconstruction(self, file: XetFile, start: int, end: int | None) -> "Reconstruction":
        """What a client needs to rebuild bytes [start, end) by itself; whole chunks at both ends.

        Raises:
            RangeNotSatisfiable: when the range begins behind the file's end.
        """
        if start >= file.size and not (start == 0 and file.size == 0):
            raise RangeNotSatisfiable(f"The file has {file.size} bytes; the range begins at {start}.")
        stop = file.size if end is None else min(end, file.size)
        terms: list[StoredTerm] = []
        offset = 0
        for term, begins in zip(file.terms, file.offsets, strict=False):
            if begins + term.length <= start or begins >= stop:
                continue
            index = self.index(term.xorb)
            base = index.raw_start(term.start)
            low = _chunk_at(index, base + max(start - begins, 0), term)
            last = _chunk_at(index, base + min(stop - begins, term.length) - 1, term) + 1
            if not terms:
                offset = start - (begins + index.raw_start(low) - base)
            terms.append(StoredTerm(term.xorb, low, last, index.raw_length(low, last)))
        ranges: dict[str, list[tuple[int, int]]] = {}
        for term in terms:
            ranges.setdefault(term.xorb, []).append((term.start, term.end))
        fetch = {
            xorb: [
                (low, high, index.stored_start(low), int(index.stored_ends[high - 1]) - 1)
                for low, high in _merged(some)
            ]
            for xorb, some in ranges.items()
            for index in (self.index(xorb),)
        }
        return Reconstruction(offset, tuple(terms), fetch)


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Terms to lay one behind another, the first `offset` bytes dropped, and what to fetch of each xorb.

    `fetch` maps a xorb to (first chunk, chunk after the last, first byte, last byte), ascending.
    """

    offset: int
    terms: tuple[StoredTerm, ...]
    fetch: dict[str, list[tuple[int, int, int, int]]]


def _chunk_at(index: ChunkIndex, raw_offset: int, term: StoredTerm) -> int:
    """The chunk of a term that holds a raw offset of its xorb."""
    found = int(index.raw_ends.searchsorted(raw_offset, side="right"))
    return min(max(found, term.start), term.end - 1)


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _file(tenant: str, name: str, sha256: str, terms: tuple[StoredTerm, ...]) -> XetFile:
    offsets = tuple(itertools.accumulate((t.length for t in terms), initial=0))
    return XetFile(tenant, name, sha256, offsets[-1], terms, offsets)


def _unpack(row: XetFileRow) -> XetFile:
    terms = tuple(
        StoredTerm(hashes.to_text(xorb), start, end, length)
        for xorb, start, end, length in struct.iter_unpack("<32sIII", row.terms)
    )
    return _file(row.tenant, row.hash, row.sha256, terms)
