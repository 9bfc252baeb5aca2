"""Digests begun early: they are right whatever order xorbs come in, and never outlive what they were begun for."""

import hashlib
import time
from typing import Any

import pytest

from ecotone.storage import BrokenXorb, Storage


def xorbs(forge: Any, data: bytes, size: int) -> list[tuple[str, bytes, list[bytes]]]:
    """Name, body and chunks of the xorbs that a client cuts some bytes into."""
    return [(*forge.xorb(chunks), chunks) for chunks in (forge.cut(part) for part in forge.cut(data, size))]


def shard(forge: Any, made: list[tuple[str, bytes, list[bytes]]], data: bytes) -> bytes:
    terms = [forge.term(name, chunks, 0, len(chunks)) for name, _, chunks in made]
    found: bytes = forge.shard(forge.file(terms, hashlib.sha256(data).hexdigest()))
    return found


def hashed(storage: Storage, session: tuple[str, str], count: int) -> None:
    for _ in range(6000):
        if len(storage.xet._foresight._sessions[session].digests) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("nothing was hashed")


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0]])
def test_what_was_hashed_early_is_the_files_own_sha256(storage: Storage, forge: Any, order: list[int]) -> None:
    data = forge.sample(1_000_000)
    made = xorbs(forge, data, 250_000)
    open_uploads = [storage.xet.receiving("demo", name, session="s") for name, _, _ in made]
    for number in order:
        with open_uploads[number] as upload:
            upload.write(made[number][1])
            upload.finish()
    hashed(storage, ("demo", "s"), 4)
    read: list[str] = []
    storage.xet._acceptance._read = lambda *of: read.append("again") or iter(())  # type: ignore[func-returns-value]
    assert storage.xet.put_shard("demo", shard(forge, made, data), session="s") == 1
    assert storage.xet.by_sha256("demo", hashlib.sha256(data).hexdigest()) is not None
    assert not storage.xet._foresight._sessions


def test_xorbs_of_several_files_are_hashed_again_where_they_differ(storage: Storage, forge: Any) -> None:
    one, two = forge.sample(500_000), forge.sample(900_000)[400_000:]
    made = xorbs(forge, one, 250_000) + xorbs(forge, two, 250_000)
    for name, body, _ in made:
        with storage.xet.receiving("demo", name, session="s") as upload:
            upload.write(body)
            upload.finish()
    hashed(storage, ("demo", "s"), 4)
    for data, part in ((two, made[2:]), (one, made[:2])):
        assert storage.xet.put_shard("demo", shard(forge, part, data), session="s") == 1
        assert storage.xet.by_sha256("demo", hashlib.sha256(data).hexdigest()) is not None


def test_a_xorb_that_did_not_come_holds_up_nothing(storage: Storage, forge: Any) -> None:
    data = forge.sample(500_000)
    made = xorbs(forge, data, 250_000)
    with pytest.raises(BrokenXorb), storage.xet.receiving("demo", "a" * 64, session="s") as upload:
        upload.write(made[0][1])
        upload.finish()
    for name, body, _ in made:
        with storage.xet.receiving("demo", name, session="s") as upload:
            upload.write(body)
            upload.finish()
    hashed(storage, ("demo", "s"), 2)
    assert storage.xet.put_shard("demo", shard(forge, made, data), session="s") == 1


def test_a_crowd_of_sessions_is_forgotten(storage: Storage) -> None:
    for number in range(100):
        storage.xet._foresight.begins(("demo", str(number)), "a" * 64)
    assert len(storage.xet._foresight._sessions) == 32
