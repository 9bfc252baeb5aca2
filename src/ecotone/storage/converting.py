"""Whole files become Xet files of their namespace: cut into chunks, those that the namespace has already found again.

The new form goes the way of any upload: each xorb is verified when it is put, and the file counts when its shard was
checked, which rebuilds the bytes and compares their sha256. Only then the row of the whole file goes, and the object
with it as garbage collection does it. So a crash leaves the whole file, or both forms, or the new one.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import groupby

import lz4.frame
import msgspec
import numpy as np
import sqlalchemy as sa

from ecotone.database import Database, utc_now
from ecotone.storage import hashes, xorbs
from ecotone.storage.chunking import chunks
from ecotone.storage.errors import BrokenShard, ContentNotFound
from ecotone.storage.lfs import KIND, LfsStore
from ecotone.storage.models import CondemnedRow, LfsObjectRow, XetFileRow, XorbTenantRow
from ecotone.storage.objects import pieces
from ecotone.storage.shards import TAG
from ecotone.storage.xet import XetStore

MOST_XORB = 60 * 1024 * 1024
FEWEST_CHUNKS = 8
_MOST_XORBS_KNOWN = 1024
_MOST_NEW_KNOWN = 200_000
_PAGE = 100
_MOST_TOLD = 100
_WORTH = 0.9
_REST_CHUNKS = 16


class Converted(msgspec.Struct, kw_only=True):
    """What a run did. `new` are bytes of xorbs that came in addition, `reused` those that were there already; `failed`
    tells the first of the files that could not be converted."""

    files: int = 0
    bytes: int = 0
    new: int = 0
    reused: int = 0
    failed: list[str] = []


class Converter:
    """One run over the whole files of all namespaces.

    Args:
        most: bytes; larger files stay as they are.
        rest: called between small steps; it may sleep, and what it raises ends the run.
    """

    def __init__(
        self,
        database: Database,
        lfs: LfsStore,
        xet: XetStore,
        *,
        most: int | None = None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._lfs = lfs
        self._xet = xet
        self._most = most
        self._rest = rest
        self._known: tuple[str, _Known] | None = None
        self.done = Converted()

    def run(self) -> Converted:
        """Convert each whole file that its namespace does not have as Xet. One that is damaged stays as it is."""
        for tenant, sha256, size in self._whole():
            try:
                self.convert(tenant, sha256, size)
            except (BrokenShard, ContentNotFound) as error:
                if len(self.done.failed) < _MOST_TOLD:
                    self.done.failed.append(f"{sha256} of {tenant}: {error.message}")
        return self.done

    def _whole(self) -> Iterator[tuple[str, str, int]]:
        after = ("", "")
        key = sa.tuple_(LfsObjectRow.tenant, LfsObjectRow.sha256)
        small = sa.true() if self._most is None else LfsObjectRow.size <= self._most
        while True:
            wanted = (
                sa.select(LfsObjectRow.tenant, LfsObjectRow.sha256, LfsObjectRow.size)
                .where(LfsObjectRow.size > 0, small, key > sa.tuple_(*map(sa.literal, after)))
                .order_by(LfsObjectRow.tenant, LfsObjectRow.sha256)
                .limit(_PAGE)
            )
            with self._database.reading() as session:
                rows = [(row[0], row[1], row[2]) for row in session.execute(wanted)]
            if not rows:
                return
            yield from rows
            after = rows[-1][:2]

    def convert(self, tenant: str, sha256: str, size: int) -> None:
        """Convert one file of a namespace; it stays readable all the time."""
        if self._xet.by_sha256(tenant, sha256) is None:
            known = self._known_of(tenant)
            self._known = None  # until all of it is there: what fails on the way must not be counted on
            made = _Making(self._xet, tenant, known)
            with self._lfs.open(sha256) as whole:
                for number, chunk in enumerate(chunks(pieces(whole, 0, whole.size))):
                    made.add(chunk)
                    if number % _REST_CHUNKS == 0:
                        self._rest()
            self._xet.put_shard(tenant, made.shard(sha256))
            self._known = tenant, known
            self.done.new += made.new
            self.done.reused += made.reused
        self.done.files += 1
        self.done.bytes += size
        self._drop_whole(tenant, sha256, size)

    def _known_of(self, tenant: str) -> "_Known":
        if self._known is not None and self._known[0] == tenant:
            return self._known[1]
        return _Known(self._xet, self._newest(tenant))

    def _newest(self, tenant: str) -> list[str]:
        wanted = sa.select(XorbTenantRow.hash).where(XorbTenantRow.tenant == tenant)
        newest = wanted.order_by(XorbTenantRow.created.desc(), XorbTenantRow.hash).limit(_MOST_XORBS_KNOWN)
        with self._database.reading() as session:
            return list(session.scalars(newest))

    def _drop_whole(self, tenant: str, sha256: str, size: int) -> None:
        mine = (LfsObjectRow.tenant == tenant, LfsObjectRow.sha256 == sha256)
        with self._database.writing() as session:
            session.execute(sa.select(LfsObjectRow.tenant).where(*mine).with_for_update())
            xet = (XetFileRow.tenant == tenant, XetFileRow.sha256 == sha256)
            if session.scalar(sa.select(XetFileRow.hash).where(*xet).limit(1).with_for_update()) is None:
                return  # taken away since; the next run tries again
            session.execute(sa.delete(LfsObjectRow).where(*mine))
            left = session.scalar(sa.select(LfsObjectRow.tenant).where(LfsObjectRow.sha256 == sha256).limit(1))
            if left is None and session.get(CondemnedRow, (KIND, sha256)) is None:
                session.add(CondemnedRow(kind=KIND, name=sha256, size=size, condemned=utc_now()))


class _Known:
    """Chunks that a namespace has: those of its newest xorbs, found by the first 8 bytes of their hash."""

    def __init__(self, xet: XetStore, names: list[str]) -> None:
        self._xet = xet
        self.xorbs: list[str] = list(names)
        prefixes, places = [], []
        for number, name in enumerate(names):
            found = np.frombuffer(xet.index(name).hashes, "<u8")[::4]
            prefixes.append(found)
            places.append(np.arange(len(found), dtype=np.int64) + (number << 13))
        whole = np.concatenate(prefixes) if prefixes else np.empty(0, np.uint64)
        order = np.argsort(whole, kind="stable")
        self._prefixes = whole[order]
        self._places = np.concatenate(places)[order] if places else np.empty(0, np.int64)
        self._new: dict[bytes, tuple[int, int]] = {}

    def find(self, digest: bytes) -> tuple[int, int] | None:
        """(number of the xorb, chunk) of a chunk's hash."""
        new = self._new.get(digest)
        if new is not None:
            return new
        at = int(np.searchsorted(self._prefixes, np.uint64(int.from_bytes(digest[:8], "little"))))
        if at == len(self._places) or int(self._prefixes[at]) != int.from_bytes(digest[:8], "little"):
            return None
        xorb, chunk = divmod(int(self._places[at]), 1 << 13)
        same = self._xet.index(self.xorbs[xorb]).chunk_hashes(chunk, chunk + 1) == digest
        return (xorb, chunk) if same else None

    def learn(self, digest: bytes, xorb: int, chunk: int) -> None:
        if len(self._new) >= _MOST_NEW_KNOWN:
            self._new.clear()
        self._new[digest] = (xorb, chunk)


