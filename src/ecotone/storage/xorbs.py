"""The xorb format: a sequence of chunks, each with a header of 8 bytes and raw or LZ4 bytes; parsed with bounds.

At rest a xorb ends with the footer that hf_xet's local store writes (its chunk hashes and offsets), so that bytes and
index are one file that appears in one step and that other tools read.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import lz4.frame
import numpy as np

from ecotone.storage import hashes
from ecotone.storage.errors import BrokenXorb
from ecotone.storage.objects import Outgoing, Segment, Stored

KIND = "xorbs"
MOST_BYTES = 64 * 1024 * 1024
MOST_CHUNKS = 8192
MOST_CHUNK_BYTES = 128 * 1024
HEADER = 8
RAW, LZ4, GROUPED_LZ4 = 0, 1, 2
_FOOTER = b"XETBLOB"
_HASHES, _BOUNDS = b"XBLBHSH", b"XBLBBND"
_FOOTER_FIXED, _FOOTER_CHUNK = 92, 40
_LIKELY_FOOTER = 64 * 1024  # of a xorb of 1,600 chunks
MOST_SENT = MOST_BYTES + MOST_CHUNKS * HEADER + _FOOTER_FIXED + _FOOTER_CHUNK * MOST_CHUNKS + 4


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """Where each chunk of a xorb lies. Arrays have one item for each of n chunks.

    `hashes` is n x 32 bytes; `stored_ends` end offsets in the serialized xorb (header included), `raw_ends` in the raw
    bytes.
    """

    hashes: bytes
    stored_ends: "np.ndarray[tuple[int], np.dtype[np.uint32]]"
    raw_ends: "np.ndarray[tuple[int], np.dtype[np.uint32]]"

    @property
    def count(self) -> int:
        return len(self.stored_ends)

    @property
    def stored_size(self) -> int:
        """Bytes of all chunks as they are stored, headers included."""
        return int(self.stored_ends[-1])

    def stored_start(self, chunk: int) -> int:
        return int(self.stored_ends[chunk - 1]) if chunk else 0

    def raw_start(self, chunk: int) -> int:
        return int(self.raw_ends[chunk - 1]) if chunk else 0

    def raw_length(self, start: int, end: int) -> int:
        """Raw bytes of chunks [start, end)."""
        return self.raw_start(end) - self.raw_start(start)

    def chunk_hashes(self, start: int, end: int) -> bytes:
        return self.hashes[start * 32 : end * 32]

    def nodes(self, start: int, end: int) -> Iterator[tuple[bytes, int]]:
        """(hash, raw length) of chunks [start, end)."""
        lengths = np.diff(self.raw_ends[start:end], prepend=np.uint32(self.raw_start(start))).tolist()
        return ((self.hashes[i * 32 : i * 32 + 32], length) for i, length in enumerate(lengths, start))

    def footer(self, xorb: str) -> bytes:
        """The footer of a xorb at rest, its length in the last 4 bytes (protocol section 2.5)."""
        count = struct.pack("<I", self.count)
        ends = self.stored_ends.astype("<u4").tobytes() + self.raw_ends.astype("<u4").tobytes()
        bounds = _BOUNDS + b"\1" + count + ends
        hashed = _HASHES + b"\0" + count + self.hashes
        body = _FOOTER + b"\1" + hashes.from_text(xorb) + hashed + bounds
        # distances from the end count the 4 + 4 + 4 + 16 bytes that follow the sections
        tail = count + struct.pack("<II", len(hashed) + len(bounds) + 28, len(bounds) + 28) + bytes(16)
        return body + tail + struct.pack("<I", len(body) + len(tail))

    @classmethod
    def of_stored(cls, stored: Stored) -> "ChunkIndex":
        """The index from the footer of a stored xorb.

        Raises:
            BrokenXorb: when the file was damaged.
        """
        end = stored.size
        guess = max(end - _LIKELY_FOOTER, 0)
        tail = stored.read(guess, end - guess)
        size = int.from_bytes(tail[-4:], "little")
        if size + 4 > end or size > _FOOTER_FIXED + _FOOTER_CHUNK * MOST_CHUNKS:
            raise BrokenXorb("A stored xorb has no footer; run a check of the store.")
        data = tail[-4 - size : -4] if size + 4 <= len(tail) else stored.read(end - 4 - size, size)
        count = (size - _FOOTER_FIXED) // _FOOTER_CHUNK
        hashed, ends = 40 + len(_HASHES) + 5, 40 + len(_HASHES) + 5 + 32 * count + len(_BOUNDS) + 5
        if not data.startswith(_FOOTER) or size != _FOOTER_FIXED + _FOOTER_CHUNK * count:
            raise BrokenXorb("A stored xorb has a damaged footer; run a check of the store.")
        bounds = np.frombuffer(data, "<u4", count * 2, ends)
        return cls(data[hashed : hashed + 32 * count], bounds[:count], bounds[count:])


def verify(data: bytes | bytearray | memoryview, claimed: str) -> tuple[int, ChunkIndex]:
    """Parse a serialized xorb and check that its chunks give the claimed hash.

    Args:
        data: the xorb; a footer after the chunks is ignored.
        claimed: hash text.

    Returns:
        Length of the chunks without footer, and their index.

    Raises:
        BrokenXorb: saying which chunk is wrong and how.
    """
    view = memoryview(data)
    if len(view) > MOST_SENT:
        raise BrokenXorb(f"The xorb has {len(view)} bytes; at most {MOST_BYTES} are taken.")
    at, raw_total = 0, 0
    digests, stored_ends, raw_ends = [], [], []
    nodes: list[tuple[bytes, int]] = []
    while at < len(view):
        if view[at : at + len(_FOOTER)] == _FOOTER:
            break
        number = len(nodes)
        if number >= MOST_CHUNKS:
            raise BrokenXorb(f"The xorb has more than {MOST_CHUNKS} chunks.")
        raw, at = _chunk(view, at, number)
        digest = hashes.chunk_hash(raw)
        nodes.append((digest, len(raw)))
        raw_total += len(raw)
        digests.append(digest)
        stored_ends.append(at)
        raw_ends.append(raw_total)
    if not nodes:
        raise BrokenXorb("The xorb has no chunk.")
    found = hashes.to_text(hashes.tree_root(nodes))
    if at > MOST_BYTES + MOST_CHUNKS * HEADER:
        raise BrokenXorb(f"The xorb has {at} bytes of chunks; at most {MOST_BYTES} are taken.")
    if found != claimed:
        raise BrokenXorb(f"The xorb's chunks have the hash {found}, not {claimed} under which it was sent.")
    index = ChunkIndex(b"".join(digests), np.array(stored_ends, "<u4"), np.array(raw_ends, "<u4"))
    return at, index


def _chunk(view: memoryview, at: int, number: int) -> tuple[bytes | memoryview, int]:
    """Raw bytes of the chunk at an offset, and the offset after it."""
    if len(view) - at < HEADER:
        raise BrokenXorb(f"Chunk {number} of the xorb is cut off in its header.")
    version, scheme = view[at], view[at + 4]
    stored = int.from_bytes(view[at + 1 : at + 4], "little")
    length = int.from_bytes(view[at + 5 : at + 8], "little")
    if version != 0 or scheme > GROUPED_LZ4 or not 1 <= length <= MOST_CHUNK_BYTES:
        raise BrokenXorb(f"Chunk {number} of the xorb has a header that is not of the format.")
    end = at + HEADER + stored
    if end > len(view):
        raise BrokenXorb(f"Chunk {number} of the xorb is cut off: {stored} bytes were announced.")
    return decode(view[at + HEADER : end], scheme, length, number), end


def decode(stored: memoryview, scheme: int, length: int, number: int = 0) -> bytes | memoryview:
    """The raw bytes of a stored chunk; never more than `length` are made."""
    if scheme == RAW:
        if len(stored) != length:
            raise BrokenXorb(f"Chunk {number} is stored raw with {len(stored)} bytes, {length} were announced.")
        return stored
    try:
        unpacker = lz4.frame.LZ4FrameDecompressor()
        raw = unpacker.decompress(stored, max_length=length)
        whole = len(raw) == length and (unpacker.eof or not unpacker.decompress(b"", max_length=1))
        whole = whole and unpacker.eof and not unpacker.unused_data  # others must be able to unpack it too
    except (RuntimeError, EOFError, ValueError):
        raise BrokenXorb(f"Chunk {number} does not unpack as an LZ4 frame.") from None
    if not whole:
        raise BrokenXorb(f"Chunk {number} does not unpack to the {length} bytes announced.")
    return ungroup(raw) if scheme == GROUPED_LZ4 else raw


def ungroup(data: bytes) -> bytes:
    """Undo byte grouping by 4: bytes with index mod 4 = 0 come first, then 1, 2, 3."""
    count = len(data)
    out = np.empty(count, np.uint8)
    source = np.frombuffer(data, np.uint8)
    at = 0
    for group in range(4):
        size = (count - group + 3) // 4
        out[group::4] = source[at : at + size]
        at += size
    return out.tobytes()


def outgoing(xorb: Stored, at: int, size: int, first: int, last: int) -> Outgoing:
    """Raw bytes [first, last) of the verified chunk of `size` raw bytes at an offset of a local xorb."""
    header = xorb.read(at, HEADER)
    descriptor = xorb.fileno()
    if len(header) == HEADER and header[4] == RAW and descriptor is not None:
        return Segment(descriptor, at + HEADER + first, last - first)
    stored = memoryview(header + xorb.read(at + HEADER, int.from_bytes(header[1:4], "little")))
    return memoryview(_chunk(stored, 0, 0)[0])[first:last]


def chunks_of(data: memoryview, first: int) -> Iterator[bytes | memoryview]:
    """Raw bytes of consecutive verified chunks, from the stored bytes that hold exactly them; one in memory."""
    at = 0
    while at < len(data):
        raw, at = _chunk(data, at, first)
        yield raw
        first += 1
