"""The readers of binary formats, fed with files that real tools made and that were then spoilt.

A stranger's upload may hold anything: each reader must answer with what it read or with the error that it documents,
soon and in little memory. `make fuzz` tries 20,000 files for each reader, a run of the tests some hundred.
"""

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotone.lineage import BrokenWeights, TooManyTensors, read_gguf, read_safetensors
from ecotone.storage import BrokenShard, BrokenXorb, hashes, shards, xorbs
from ecotone.storage.xorbs import ChunkIndex

CORPUS = {
    path.name: path.read_bytes()
    for path in sorted((Path(__file__).parent / "corpus").iterdir())
    if path.suffix != ".py" and path.is_file()
}
EXAMPLES = int(os.environ.get("ECOTONE_FUZZ_EXAMPLES", "200"))
MOST_SECONDS = 2.0
MOST_GROWTH = 300 * 1024 * 1024
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x20000, 0x20001, 0xFFFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


class Held:
    """A stored object in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def fileno(self) -> None:
        return None

    def close(self) -> None: ...

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None: ...


def seeds(suffix: str) -> list[bytes]:
    found = [data for name, data in CORPUS.items() if name.endswith(suffix)]
    assert found, f"the corpus has no {suffix} file"
    return found


def pieces(data: bytes) -> Any:
    return (data[i : i + 1000] for i in range(0, len(data), 1000))


@st.composite
def spoilt(draw: st.DrawFn, suffix: str) -> bytes:
    """A real file after a few bit flips, cuts, lies about lengths, splices with another one, doublings."""
    some = seeds(suffix)
    data = bytearray(draw(st.sampled_from(some)))
    for _ in range(draw(st.integers(0, 5))):
        how = draw(st.sampled_from(["flip", "cut", "lie", "splice", "double", "drop"]))
        # half of the places near an end, where lengths and counts are
        near = draw(st.sampled_from(["start", "end", "anywhere"]))
        most = max(len(data) - 1, 0)
        at = draw(st.integers(0, min(200, most)) if near != "anywhere" else st.integers(0, most))
        at = most - at if near == "end" else at
        if how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[at:]
        elif how == "lie":
            width = draw(st.sampled_from([1, 2, 3, 4, 8]))
            number = draw(st.sampled_from(NUMBERS)) % (1 << 8 * width)
            data[at : at + width] = number.to_bytes(width, draw(st.sampled_from(["little", "big"])))
        elif how == "splice":
            other = draw(st.sampled_from(some))
            start = draw(st.integers(0, len(other)))
            data[at : at + draw(st.integers(0, 500))] = other[start : start + draw(st.integers(0, 5000))]
        elif how == "double":
            data[at:at] = data[at : at + draw(st.integers(0, 5000))]
        elif how == "drop":
            del data[at : at + draw(st.integers(1, 100))]
    return bytes(data)


def bounded(read: Callable[[bytes], Any], data: bytes, *documented: type[Exception]) -> Any:
    """What a reader gives, or None after a documented error; fails on any other, on long work and on much memory."""
    began, held = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = read(data)
    except documented as error:
        assert str(error), "an error says what is wrong"
        found = None
    assert time.thread_time() - began < MOST_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) * 1024 < MOST_GROWTH
    return found


often = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 200
)


@often
@given(spoilt("xorb"), st.booleans())
def test_xorbs_as_they_are_sent(data: bytes, claimed_right: bool) -> None:
    def read(sent: bytes) -> tuple[int, ChunkIndex]:
        return xorbs.verify(sent, name if claimed_right else "0" * 64)

    name = _name_of(data)
    found = bounded(read, data, BrokenXorb)
    if found is not None:
        length, index = found
        assert length == index.stored_size <= len(data) and index.count <= xorbs.MOST_CHUNKS
        raw = list(xorbs.chunks_of(memoryview(data)[:length], 0))
        assert hashes.to_text(hashes.tree_root([(hashes.chunk_hash(c), len(c)) for c in raw])) == name


def _name_of(data: bytes) -> str:
    """The hash that the chunks of a spoilt xorb have, so that more of the reader is reached than its last test."""
    try:
        chunks = xorbs.chunks_of(memoryview(data)[: _end_of_chunks(data)], 0)
        nodes = [(hashes.chunk_hash(chunk), len(chunk)) for chunk in chunks]
    except BrokenXorb:
        return "1" * 64
    return hashes.to_text(hashes.tree_root(nodes))


def _end_of_chunks(data: bytes) -> int:
    at = 0
    while at < len(data) and not data.startswith(b"XETBLOB", at):
        at += 8 + int.from_bytes(data[at + 1 : at + 4], "little")
    return at


@often
@given(spoilt("xorb"))
def test_xorbs_as_they_lie_here(data: bytes) -> None:
    """A disk may spoil what was verified; the index is read before anything else."""
    index = bounded(lambda stored: ChunkIndex.of_stored(Held(stored)), data, BrokenXorb)
    if index is not None:
        assert len(index.hashes) == 32 * index.count and len(index.raw_ends) == index.count
        assert index.stored_size >= 0
        bounded(lambda stored: list(xorbs.chunks_of(memoryview(stored)[: index.stored_size], 0)), data, BrokenXorb)


@often
@given(spoilt("shard"))
def test_shards(data: bytes) -> None:
    found = bounded(shards.parse, data, BrokenShard)
    for file in found or []:
        assert len(file.hash) == 32 and file.size >= 0
        assert file.sha256 is None or len(file.sha256) == 64


@often
@given(spoilt("safetensors"), st.booleans())
def test_safetensors(data: bytes, sized: bool) -> None:
    size = len(data) if sized else None
    found = bounded(lambda d: read_safetensors(pieces(d), size), data, BrokenWeights, TooManyTensors)
    if found is not None:
        assert all(0 <= t.begin <= t.end for t in found.tensors)
        json.dumps([t.name for t in found.tensors])


@often
@given(spoilt("gguf"), st.booleans())
def test_gguf(data: bytes, sized: bool) -> None:
    size = len(data) if sized else None
    found = bounded(lambda d: read_gguf(pieces(d), size), data, BrokenWeights, TooManyTensors)
    if found is not None:
        assert all(0 <= t.begin <= t.end for t in found.tensors)


@pytest.mark.parametrize("name", CORPUS)
def test_the_files_themselves_are_read(name: str) -> None:
    """Else fuzzing would start from rubbish."""
    data = CORPUS[name]
    if name.endswith("xorb"):
        assert xorbs.verify(data, _name_of(data))[1].hashes == ChunkIndex.of_stored(Held(data)).hashes
    elif name.endswith("shard"):
        assert shards.parse(data)
    else:
        read = read_gguf if name.endswith("gguf") else read_safetensors
        assert read(pieces(data), len(data)).tensors