class _Making:
    """One file on its way. Chunks that are there already are named where at least a few follow one another, so that
    reading stays one long piece after the other."""

    def __init__(self, xet: XetStore, tenant: str, known: _Known) -> None:
        self._xet = xet
        self._tenant = tenant
        self._known = known
        self._nodes: list[tuple[int, int, int, bytes]] = []  # xorb, chunk, length, hash: the file's chunks in order
        self._run: list[tuple[int, int, bytes, bytes]] = []  # known chunks that follow one another, not settled yet
        self._settled = False
        self._stored = bytearray()
        self._hashes: list[tuple[bytes, int]] = []
        self._number: int | None = None
        self.new = 0
        self.reused = 0

    def add(self, chunk: bytes) -> None:
        digest = hashes.chunk_hash(chunk)
        found = self._known.find(digest)
        if found is not None and self._run and found == (self._run[-1][0], self._run[-1][1] + 1):
            self._run.append((*found, digest, chunk))
        else:
            self._end_run()
            if found is None:
                self._store(chunk, digest)
                return
            self._run = [(*found, digest, chunk)]
        if self._settled or len(self._run) >= FEWEST_CHUNKS:
            self._name(self._run)
            self._settled, self._run = True, self._run[-1:]  # the last one tells how the run goes on

    def _name(self, run: list[tuple[int, int, bytes, bytes]]) -> None:
        for xorb, number, digest, chunk in run[1:] if self._settled else run:
            self._nodes.append((xorb, number, len(chunk), digest))
            self.reused += len(chunk)

    def _end_run(self, *, whole: bool = False) -> None:
        run, self._run = self._run, []
        settled, self._settled = self._settled, False
        if settled:
            return
        if whole and not self._nodes:  # a short file that is there as a whole
            self._name(run)
            return
        for _, _, digest, chunk in run:
            self._store(chunk, digest)

    def _store(self, chunk: bytes, digest: bytes) -> None:
        packed = lz4.frame.compress(chunk)
        scheme, stored = (xorbs.LZ4, packed) if len(packed) < _WORTH * len(chunk) else (xorbs.RAW, chunk)
        if len(self._stored) + len(stored) > MOST_XORB or len(self._hashes) == xorbs.MOST_CHUNKS:
            self._end_xorb()
        if self._number is None:
            self._number = len(self._known.xorbs)
            self._known.xorbs.append("")
        head = bytes([0]) + len(stored).to_bytes(3, "little") + bytes([scheme]) + len(chunk).to_bytes(3, "little")
        self._stored += head + stored
        self._known.learn(digest, self._number, len(self._hashes))
        self._nodes.append((self._number, len(self._hashes), len(chunk), digest))
        self._hashes.append((digest, len(chunk)))

    def _end_xorb(self) -> None:
        if self._number is None:
            return
        name = hashes.to_text(hashes.tree_root(self._hashes))
        self._xet.put_xorb(self._tenant, name, self._stored)
        self._known.xorbs[self._number] = name
        self.new += len(self._stored)
        self._stored, self._hashes, self._number = bytearray(), [], None

    def shard(self, sha256: str) -> bytes:
        """The shard that tells the file."""
        self._end_run(whole=True)
        self._end_xorb()
        terms, proofs = [], []
        numbered = enumerate(self._nodes)
        for (xorb, _), some in groupby(numbered, key=lambda n: (n[1][0], n[1][1] - n[0])):
            run = [node for _, node in some]
            length = sum(node[2] for node in run)
            name = hashes.from_text(self._known.xorbs[xorb])
            terms.append(struct.pack("<32sIIII", name, 0, length, run[0][1], run[-1][1] + 1))
            proofs.append(hashes.verification_hash(b"".join(node[3] for node in run)) + bytes(16))
        raw = bytes.fromhex(sha256)
        told = b"".join(raw[i : i + 8][::-1] for i in range(0, 32, 8)) + bytes(16)
        file = hashes.file_hash((digest, length) for _, _, length, digest in self._nodes)
        head = file + struct.pack("<IIII", 1 << 31 | 1 << 30, len(terms), 0, 0)
        end = (b"\xff" * 32 + bytes(16)) * 2
        return TAG + struct.pack("<QQ", 2, 0) + head + b"".join(terms) + b"".join(proofs) + told + end
