"""The Xet store: xorbs and files of a namespace, verified on arrival; reconstruction for clients and plain readers.

A xorb is one immutable file that ends with its chunk index. A file is a list of chunk ranges of xorbs that its
namespace has sent; its sha256 is checked by rebuilding the bytes while its shard is accepted, never later.
"""

import bisect
import functools
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session as Transaction

from ecotone.database import Database, batches, utc_now
from ecotone.storage import hashes, xorbs
from ecotone.storage.acceptance import Acceptance
from ecotone.storage.deduplication import Deduplication
from ecotone.storage.errors import (
    BadToken,
    BrokenXorb,
    ContentNotFound,
    ObjectMissing,
    UploadTooLarge,
)
from ecotone.storage.files import Draft
from ecotone.storage.foresight import Foresight, Session
from ecotone.storage.models import EpochRow, XetFileRow, XorbTenantRow, remember, spare, touch
from ecotone.storage.objects import Objects, Outgoing, Stored, key
from ecotone.storage.placing import place
from ecotone.storage.prints import Prints
from ecotone.storage.recent import RecentFiles
from ecotone.storage.reconstruction import (
    Reconstruction,
    StoredTerm,
    XetFile,
    chunk_at,
    file_of,
    plan,
    unpacked_terms,
)
from ecotone.storage.signing import Signer
from ecotone.storage.xorbs import KIND, ChunkIndex

