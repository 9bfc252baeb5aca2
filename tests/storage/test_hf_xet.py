"""What hf_xet itself writes: its xorbs and shards are taken, its hashes are ours, its layout at rest is ours."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ecotone.storage import Storage, hashes, shards, xorbs
from tests.stores import on_disk

hf_xet = pytest.importorskip("hf_xet")

# appendix B of the protocol notes: file hash, xorb hash, verification hash
VECTORS = {
    1_000_000: (
        "ca33ebadc3930a751daf751aa8478ab8d837398e321e03eac60fb8bdc043fbfc",
        "c48748ea8f3a7117e66882fc15115c5f6c29a2d61257f5645196a0f61629fd81",
        "aec7078865675e4d63d2cfeb4acfcc0760694437470840ef2ba0fb7e506af5d9",
    ),
    5_000_000: (
        "252be18317c5bd8055a847b8eb98590387bcc5c069f7b541409a8d58faf7d66f",
        "63b5d2c5ab718de2ac49b4932c800f1897e8769811d91640e590c1bcc1182cc3",
        "24ae2cc7b4e7eead082c158bdd1a18c2428028bb108c75763e1a77f5cbfc048c",
    ),
}


def written(folder: Path, *contents: bytes) -> tuple[list[Path], list[Path], list[Any]]:
    """Files through hf_xet into a store of its own: xorbs, shards, and what it says of each file."""
    sources = []
    for number, data in enumerate(contents):
        (folder / f"{number}.bin").write_bytes(data)
        sources.append(str(folder / f"{number}.bin"))
    cas = folder / "cas"
    cas.mkdir()
    told = hf_xet.upload_files(sources, f"local://{cas}", None, None, None, "model")
    stored = cas / "xet" / "xorbs"
    return sorted(p for p in stored.glob("xorbs/default.*") if p.suffix != ".tagset"), list(stored.rglob("*.mdb")), told


@pytest.mark.parametrize("size", VECTORS)
def test_vectors(size: int, storage: Storage, tmp_path: Path, forge: Any) -> None:
    data = forge.sample(size)
    found, shard_files, told = written(tmp_path, data)
    name, xorb, verification = VECTORS[size]
    assert [p.name for p in found] == [f"default.{xorb}"] and told[0].hash == name
    _, index = xorbs.verify(found[0].read_bytes(), xorb)
    assert index.count == {1_000_000: 13, 5_000_000: 81}[size]
    assert hashes.to_text(hashes.file_hash(index.nodes(0, index.count))) == name
    assert hashes.to_text(hashes.verification_hash(index.hashes)) == verification
    (file,) = shards.parse(shard_files[0].read_bytes())
    assert hashes.to_text(file.hash) == name and file.sha256 == hashlib.sha256(data).hexdigest()


@on_disk
def test_our_files_at_rest_are_its_files(storage: Storage, tmp_path: Path, forge: Any) -> None:
    """Byte for byte, but for the nonce that it adds."""
    (path,), _, _ = written(tmp_path, forge.sample(400_000) + bytes(400_000))
    name = path.name.removeprefix("default.")
    storage.xet.put_xorb("demo", name, path.read_bytes())
    ours, theirs = (tmp_path / "objects" / "xorbs" / name[:2] / name[2:]).read_bytes(), path.read_bytes()
    assert ours[:-20] == theirs[:-20] and ours[-4:] == theirs[-4:]


def test_files_that_share_xorbs(storage: Storage, tmp_path: Path, forge: Any) -> None:
    base = forge.sample(2_000_000)
    contents = (base, base[:700_000] + b"inserted" + base[700_000:], b"short text " * 9000, bytes(3_000_000))
    found, shard_files, told = written(tmp_path, *contents)
    for path in found:
        assert storage.xet.put_xorb("demo", path.name.removeprefix("default."), path.read_bytes())
    assert sum(storage.xet.put_shard("demo", p.read_bytes()) for p in shard_files) == len(contents)
    for data, info in zip(contents, told, strict=True):
        content = storage.verify_large("demo", hashlib.sha256(data).hexdigest())
        assert content.xet_hash == info.hash and content.size == len(data)
        assert b"".join(storage.read(content)) == data
        assert b"".join(storage.read(content, 600_000, 900_001)) == data[600_000:900_001]
