"""Whole files become Xet files: the same bytes, the same sha256, chunks cut as clients cut them, found again."""

import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ecotone.database import Database
from ecotone.storage import Storage, hashes
from ecotone.storage.chunking import chunks
from ecotone.storage.content import large
from ecotone.storage.converting import Converter
from ecotone.storage.errors import StorageFull
from ecotone.storage.models import CondemnedRow, LfsObjectRow
from ecotone.storage.objects import key

hf_xet = pytest.importorskip("hf_xet")


def sent(storage: Storage, data: bytes, tenant: str = "demo") -> str:
    name = hashlib.sha256(data).hexdigest()
    with storage.lfs.receiving(tenant, name, len(data)) as upload:
        upload.write(data)
        upload.finish()
    return name


def converter(storage: Storage, database: Database) -> Converter:
    return Converter(database, storage.lfs, storage.xet)


def whole_rows(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(LfsObjectRow)) or 0


@pytest.mark.parametrize("size", [1, 8191, 8192, 300_000, 1_000_000, 5_000_000, 9_500_001])
def test_chunks_are_cut_where_clients_cut_them(size: int, tmp_path: Path, forge: Any) -> None:
    """Else nothing that was sent in one way would be found again in the other."""
    data = forge.sample(size // 2) + bytes(size // 3)
    data += b"word " * ((size - len(data)) // 5)
    data += bytes(size - len(data))
    (tmp_path / "f").write_bytes(data)
    for step in (size, 70_000):
        found = list(chunks(data[i : i + step] for i in range(0, size, step)))
        assert b"".join(found) == data
        nodes = [(hashes.chunk_hash(chunk), len(chunk)) for chunk in found]
        assert hashes.to_text(hashes.file_hash(nodes)) == hf_xet.hash_files([str(tmp_path / "f")])[0].hash


def test_a_converted_file_keeps_its_bytes_and_its_name(storage: Storage, database: Database, forge: Any) -> None:
    data = forge.sample(3_000_000) + b"text " * 100_000
    name = sent(storage, data)
    before = large(name, len(data), None)  # as revisions that were published before name it
    done = converter(storage, database).run()
    assert (done.files, done.bytes, done.reused) == (1, len(data), 0) and done.new < len(data) - 200_000
    found = storage.verify_large("demo", name)
    assert found.kind == "xet" and found.sha256 == name and whole_rows(database) == 0
    storage.objects.remove(f"lfs/{name[:2]}/{name[2:]}")  # as garbage collection does in the end
    for content in (before, found):
        assert b"".join(storage.read(content)) == data
        assert b"".join(storage.read(content, 1_500_000, 1_600_001)) == data[1_500_000:1_600_001]
    with storage.materialise("k", {"w.bin": before}) as folder:
        assert (folder / "w.bin").read_bytes() == data
    assert converter(storage, database).run().files == 0


def test_what_the_namespace_has_by_xet_is_found_again(storage: Storage, database: Database, forge: Any) -> None:
    base = forge.sample(6_000_000)
    first = converter(storage, database)
    first.convert("demo", sent(storage, base), len(base))
    changed = base[:3_000_000] + b"a few bytes more" + base[3_000_000:]
    twice = base[:2_000_000] * 2
    for data in (changed, twice, base[:9000]):
        sent(storage, data)
    later = converter(storage, database)
    done = later.run()
    assert done.files == 3 and done.new < 1_000_000 < 9_000_000 < done.reused
    for data in (base, changed, twice, base[:9000]):
        found = storage.verify_large("demo", hashlib.sha256(data).hexdigest())
        assert found.kind == "xet" and b"".join(storage.read(found)) == data


def test_another_namespace_is_no_help(storage: Storage, database: Database, forge: Any) -> None:
    data = forge.sample(2_000_000)
    for tenant in ("demo", "other"):
        sent(storage, data, tenant)
    done = converter(storage, database).run()
    assert done.reused == 0 and done.files == 2 and whole_rows(database) == 0
    for tenant in ("demo", "other"):
        assert storage.verify_large(tenant, hashlib.sha256(data).hexdigest()).kind == "xet"


def test_the_whole_file_stays_until_the_last_namespace_has_the_new_form(
    storage: Storage, database: Database, forge: Any
) -> None:
    data = forge.sample(500_000)
    name = sent(storage, data)
    sent(storage, data, "other")
    converter(storage, database).convert("demo", name, len(data))
    with database.reading() as session:
        assert session.get(CondemnedRow, ("lfs", name)) is None
    converter(storage, database).run()
    with database.reading() as session:
        assert session.get(CondemnedRow, ("lfs", name)) is not None


def test_a_damaged_whole_file_is_not_converted(storage: Storage, database: Database, forge: Any) -> None:
    data = forge.sample(500_000)
    name = sent(storage, data)
    storage.objects.remove(key("lfs", name))
    storage.objects.put(data[:-1] + b"?", key("lfs", name))
    good = sent(storage, forge.sample(400_000))
    done = converter(storage, database).run()
    assert done.files == 1 and "sha256" in done.failed[0] and name in done.failed[0]
    assert storage.verify_large("demo", good).kind == "xet"
    assert whole_rows(database) == 1 and storage.verify_large("demo", name).kind == "lfs"


@pytest.mark.parametrize("step", ["xorb", "row", "shard", "switch"])
def test_a_failure_at_any_step_leaves_the_whole_file(
    step: str, storage: Storage, database: Database, forge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = forge.sample(900_000)
    name = sent(storage, data)

    def fails(*_: Any, **__: Any) -> None:
        raise StorageFull from OSError(errno.ENOSPC, "full")

    at = {
        "xorb": "ecotone.storage.files.Draft.write",
        "row": "ecotone.storage.placing.remember",
        "shard": "ecotone.storage.acceptance.remember",
        "switch": "ecotone.storage.converting.Converter._drop_whole",
    }[step]
    once = converter(storage, database)
    with monkeypatch.context() as patched:
        patched.setattr(at, fails)
        with pytest.raises(StorageFull):
            once.run()
    assert whole_rows(database) == 1
    assert b"".join(storage.read(storage.verify_large("demo", name))) == data
    once.run()  # the same run may go on, as a new one
    assert whole_rows(database) == 0
    assert b"".join(storage.read(storage.verify_large("demo", name))) == data