TOKEN_SECONDS = 3600
TOKEN_GRACE = 300
URL_SECONDS = 3600
_READ_BYTES = 4 * 1024 * 1024
_CONCURRENT_CHECKS = 4


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token of the CAS allows: reading what one repository names, or writing to its namespace when `write`.

    `repo` and `holder` are the callers' own words for the repository and for who asked; they are kept as they came.
    `scope` is the address at which it holds.
    """

    tenant: str
    repo: int
    holder: str
    write: bool
    scope: str


class XetStore:
    """Xorbs among the objects, the files made of them, and the tables that say who may name them.

    Args:
        staging: where xorbs are received.
        most_bytes: of all files of one shard together; their bytes are rebuilt when it comes.
    """

    def __init__(
        self, database: Database, objects: Objects, staging: Path, signer: Signer, most_bytes: int, prints: Prints
    ) -> None:
        self._database = database
        self._objects = objects
        self._staging = staging
        self._signer = signer
        self._checks = threading.BoundedSemaphore(_CONCURRENT_CHECKS)
        self.verified = {"xorb": 0, "shard": 0}
        self.index = functools.lru_cache(maxsize=256)(self._load_index)
        self._recent = RecentFiles()
        self.deduplication = Deduplication(database, self.index)
        self._foresight = Foresight(self._whole)
        self._acceptance = Acceptance(
            database,
            self.deduplication,
            index_of=self.index,
            read=self.read,
            foresight=self._foresight,
            prints=prints,
            most_bytes=most_bytes,
        )

    def totals(self) -> tuple[int, int]:
        """Number and bytes of different files."""
        rows = sa.select(sa.func.max(XetFileRow.size).label("size")).group_by(XetFileRow.hash).subquery()
        with self._database.reading() as session:
            number, size = session.execute(sa.select(sa.func.count(), sa.func.sum(rows.c.size)).select_from(rows)).one()
        return int(number), int(size or 0)

    # -- tokens ------------------------------------------------------------------------------------------------------
    def token(
        self, namespace: str, operation: str, *, repo: int, holder: str, scope: str | None = None
    ) -> tuple[str, int]:
        """An access token for the CAS and its end in Unix seconds. `operation` is read or write.

        Args:
            scope: the address that is told with it, by default the namespace's of now; the token holds there alone.
        """
        told = {"repo": repo, "holder": holder, "tenant": namespace, "op": operation}
        claims = {"purpose": "xet", **told, "scope": scope or self.scope(namespace)}
        token = self._signer.sign(claims, seconds=TOKEN_SECONDS)
        return token, int(self._signer.verify(token, purpose="xet")["exp"])

    def scope(self, namespace: str) -> str:
        """The name of a namespace's part of the store in addresses.

        hf_xet remembers, for weeks and by the store's address, which chunks it has sent, and names them in later shards
        without sending them again. So each namespace of each installation has an address of its own: what was sent to
        another one, or to another installation behind the same address, is not taken for sent. The address changes when
        garbage collection takes xorbs of the namespace away; tokens for the one before hold there until they end.
        """
        with self._database.reading() as session:
            row = session.get(EpochRow, namespace)
        return self._signer.label(f"{namespace}#{row.epoch}" if row else namespace)

    def grant(self, token: str) -> Grant:
        """What a token allows; taken for some minutes after its end, since clients renew by their own clock.

        Raises:
            BadToken: when it is not valid.
        """
        claims = self._signer.verify(token, purpose="xet", grace=TOKEN_GRACE)
        if not isinstance(claims.get("repo"), int) or not isinstance(claims.get("scope"), str):
            raise BadToken("of an earlier version")
        return Grant(claims["tenant"], claims["repo"], claims["holder"], claims["op"] == "write", claims["scope"])

    def sign_range(self, xorb: str, start: int, end: int) -> str:
        """A token for bytes [start, end] (inclusive) of a xorb."""
        return self._signer.sign({"purpose": "xorb", "x": xorb, "s": start, "e": end}, seconds=URL_SECONDS)

    def signed_range(self, token: str) -> tuple[str, int, int, int]:
        """What a data address allows: the xorb, byte range [start, end] and the xorb's size. Raises BadToken."""
        claims = self._signer.verify(token, purpose="xorb", grace=TOKEN_GRACE)
        try:
            size = self.index(claims["x"]).stored_size
        except ContentNotFound:
            raise BadToken("for something that is no longer here") from None
        return claims["x"], claims["s"], claims["e"], size

    # -- xorbs -------------------------------------------------------------------------------------------------------
    def receiving(self, tenant: str, claimed: str, *, session: str = "") -> "XorbUpload":
        """A xorb to write into; `finish` verifies and keeps it.

        Args:
            session: the client's name for what it sends in one go, if it has one.

        Raises:
            BrokenXorb: when the name is no hash.
        """
        if not hashes.is_hash(claimed):
            raise BrokenXorb("A xorb's name is its hash: 64 lower-case hexadecimal digits.")
        return XorbUpload(self, self._foresight, (tenant, session), claimed, Draft(self._staging, "xorb"))

    def put_xorb(self, tenant: str, claimed: str, data: bytes | bytearray) -> bool:
        """Verify and store a xorb; returns whether this namespace sent it for the first time.

        Raises:
            BrokenXorb: when the bytes are not a xorb of that hash.
        """
        with self.receiving(tenant, claimed) as upload:
            upload.write(data)
            return upload.finish()

    def _keep(self, tenant: str, claimed: str, draft: Draft, size: int) -> bool:
        # unmapped when it is garbage: an error's traceback may still hold slices of it
        sent = mmap.mmap(draft.fileno(), size, access=mmap.ACCESS_READ) if size else b""
        with self._checks:
            length, index = xorbs.verify(memoryview(sent), claimed)
        del sent
        draft.cut(length)
        draft.write(index.footer(claimed))
        row = XorbTenantRow(tenant=tenant, hash=claimed, created=utc_now())
        return place(self._database, self._objects, draft, KIND, claimed, row)

    def xorb_size(self, tenant: str, xorb: str) -> int | None:
        """Bytes of a xorb of this namespace, None when it has none such."""
        with self._database.reading() as session:
            if session.get(XorbTenantRow, (tenant, xorb)) is None:
                return None
        return self.index(xorb).stored_size

    def open(self, xorb: str) -> Stored:
        """A xorb's stored bytes, whoever sent it. Raises ContentNotFound."""
        return self._objects.open(key(KIND, xorb))

    def _whole(self, xorb: str) -> Iterator[bytes | memoryview]:
        """All raw bytes of a xorb."""
        index = self.index(xorb)
        size = index.raw_start(index.count)
        return self.read(file_of("", "", "", (StoredTerm(xorb, 0, index.count, size),)), 0, size)

    def _load_index(self, xorb: str) -> ChunkIndex:
        with self.open(xorb) as stored:
            return ChunkIndex.of_stored(stored)

    # -- shards ------------------------------------------------------------------------------------------------------
    def put_shard(
        self, tenant: str, data: bytes, progress: Callable[[int, int], None] | None = None, *, session: str = ""
    ) -> int:
        """Verify a shard and make its files known in the namespace; returns how many were new. See `Acceptance.take`.

        Raises:
            BrokenShard: naming the file and what is wrong; then no file of the shard is taken.
        """
        added = self._acceptance.take(tenant, data, progress, session=session)
        self.verified["shard"] += 1
        return added

    # -- files -------------------------------------------------------------------------------------------------------
    def file(self, tenant: str, file_hash: str) -> XetFile:
        """A file of a namespace. Raises ContentNotFound."""
        return self._remembered(tenant, file_hash)

    def by_sha256(self, tenant: str, sha256: str) -> XetFile | None:
        """The file of a namespace with these bytes."""
        with self._database.reading() as session:
            row = session.scalars(
                sa.select(XetFileRow)
                .where(XetFileRow.tenant == tenant, XetFileRow.sha256 == sha256)
                .order_by(XetFileRow.created, XetFileRow.hash)
                .limit(1)
            ).first()
        return None if row is None else _from_row(row)

    def hashes_of(self, tenant: str, sha256s: Iterable[str]) -> dict[str, str]:
        """File hashes of those of some files that a namespace has, by sha256."""
        found: dict[str, str] = {}
        with self._database.reading() as session:
            for some in batches(sorted(sha256s)):
                mine = sa.select(XetFileRow.sha256, XetFileRow.hash).where(
                    XetFileRow.tenant == tenant, XetFileRow.sha256.in_(some)
                )
                newest_first = mine.order_by(XetFileRow.created.desc(), XetFileRow.hash.desc())
                found |= {row.sha256: row.hash for row in session.execute(newest_first)}
        return found

    def share(self, source: str, target: str, names: list[str]) -> None:
        """Let a namespace name files of another one, by file hash; its xorbs stay the other's."""
        now = utc_now()
        rows: list[XetFileRow] = []
        with self._database.reading() as session:
            for some in batches(sorted(set(names))):
                wanted = sa.select(XetFileRow).where(XetFileRow.tenant == source, XetFileRow.hash.in_(some))
                rows += [
                    XetFileRow(tenant=target, hash=r.hash, sha256=r.sha256, size=r.size, terms=r.terms, created=now)
                    for r in session.scalars(wanted)
                ]

        def settle(session: Transaction) -> None:
            for some in batches(sorted(row.hash for row in rows)):
                there = sa.and_(XetFileRow.tenant == source, XetFileRow.hash.in_(some))
                for _, missing in sorted({(source, name) for name in some} - touch(session, XetFileRow, there))[:1]:
                    raise ObjectMissing(f"file {missing}")
            spare(session, KIND, {term.xorb for row in rows for term in unpacked_terms(row.terms)})

        remember(self._database, rows, settle)

    def any_by_sha256(self, sha256: str) -> XetFile | None:
        """A file with these bytes whoever sent it, for revisions that name it."""
        with self._database.reading() as session:
            row = session.scalars(sa.select(XetFileRow).where(XetFileRow.sha256 == sha256).limit(1)).first()
        return None if row is None else _from_row(row)

    def any_by_hash(self, file_hash: str) -> XetFile:
        """A file whoever sent it, for revisions that name it. Raises ContentNotFound."""
        return self._remembered(None, file_hash)

    def _remembered(self, tenant: str | None, file_hash: str) -> XetFile:
        """A file of a namespace, or of any; large ones are asked for piece by piece, so it is kept for a while."""
        found = self._recent.get((tenant, file_hash))
        if found is not None:
            return found
        wanted = sa.select(XetFileRow).where(XetFileRow.hash == file_hash).limit(1)
        if tenant is not None:
            wanted = wanted.where(XetFileRow.tenant == tenant)
        with self._database.reading() as session:
            row = session.scalars(wanted).first()
        if row is None:
            raise ContentNotFound(f"There is no file {file_hash} here.")
        found = _from_row(row)
        self._recent.put((tenant, file_hash), found)
        return found

    def read(self, file: XetFile, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Bytes [start, end) of a file, in pieces of at most 128 KiB."""
        for term, index, low, shift in self._terms(file, start, end):
            with self.open(term.xorb) as xorb:
                yield from self._read_term(xorb, index, term, low, shift, start, end)

    def outgoing(self, file: XetFile, start: int, end: int) -> Iterator[Outgoing]:
        """The same from local files: a chunk that is stored raw as a segment of its xorb."""
        for term, index, low, shift in self._terms(file, start, end):
            with self.open(term.xorb) as xorb:
                for chunk in range(low, term.end):
                    begins = index.raw_start(chunk) + shift
                    if begins >= end:
                        return
                    size = index.raw_start(chunk + 1) - index.raw_start(chunk)
                    first, last = max(start - begins, 0), min(size, end - begins)
                    yield xorbs.outgoing(xorb, index.stored_start(chunk), size, first, last)

    def _terms(self, file: XetFile, start: int, end: int) -> Iterator[tuple[StoredTerm, ChunkIndex, int, int]]:
        """The terms that hold bytes [start, end), each with its xorb's index, the first chunk that is wanted, and what
        added to a raw offset in the xorb gives the offset in the file."""
        if start >= end:
            return
        number = max(bisect.bisect_right(file.offsets, start) - 1, 0)
        while number < len(file.terms) and file.offsets[number] < end:
            term, begins = file.terms[number], file.offsets[number]
            index = self.index(term.xorb)
            base = index.raw_start(term.start)
            yield term, index, chunk_at(index, base + max(start - begins, 0), term), begins - base
            number += 1

    @staticmethod
    def _read_term(
        xorb: Stored, index: ChunkIndex, term: StoredTerm, chunk: int, shift: int, start: int, end: int
    ) -> Iterator[bytes | memoryview]:
        """Pieces of one term from `chunk` on; a raw offset in the xorb plus `shift` is the offset in the file."""
        while chunk < term.end and index.raw_start(chunk) + shift < end:
            at = index.stored_start(chunk)
            last = int(index.raw_ends.searchsorted(end - shift)) + 1
            upto = min(int(index.stored_ends.searchsorted(at + _READ_BYTES)) + 1, last, term.end)
            size = int(index.stored_ends[upto - 1]) - at
            stored = memoryview(xorb.read(at, size))
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
    def reconstruction(self, file: XetFile, start: int, end: int | None) -> Reconstruction:
        """What a client needs to rebuild bytes [start, end) by itself; whole chunks at both ends.

        Raises:
            RangeNotSatisfiable: when the range begins behind the file's end.
        """
        return plan(file, start, end, self.index)


class XorbUpload:
    """A xorb on its way in. Leaving the block without `finish` drops what came."""

    def __init__(self, store: XetStore, foresight: Foresight, session: Session, claimed: str, draft: Draft) -> None:
        self._store = store
        self._foresight = foresight
        self._session = session
        self._claimed = claimed
        self._draft = draft
        self._size = 0
        foresight.begins(session, claimed)

    def __enter__(self) -> "XorbUpload":
        return self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Raises UploadTooLarge as soon as more comes than a xorb may have."""
        self._size += len(data)
        if self._size > xorbs.MOST_SENT:
            raise UploadTooLarge(f"A xorb has at most {xorbs.MOST_BYTES} bytes; send smaller ones.")
        self._draft.write(data)

    def finish(self) -> bool:
        """Verify and keep; returns whether this namespace sent it for the first time.

        The same xorb in another compression is the same xorb: the first one stays.

        Raises:
            BrokenXorb: when the bytes are not a xorb of that hash.
        """
        new = self._store._keep(self._session[0], self._claimed, self._draft, self._size)
        self._store.verified["xorb"] += 1
        self._foresight.arrived(self._session, self._claimed)
        return new

    def __exit__(self, *_: object) -> None:
        self._foresight.failed(self._session, self._claimed)  # nothing, when it arrived
        self._draft.__exit__()


def _from_row(row: XetFileRow) -> XetFile:
    return file_of(row.tenant, row.hash, row.sha256, unpacked_terms(row.terms))
