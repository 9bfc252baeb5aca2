"""A weight file's fingerprint is taken while it comes, by whatever way, and is there as long as somebody can ask."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ecotone.database import Database, utc_now
from ecotone.lineage import fingerprint_of
from ecotone.settings import Settings
from ecotone.storage import Storage, lfs
from ecotone.storage.models import LfsObjectRow
from tests.publishing.weights import fresh, packed
from tests.storage.test_foresight import hashed, shard, xorbs
from tests.stores import placed

DATA = packed(fresh(1))
SHA = hashlib.sha256(DATA).hexdigest()


def sent(storage: Storage, data: bytes, piece: int = 50_000) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    with storage.lfs.receiving("demo", sha256, len(data)) as upload:
        upload.write_all(data[i : i + piece] for i in range(0, len(data), piece))
        upload.finish()
    return sha256


def expected(tmp_path: Path, data: bytes = DATA) -> Any:
    (tmp_path / "whole.safetensors").write_bytes(data)
    return fingerprint_of(tmp_path / "whole.safetensors")


@pytest.mark.parametrize("piece", [7, 50_000, 1 << 22])
def test_a_whole_file_has_its_fingerprint_once_it_came(storage: Storage, tmp_path: Path, piece: int) -> None:
    sent(storage, DATA, piece)
    found = storage.prints.of(SHA)
    assert found is not None and found.fingerprint == expected(tmp_path)


def test_parts_of_a_large_file_give_the_fingerprint_of_the_whole(storage: Storage, tmp_path: Path) -> None:
    for number, at in enumerate(range(0, len(DATA), 100_000), 1):
        with storage.lfs.receiving_part("up", number, 100_000) as part:
            part.write(DATA[at : at + 100_000])
            part.finish()
    storage.lfs.complete("demo", SHA, len(DATA), "up", number)
    found = storage.prints.of(SHA)
    assert found is not None and found.fingerprint == expected(tmp_path)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("early", [0, 1, 3])
def test_a_xet_file_has_it_however_its_parts_came(
    storage: Storage, forge: Any, tmp_path: Path, order: list[int], early: int
) -> None:
    made = xorbs(forge, DATA, 150_000)[:]
    order = [*order, *range(3, len(made))]
    uploads = [storage.xet.receiving("demo", name, session="s") for name, _, _ in made]
    for number in order:
        with uploads[number] as upload:
            upload.write(made[number][1])
            upload.finish()
    if early:
        hashed(storage, ("demo", "s"), early)
    storage.xet.put_shard("demo", shard(forge, made, DATA), session="s")
    found = storage.prints.of(SHA)
    assert found is not None and found.fingerprint == expected(tmp_path)


def test_two_files_of_one_session_do_not_mix(storage: Storage, forge: Any, tmp_path: Path) -> None:
    other = packed(fresh(2))
    one, two = xorbs(forge, DATA, 150_000), xorbs(forge, other, 150_000)
    for name, body, _ in one + two:
        with storage.xet.receiving("demo", name, session="s") as upload:
            upload.write(body)
            upload.finish()
    hashed(storage, ("demo", "s"), len(one) + 1)
    for data, part in ((DATA, one), (other, two)):
        storage.xet.put_shard("demo", shard(forge, part, data), session="s")
        found = storage.prints.of(hashlib.sha256(data).hexdigest())
        assert found is not None and found.fingerprint == expected(tmp_path, data)


def test_a_broken_file_is_taken_and_told(storage: Storage) -> None:
    name = sent(storage, DATA[:-5])
    found = storage.prints.of(name)
    assert storage.lfs.size("demo", name) == len(DATA) - 5
    assert found is not None and found.fingerprint is None and found.broken


def test_what_is_no_weights_leaves_nothing_behind(storage: Storage, forge: Any) -> None:
    assert storage.prints.of(sent(storage, forge.sample(300_000))) is None


def test_a_fault_in_fingerprinting_costs_nobody_an_upload(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr("ecotone.lineage.printing.Fingerprinter.feed", fault)
    assert storage.lfs.size("demo", sent(storage, DATA)) == len(DATA) and storage.prints.of(SHA) is None


def test_it_survives_a_restart_and_is_found_by_its_tensors(
    storage: Storage, database: Database, tmp_path: Path
) -> None:
    sent(storage, DATA)
    again = Storage(database, Settings(data=tmp_path, **placed(tmp_path)))
    assert again.prints.of(SHA) == storage.prints.of(SHA)
    assert again.prints.sharing(expected(tmp_path), limit=5) == {SHA: 16}


def test_it_goes_with_the_last_who_names_it_and_not_before(storage: Storage, database: Database) -> None:
    sent(storage, DATA)
    future = utc_now() + timedelta(hours=1)
    assert storage.prints.collect(lambda _: set(), future) == 0  # a namespace holds the file
    with database.writing() as session:
        session.query(LfsObjectRow).delete()
    assert storage.prints.collect(lambda names: names, future) == 0  # a tombstone names it
    assert storage.prints.collect(lambda _: set(), utc_now() - timedelta(hours=1)) == 0  # it is young
    assert storage.prints.collect(lambda _: set(), future, dry_run=True) == 1 and storage.prints.of(SHA)
    assert storage.prints.collect(lambda _: set(), future) == 1
    assert storage.prints.of(SHA) is None and storage.prints.known([SHA]) == set()


def test_the_fingerprint_is_there_before_anybody_may_name_the_file(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(lfs, "place", killed)
    with pytest.raises(SystemExit):
        sent(storage, DATA)
    assert storage.prints.of(SHA) is not None and storage.lfs.size("demo", SHA) is None
