"""A Xet file as chunk ranges of xorbs, and what of them a client must fetch to rebuild a part of it. Pure."""

import bisect
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ecotone.storage import hashes
from ecotone.storage.errors import RangeNotSatisfiable
from ecotone.storage.xorbs import ChunkIndex

_TERM = struct.Struct("<32sIII")


@dataclass(frozen=True, slots=True)
class StoredTerm:
    """Chunks [start, end) of a xorb, `length` raw bytes."""

    xorb: str
    start: int
    end: int
    length: int


@dataclass(frozen=True, slots=True)
class XetFile:
    """A file of a namespace. `offsets` are the file offsets at which its terms begin, and its size at the end."""

    tenant: str
    hash: str
    sha256: str
    size: int
    terms: tuple[StoredTerm, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Terms to lay one behind another, the first `offset` bytes dropped, and what to fetch of each xorb.

    `fetch` maps a xorb to (first chunk, chunk after the last, first byte, last byte), ascending.
    """

    offset: int
    terms: tuple[StoredTerm, ...]
    fetch: dict[str, list[tuple[int, int, int, int]]]


def file_of(tenant: str, name: str, sha256: str, terms: tuple[StoredTerm, ...]) -> XetFile:
    """A file from its terms."""
    offsets = tuple(itertools.accumulate((t.length for t in terms), initial=0))
    return XetFile(tenant, name, sha256, offsets[-1], terms, offsets)


def packed_term(xorb: bytes, start: int, end: int, length: int) -> bytes:
    """A term as kept in the database: 32 bytes of hash, chunk range, raw length."""
    return _TERM.pack(xorb, start, end, length)


def unpacked_terms(packed: bytes) -> tuple[StoredTerm, ...]:
    return tuple(
        StoredTerm(hashes.to_text(xorb), start, end, length) for xorb, start, end, length in _TERM.iter_unpack(packed)
    )


def chunk_at(index: ChunkIndex, raw_offset: int, term: StoredTerm) -> int:
    """The chunk of a term that holds a raw offset of its xorb."""
    found = int(index.raw_ends.searchsorted(raw_offset, side="right"))
    return min(max(found, term.start), term.end - 1)


def plan(file: XetFile, start: int, end: int | None, index_of: Callable[[str], ChunkIndex]) -> Reconstruction:
    """What rebuilds bytes [start, end) of a file; whole chunks at both ends (protocol section 2.7).

    Raises:
        RangeNotSatisfiable: when the range begins behind the file's end.
    """
    if start >= file.size and not (start == 0 and file.size == 0):
        raise RangeNotSatisfiable(f"The file has {file.size} bytes; the range begins at {start}.")
    stop = file.size if end is None else min(end, file.size)
    terms: list[StoredTerm] = []
    offset = 0
    first = max(bisect.bisect_right(file.offsets, start) - 1, 0)
    for term, begins in zip(file.terms[first:], file.offsets[first:], strict=False):
        if begins >= stop:
            break
        index = index_of(term.xorb)
        base = index.raw_start(term.start)
        low = chunk_at(index, base + max(start - begins, 0), term)
        last = chunk_at(index, base + min(stop - begins, term.length) - 1, term) + 1
        if not terms:
            offset = start - (begins + index.raw_start(low) - base)
        terms.append(StoredTerm(term.xorb, low, last, index.raw_length(low, last)))
    ranges: dict[str, list[tuple[int, int]]] = {}
    for term in terms:
        ranges.setdefault(term.xorb, []).append((term.start, term.end))
    fetch = {
        xorb: [
            (low, high, index.stored_start(low), int(index.stored_ends[high - 1]) - 1) for low, high in _merged(some)
        ]
        for xorb, some in ranges.items()
        for index in (index_of(xorb),)
    }
    return Reconstruction(offset, tuple(terms), fetch)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
