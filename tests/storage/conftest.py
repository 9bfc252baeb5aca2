"""A storage in a fresh folder, and a writer of xorbs and shards that can also write wrong ones."""

import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lz4.frame
import pytest

from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.storage import Storage, hashes, shards
from ecotone.storage.bucket import Bucket
from ecotone.storage.s3 import S3Objects
from tests.stores import placed


def sample(size: int) -> bytes:
    """The first bytes of SHA256("ecotone" + 0) + SHA256("ecotone" + 1) + ..., as in the protocol's appendix B."""
    pieces = (hashlib.sha256(b"ecotone" + struct.pack("<Q", n)).digest() for n in range(size // 32 + 1))
    return b"".join(pieces)[:size]


class Forge:
    """Writes the Xet formats from their description, so that the reader is not tested by itself."""

    sample = staticmethod(sample)

    @staticmethod
    def cut(data: bytes, size: int = 50_000) -> list[bytes]:
        return [data[i : i + size] for i in range(0, len(data), size)]

    @staticmethod
    def chunk(raw: bytes, scheme: int = 0, *, stored: bytes | None = None, length: int | None = None) -> bytes:
        if stored is None:
            grouped = b"".join(raw[i::4] for i in range(4)) if scheme == 2 else raw
            stored = lz4.frame.compress(grouped) if scheme else raw
        said = len(raw) if length is None else length
        return b"\0" + len(stored).to_bytes(3, "little") + bytes([scheme]) + said.to_bytes(3, "little") + stored

    @classmethod
    def xorb(cls, chunks: Sequence[bytes], scheme: int | Sequence[int] = 0) -> tuple[str, bytes]:
        """Name and bytes of a xorb."""
        schemes = [scheme] * len(chunks) if isinstance(scheme, int) else scheme
        body = b"".join(cls.chunk(c, s) for c, s in zip(chunks, schemes, strict=True))
        return hashes.to_text(hashes.tree_root([(hashes.chunk_hash(c), len(c)) for c in chunks])), body

    @staticmethod
    def term(xorb: str, chunks: Sequence[bytes], start: int, end: int, **wrong: Any) -> dict[str, Any]:
        """Chunks [start, end) of a xorb; `wrong` replaces fields."""
        some = chunks[start:end]
        proof = hashes.verification_hash(b"".join(hashes.chunk_hash(c) for c in some))
        made = {"xorb": hashes.from_text(xorb), "start": start, "end": end, "length": sum(map(len, some))}
        return made | {"proof": proof, "nodes": [(hashes.chunk_hash(c), len(c)) for c in some]} | wrong

    @staticmethod
    def record(head: bytes, *numbers: int) -> bytes:
        return head + struct.pack("<4I", *numbers, *[0] * (4 - len(numbers)))

    @classmethod
    def file(cls, terms: list[dict[str, Any]], sha256: str | None, **wrong: Any) -> bytes:
        """The records of one file of a shard; `name`, `flags` and `count` may be wrong."""
        name = wrong.get("name") or hashes.file_hash([n for t in terms for n in t["nodes"]])
        flags = wrong.get("flags", 1 << 31 | (1 << 30 if sha256 else 0))
        out = cls.record(name, flags, wrong.get("count", len(terms)))
        out += b"".join(cls.record(t["xorb"], 0, t["length"], t["start"], t["end"]) for t in terms)
        out += b"".join(cls.record(t["proof"]) for t in terms)
        return out + (cls.record(hashes.from_text(sha256)) if sha256 else b"")

    @staticmethod
    def shard(*files: bytes) -> bytes:
        end = b"\xff" * 32 + bytes(16)
        return shards.TAG + struct.pack("<QQ", 2, 0) + b"".join(files) + end + end

    @classmethod
    def whole(cls, data: bytes, chunks: Sequence[bytes], xorb: str) -> tuple[str, bytes]:
        """Name of the file that is all chunks of one xorb, and a shard that says so."""
        term = cls.term(xorb, chunks, 0, len(chunks))
        name = hashes.to_text(hashes.file_hash(term["nodes"]))
        return name, cls.shard(cls.file([term], hashlib.sha256(data).hexdigest()))


@pytest.fixture(scope="session")
def forge() -> type[Forge]:
    return Forge


@pytest.fixture
def open_storage(tmp_path: Path, database: Database) -> Callable[..., Storage]:
    """Opens the storage in the test's folder, as often as a server is started."""
    return lambda **settings: Storage(database, Settings(data=tmp_path, **placed(tmp_path), **settings))


@pytest.fixture
def storage(open_storage: Callable[..., Storage]) -> Storage:
    return open_storage()


@pytest.fixture
def files_in(tmp_path: Path) -> Callable[[str], list[str]]:
    """Names of all files below a folder of the data; of `objects/KIND` wherever objects are kept."""

    def found(folder: str) -> list[str]:
        settings = Settings(data=tmp_path, **placed(tmp_path))
        bucket = Bucket.of(settings)
        if bucket is not None and folder.startswith("objects/"):
            kind = folder.removeprefix("objects/")
            return [o.key.removeprefix(f"{kind}/") for o in S3Objects(bucket, timeout=120).listed(kind)]
        return sorted(str(p.relative_to(tmp_path / folder)) for p in (tmp_path / folder).rglob("*") if p.is_file())

    return found
