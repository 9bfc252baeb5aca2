"""Shards come from strangers: bounded before anything is allocated, refused with a reason, never a crash."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.storage import BrokenShard, hashes, shards

SHA = "31a4bfad0c4349ad58929abfa927e4bbb63bbea0e65e0215d3bae38f67569abb"


def one(forge: Any, **wrong: Any) -> bytes:
    chunks = [b"one", b"two"]
    xorb, _ = forge.xorb(chunks)
    return bytes(forge.shard(forge.file([forge.term(xorb, chunks, 0, 2)], SHA, **wrong)))


def test_a_file_is_read(forge: Any) -> None:
    (file,) = shards.parse(one(forge))
    (term,) = file.terms
    assert (term.start, term.end, term.length, file.size, file.sha256) == (0, 2, 6, 6, SHA)


def test_sha256_is_stored_with_every_eight_bytes_reversed(forge: Any) -> None:
    assert bytes.fromhex("ad49430cadbfa431") in one(forge)


def test_an_empty_file_has_no_terms(forge: Any) -> None:
    (file,) = shards.parse(forge.shard(forge.file([], None, flags=0)))
    assert (file.hash, file.size) == (hashes.ZERO, 0)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda f: b"", "tag"),
        (lambda f: bytes(5000), "tag"),
        (lambda f: one(f).replace(struct.pack("<Q", 2), struct.pack("<Q", 3), 1), "version"),
        (lambda f: one(f, count=2**32 - 1), "announces 4294967295"),
        (lambda f: one(f, count=5000), "announces 5000"),
        (lambda f: one(f, flags=1 << 30), "verification"),
        (lambda f: f.shard(f.file([], None, name=b"\1" * 32)), "no terms"),
        (lambda f: one(f)[:-96], "cut off"),
        (lambda f: one(f) + bytes(shards.MOST_BYTES), "at most"),
    ],
)
def test_malformed_shards(made: Any, said: str, forge: Any) -> None:
    with pytest.raises(BrokenShard, match=said):
        shards.parse(made(forge))


def test_files_are_counted(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_FILES", 2)
    with pytest.raises(BrokenShard, match="more than 2 files"):
        shards.parse(forge.shard(*[forge.file([], None)] * 3))


@given(cut=st.integers(0, 400), at=st.integers(0, 400), bit=st.integers(1, 255))
def test_damage_never_crashes(cut: int, at: int, bit: int, forge: Any) -> None:
    data = bytearray(one(forge))
    data[at % len(data)] ^= bit
    for broken in (bytes(data), bytes(data[:cut])):
        try:
            shards.parse(broken)
        except BrokenShard:
            continue
