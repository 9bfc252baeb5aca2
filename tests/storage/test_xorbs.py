"""Xorbs come from strangers: only what unpacks to the hash it was sent under is kept."""

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.storage import BrokenXorb, xorbs
from ecotone.storage.objects import LocalFile


def test_every_scheme_is_read(forge: Any) -> None:
    chunks = [b"a", b"ab" * 30_000, forge.sample(131_072), b"xyz" * 333, bytes(131_072)]
    for schemes in ([0] * 5, [1] * 5, [2] * 5, [0, 1, 2, 2, 1]):
        name, body = forge.xorb(chunks, schemes)
        length, index = xorbs.verify(body, name)
        assert length == len(body) == index.stored_size
        assert [len(c) for c in chunks] == [n for _, n in index.nodes(0, 5)]
        assert [bytes(c) for c in xorbs.chunks_of(memoryview(body), 0)] == chunks
        middle = memoryview(body)[index.stored_start(2) : index.stored_start(4)]
        assert [bytes(c) for c in xorbs.chunks_of(middle, 2)] == chunks[2:4]


@given(st.binary(max_size=200))
def test_grouping_is_undone(data: bytes) -> None:
    assert xorbs.ungroup(b"".join(data[i::4] for i in range(4))) == data


@given(chunks=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=40), data=st.data())
def test_any_changed_byte_is_refused_or_harmless(chunks: list[bytes], data: Any, forge: Any) -> None:
    name, body = forge.xorb(chunks, data.draw(st.sampled_from([0, 1, 2])))
    at = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        length, _ = xorbs.verify(changed, name)
    except BrokenXorb:
        return
    raw = b"".join(bytes(c) for c in xorbs.chunks_of(memoryview(changed)[:length], 0))
    assert raw == b"".join(chunks)  # such as a flag of the LZ4 frame that changes nothing


@given(st.binary(max_size=400))
def test_noise_is_refused_without_a_crash(noise: bytes) -> None:
    with pytest.raises(BrokenXorb):
        xorbs.verify(noise, "0" * 64)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no chunk"),
        (b"\0\1\0", "header"),
        (b"\0\5\0\0\0\5\0\0abc", "cut off"),
        (b"\1\1\0\0\0\1\0\0a", "not of the format"),
        (b"\0\1\0\0\3\1\0\0a", "not of the format"),
        (b"\0\0\0\0\0\0\0\0", "not of the format"),
        (b"\0\1\0\0\0\1\0\2a", "not of the format"),
        (b"\0\1\0\0\0\2\0\0a", "1 bytes"),
        (b"\0\1\0\0\1\1\0\0a", "does not unpack"),
        (b"\0\1\0\0\0\1\0\0a\0", "header"),
        (b"\0\1\0\0\0\1\0\0b", "have the hash"),
    ],
)
def test_malformed_xorbs(body: bytes, said: str, forge: Any) -> None:
    name, _ = forge.xorb([b"a"])
    with pytest.raises(BrokenXorb, match=said):
        xorbs.verify(body, name)


def test_a_zip_bomb_stays_packed(forge: Any) -> None:
    bomb = lz4.frame.compress(bytes(200_000_000))
    body = forge.chunk(b"", 1, stored=bomb[: 2**24 - 1], length=131_072)
    tracemalloc.start()
    with pytest.raises(BrokenXorb, match="131072 bytes announced"):
        xorbs.verify(body, "0" * 64)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_frame_without_its_end_is_refused(cut: int, forge: Any) -> None:
    """Other clients could not unpack it."""
    raw = b"ab" * 5000
    name, _ = forge.xorb([raw], 1)
    packed = lz4.frame.compress(raw, content_checksum=True)
    for stored in (packed[:-cut], packed + b"x" * cut):
        with pytest.raises(BrokenXorb, match="does not unpack"):
            xorbs.verify(forge.chunk(raw, 1, stored=stored), name)


def test_counts_and_sizes_are_bounded(forge: Any) -> None:
    chunks = [b"%d" % n for n in range(xorbs.MOST_CHUNKS + 1)]
    name, body = forge.xorb(chunks[:-1])
    assert xorbs.verify(body, name)[1].count == xorbs.MOST_CHUNKS
    name, body = forge.xorb(chunks)
    with pytest.raises(BrokenXorb, match="more than 8192 chunks"):
        xorbs.verify(body, name)
    with pytest.raises(BrokenXorb, match="at most"):
        xorbs.verify(bytes(xorbs.MOST_SENT + 1), name)


def test_the_footer_is_the_one_of_other_tools(forge: Any, tmp_path: Path) -> None:
    """Layout of section 2.5 of the protocol notes, written out field by field."""
    chunks = [b"one", b"three", bytes(1000)]
    name, body = forge.xorb(chunks, 1)
    length, index = xorbs.verify(body, name)
    footer = index.footer(name)
    assert len(footer) == 92 + 40 * 3 + 4 and footer[-4:] == struct.pack("<I", 92 + 40 * 3)
    assert footer.startswith(b"XETBLOB\1") and footer[40:48] == b"XBLBHSH\0"
    assert xorbs.verify(body + footer, name)[0] == length
    again = xorbs.ChunkIndex.of_stored(_stored(tmp_path, body + footer))
    assert again.hashes == index.hashes and again.raw_ends.tolist() == [3, 8, 1008]
    assert again.stored_ends.tolist() == index.stored_ends.tolist()


@pytest.mark.parametrize("damaged", [b"", b"abc", bytes(500), b"\xff" * 500])
def test_a_damaged_file_at_rest_is_named(damaged: bytes, tmp_path: Path) -> None:
    with pytest.raises(BrokenXorb, match="run a check"):
        xorbs.ChunkIndex.of_stored(_stored(tmp_path, damaged))


def _stored(folder: Path, data: bytes) -> LocalFile:
    folder.joinpath("xorb").write_bytes(data)
    return LocalFile(os.open(folder / "xorb", os.O_RDONLY))
