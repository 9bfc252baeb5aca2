"""The shard format: which files are made of which chunk ranges. Parsed with bounds; nothing in it is believed."""

import struct
from dataclasses import dataclass

from ecotone.storage.errors import BrokenShard
from ecotone.storage.hashes import ZERO, to_text

TAG = b"HFRepoMetaData\0" + bytes.fromhex("55 69 67 45 6a 7b 81 57 83 a5 bd d9 5c cd d1 4a a9")
HEADER = 48
RECORD = 48
MOST_BYTES = 64 * 1024 * 1024 + 4096
MOST_FILES = 100_000
_WITH_VERIFICATION, _WITH_METADATA = 1 << 31, 1 << 30
_END = b"\xff" * 32
BOOKEND = _END + bytes(16)


@dataclass(frozen=True, slots=True)
class Term:
    """Chunks [start, end) of a xorb, `length` raw bytes; `verification` as claimed."""

    xorb: bytes
    start: int
    end: int
    length: int
    verification: bytes


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file as a shard claims it: file hash, terms, and the sha256 (hex) that the client says its bytes have."""

    hash: bytes
    terms: tuple[Term, ...]
    sha256: str | None

    @property
    def size(self) -> int:
        return sum(t.length for t in self.terms)


def parse(data: bytes) -> list[ShardFile]:
    """The files of an uploaded shard. The xorb section is not read: what is stored is known better.

    Raises:
        BrokenShard: when it is cut off, too large, of another version, or lacks verification or sha256.
    """
    if len(data) > MOST_BYTES:
        raise BrokenShard(f"The shard has {len(data)} bytes; at most {MOST_BYTES} are taken.")
    if len(data) < HEADER or data[:32] != TAG:
        raise BrokenShard("This is not a shard: its tag is missing.")
    if struct.unpack_from("<Q", data, 32)[0] != 2:
        raise BrokenShard("The shard's version is not 2.")
    files: list[ShardFile] = []
    at = HEADER
    while True:
        record = _record(data, at)
        at += RECORD
        if record[:32] == _END:
            return files
        if len(files) >= MOST_FILES:
            raise BrokenShard(f"The shard has more than {MOST_FILES} files; send them in several.")
        flags, count = struct.unpack_from("<II", record, 32)
        with_verification = bool(flags & _WITH_VERIFICATION)
        needed = count * RECORD * (2 if with_verification else 1) + (RECORD if flags & _WITH_METADATA else 0)
        if at + needed > len(data):
            raise BrokenShard(f"The shard announces {count} terms, more than it holds.")
        if not count and record[:32] != ZERO:
            raise BrokenShard(f"File {to_text(record[:32])} of the shard has no terms.")
        if count and not with_verification:
            raise BrokenShard("A file of the shard has no verification hashes; they are needed.")
        terms = []
        for i in range(count):
            xorb, _, length, start, end = struct.unpack_from("<32sIIII", data, at + i * RECORD)
            proof = data[at + (count + i) * RECORD : at + (count + i) * RECORD + 32]
            terms.append(Term(xorb, start, end, length, proof))
        at += count * RECORD * (2 if with_verification else 1)
        sha256 = None
        if flags & _WITH_METADATA:
            # the digest went through the hash type of the client: every 8 bytes are reversed
            sha256 = b"".join(data[at + i : at + i + 8][::-1] for i in range(0, 32, 8)).hex()
            at += RECORD
        files.append(ShardFile(record[:32], tuple(terms), sha256))


def _record(data: bytes, at: int) -> bytes:
    if at + RECORD > len(data):
        raise BrokenShard("The shard is cut off in its file section.")
    return data[at : at + RECORD]
