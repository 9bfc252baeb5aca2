"""Taking a shard in: nothing in it is believed that is not found again in what is stored."""

from collections.abc import Callable, Iterable, Iterator

import sqlalchemy as sa
from sqlalchemy.orm import Session as Transaction

from ecotone.database import Database, batches, utc_now
from ecotone.lineage.arriving import Printing
from ecotone.storage import hashes, shards
from ecotone.storage.deduplication import Deduplication
from ecotone.storage.errors import BrokenShard
from ecotone.storage.foresight import Foresight, Session
from ecotone.storage.models import XetFileRow, XorbTenantRow, remember, spare, touch
from ecotone.storage.prints import Prints
from ecotone.storage.reconstruction import StoredTerm, XetFile, file_of, packed_term, unpacked_terms
from ecotone.storage.xorbs import KIND, ChunkIndex

_TOLD_BYTES = 64 * 1024 * 1024
_FEW_CHUNKS, _MEAN_CHUNK_BYTES = 65_536, 4096

Read = Callable[[XetFile, int, int], Iterator[bytes | memoryview]]


class Acceptance:
    """How shards become files.

    Args:
        index_of: of a stored xorb.
        read: bytes of a file that is put together from its terms.
        foresight: what is hashed already of files that are being sent.
        prints: where the fingerprints of weights are kept.
        most_bytes: of all files of one shard together; their bytes are rebuilt when it comes.
    """

    def __init__(
        self,
        database: Database,
        deduplication: Deduplication,
        *,
        index_of: Callable[[str], ChunkIndex],
        read: Read,
        foresight: Foresight,
        prints: Prints,
        most_bytes: int,
    ) -> None:
        self._prints = prints
        self._foresight = foresight
        self._database = database
        self._deduplication = deduplication
        self._index_of = index_of
        self._read = read
        self._most_bytes = most_bytes

    def take(
        self, tenant: str, data: bytes, progress: Callable[[int, int], None] | None = None, *, session: str = ""
    ) -> int:
        """Verify a shard and make its files known in the namespace; returns how many were new.

        Checked for each file: its xorbs were sent by this namespace, chunk ranges and lengths fit what is stored, the
        verification hash of each term, the file hash, and the sha256 by rebuilding the bytes.

        Args:
            progress: called with bytes checked and bytes in all, now and then.

        Raises:
            BrokenShard: naming the file and what is wrong; then no file of the shard is taken.
        """
        files = [f for f in shards.parse(data) if f.terms]
        known = self._known(tenant, files)
        fresh = {f.hash: f for f in files if hashes.to_text(f.hash) not in known}
        total = sum(f.size for f in fresh.values())
        if total > self._most_bytes:
            raise BrokenShard(f"The shard's files have {total} bytes together; at most {self._most_bytes} are taken.")
        self._check_sent(tenant, fresh.values())
        rows: list[XetFileRow] = []
        done = 0
        for file in fresh.values():
            self._check_terms(file)
            rows.append(self._rebuilt((tenant, session), file, progress and _shifted(progress, done, total)))
            known[rows[-1].hash] = rows[-1].sha256
            done += rows[-1].size
        for file in files:
            name = hashes.to_text(file.hash)
            if file.sha256 is not None and file.sha256 != known[name]:
                raise BrokenShard(f"File {name} has the sha256 {known[name]}, not {file.sha256} as the shard says.")
        added = self._remember(tenant, rows, [name for name in known if name not in {row.hash for row in rows}])
        self._deduplication.learn(tenant, ((row.hash, unpacked_terms(row.terms)) for row in rows))
        return added

    def _remember(self, tenant: str, rows: list[XetFileRow], known: list[str]) -> int:
        """Add the files, and make young again what the shard counts on, in one transaction.

        Raises:
            BrokenShard: when garbage collection took some of it away since it was looked up.
        """
        xorbs_named = {term.xorb for row in rows for term in unpacked_terms(row.terms)}

        def settle(session: Transaction) -> None:
            for table, names in ((XorbTenantRow, sorted(xorbs_named)), (XetFileRow, sorted(known))):
                for some in batches(names):
                    found = touch(session, table, sa.and_(table.tenant == tenant, table.hash.in_(some)))
                    for _, missing in sorted({(tenant, name) for name in some} - found)[:1]:
                        raise BrokenShard(
                            f"{missing}, which the shard names, was removed by garbage collection; upload again."
                        )
            spare(session, KIND, xorbs_named)

        return remember(self._database, rows, settle)

    def _known(self, tenant: str, files: Iterable[shards.ShardFile]) -> dict[str, str]:
        """sha256 by file hash, of those that the namespace has."""
        found: dict[str, str] = {}
        with self._database.reading() as session:
            for some in batches(sorted({hashes.to_text(f.hash) for f in files})):
                wanted = sa.select(XetFileRow.hash, XetFileRow.sha256).where(
                    XetFileRow.tenant == tenant, XetFileRow.hash.in_(some)
                )
                found.update((name, sha256) for name, sha256 in session.execute(wanted))
        return found

    def _check_sent(self, tenant: str, files: Iterable[shards.ShardFile]) -> None:
        wanted = {hashes.to_text(x) for x in {t.xorb for f in files for t in f.terms}}
        with self._database.reading() as session:
            for some in batches(sorted(wanted)):
                sent = set(
                    session.scalars(
                        sa.select(XorbTenantRow.hash).where(
                            XorbTenantRow.tenant == tenant, XorbTenantRow.hash.in_(some)
                        )
                    )
                )
                for missing in sorted(set(some) - sent)[:1]:
                    raise BrokenShard(f"The shard names the xorb {missing}, which was not sent here; send it first.")

    def _check_terms(self, file: shards.ShardFile) -> None:
        """Chunk ranges, lengths, verification hashes and file hash against what is stored."""
        name, chunks = hashes.to_text(file.hash), 0
        most_chunks = max(_FEW_CHUNKS, file.size // _MEAN_CHUNK_BYTES)
        for number, term in enumerate(file.terms):
            index = self._index_of(hashes.to_text(term.xorb))
            if not 0 <= term.start < term.end <= index.count:
                raise BrokenShard(f"Term {number} of file {name} names chunks that its xorb does not have.")
            if index.raw_length(term.start, term.end) != term.length:
                raise BrokenShard(f"Term {number} of file {name} has another length than its chunks.")
            if hashes.verification_hash(index.chunk_hashes(term.start, term.end)) != term.verification:
                raise BrokenShard(f"Term {number} of file {name} has a wrong verification hash.")
            chunks += term.end - term.start
            if chunks > most_chunks:
                raise BrokenShard(f"File {name} has {chunks} chunks or more, far more than its {file.size} bytes need.")
        nodes = (
            node
            for term in file.terms
            for node in self._index_of(hashes.to_text(term.xorb)).nodes(term.start, term.end)
        )
        if hashes.file_hash(nodes) != file.hash:
            raise BrokenShard(f"The terms of file {name} give another file hash.")

    def _rebuilt(self, session: Session, file: shards.ShardFile, progress: Callable[[int], None] | None) -> XetFileRow:
        """The file's row, with the sha256 of its bytes; its fingerprint is kept before the row is there."""
        tenant = session[0]
        name = hashes.to_text(file.hash)
        terms = tuple(StoredTerm(hashes.to_text(t.xorb), t.start, t.end, t.length) for t in file.terms)
        found = file_of(tenant, name, "", terms)
        whole = (self._index_of(term.xorb).count for term in terms)
        digest, at, printing = self._foresight.begun(session, terms, whole)
        self._print_to(found, printing, at)
        told = at
        for piece in self._read(found, at, found.size):
            digest.update(piece)
            if at + len(piece) > printing.at:
                printing.feed(memoryview(piece)[max(0, printing.at - at) :])
            at += len(piece)
            if progress is not None and at - told >= _TOLD_BYTES:
                told = at
                progress(at)
        packed = b"".join(packed_term(t.xorb, t.start, t.end, t.length) for t in file.terms)
        sha256 = digest.hexdigest()
        self._prints.keep(sha256, printing.finish())
        return XetFileRow(tenant=tenant, hash=name, sha256=sha256, size=found.size, terms=packed, created=utc_now())

    def _print_to(self, file: XetFile, printing: Printing, end: int) -> None:
        """Bring a fingerprint up to a place that the sha256 has reached already, if it is one of weights."""
        for piece in self._read(file, printing.at, end) if printing.at < end else ():
            printing.feed(piece)
            if not printing.going:
                return


def _shifted(progress: Callable[[int, int], None], done: int, total: int) -> Callable[[int], None]:
    return lambda more: progress(done + more, total)
