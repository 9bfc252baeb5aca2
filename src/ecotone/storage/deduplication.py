"""Global deduplication: which chunks a namespace has already, told so that only who has the bytes can use it.

Indexed are the first chunk of each file and every chunk whose hash's last u64 is divisible by 1024, which are the ones
that clients ask for. An answer is a shard that names the xorbs of a file with that chunk. Its chunk hashes are keyed,
with a key of its own for each answer: a client finds its own chunks in it, and learns nothing of others (protocol
section 2.8). Asked and answered within one namespace, by its writers.
"""

import contextlib
import secrets
import struct
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import sqlalchemy as sa
from blake3 import blake3
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ecotone.database import Database
from ecotone.storage import hashes, shards
from ecotone.storage.models import ChunkRow, XetFileRow
from ecotone.storage.reconstruction import StoredTerm, unpacked_terms
from ecotone.storage.xorbs import ChunkIndex

EXPIRY_SECONDS = 24 * 3600
MOST_XORBS = 64
MOST_CHUNKS = 150_000
MOST_INDEXED = 20_000
_EVERY = 1024

IndexOf = Callable[[str], ChunkIndex]


class Deduplication:
    """The index of one installation, in the database."""

    def __init__(self, database: Database, index_of: IndexOf) -> None:
        self._database = database
        self._index_of = index_of

    def learn(self, tenant: str, files: Iterable[tuple[str, tuple[StoredTerm, ...]]]) -> None:
        """Index files (hash, terms) that were just made known in the namespace: a chunk leads to the newest of them."""
        found = {chunk: name for name, terms in files for chunk in self._indexed(terms)}
        rows = [{"tenant": tenant, "chunk": chunk, "file": found[chunk]} for chunk in sorted(found)]
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        for start in range(0, len(rows), 500):
            added = insert(ChunkRow).values(rows[start : start + 500])
            newest = added.on_conflict_do_update(
                index_elements=[ChunkRow.tenant, ChunkRow.chunk], set_={"file": added.excluded.file}
            )
            with contextlib.suppress(IntegrityError), self._database.writing() as session:  # collected meanwhile
                session.execute(newest)

    def answer(self, tenant: str, chunk: str) -> bytes | None:
        """A shard that names xorbs with the chunk and its neighbours; None when the namespace has no such chunk."""
        if not hashes.is_hash(chunk):
            return None
        with self._database.reading() as session:
            packed = session.scalar(
                sa.select(XetFileRow.terms)
                .join(ChunkRow, (ChunkRow.tenant == XetFileRow.tenant) & (ChunkRow.file == XetFileRow.hash))
                .where(ChunkRow.tenant == tenant, ChunkRow.chunk == chunk)
            )
        if packed is None:
            return None
        xorbs = self._around(hashes.from_text(chunk), unpacked_terms(packed))
        return keyed_shard(xorbs, key=secrets.token_bytes(32), now=int(time.time()))

    def _indexed(self, terms: tuple[StoredTerm, ...]) -> Iterator[str]:
        count = 0
        for number, term in enumerate(terms):
            held = self._index_of(term.xorb).chunk_hashes(term.start, term.end)
            if number == 0:
                yield hashes.to_text(held[:32])
            last = np.frombuffer(held, "<u8").reshape(-1, 4)[:, 3]
            for place in np.flatnonzero(last % _EVERY == 0).tolist():
                yield hashes.to_text(held[place * 32 : place * 32 + 32])
                count += 1
                if count >= MOST_INDEXED:
                    return

    def _around(self, chunk: bytes, terms: tuple[StoredTerm, ...]) -> list[tuple[str, ChunkIndex]]:
        """Xorbs of a file, the one that holds the chunk first, then those behind it, then those before it."""
        names = list(dict.fromkeys(term.xorb for term in terms))
        place = next((n for n, name in enumerate(names) if self._index_of(name).hashes.find(chunk) % 32 == 0), 0)
        found, chunks = [], 0
        for name in (names[place:] + names[:place][::-1])[:MOST_XORBS]:
            index = self._index_of(name)
            chunks += index.count
            if chunks > MOST_CHUNKS:
                break
            found.append((name, index))
        return found


def keyed_shard(xorbs: Iterable[tuple[str, ChunkIndex]], *, key: bytes, now: int) -> bytes:
    """A shard with footer and without files, its chunk hashes keyed (protocol sections 2.6 and 2.8).

    Args:
        key: 32 bytes, told in the footer.
        now: Unix seconds.
    """
    parts = [shards.TAG + struct.pack("<QQ", 2, 200), shards.BOOKEND]
    raw_total, stored_total = 0, 0
    for name, index in xorbs:
        parts.append(struct.pack("<32s4I", hashes.from_text(name), 0, index.count, index.raw_start(index.count), 0))
        for number, (digest, length) in enumerate(index.nodes(0, index.count)):
            keyed = blake3(digest, key=key).digest()
            parts.append(struct.pack("<32s4I", keyed, index.raw_start(number), length, 0, 0))
        raw_total += index.raw_start(index.count)
        stored_total += index.stored_size
    parts.append(shards.BOOKEND)
    body = b"".join(parts)
    at = len(body)
    lookups = struct.pack("<9Q", 1, shards.HEADER, shards.HEADER + shards.RECORD, at, 0, at, 0, at, 0)
    times = struct.pack("<8Q", now, now + EXPIRY_SECONDS, *([0] * 6))
    return body + lookups + key + times + struct.pack("<4Q", stored_total, raw_total, stored_total, at)
