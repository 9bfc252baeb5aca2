"""Where Xet cuts a file into chunks (specification, content-defined chunking), for whole files that become Xet files.

The gear hash of a place is the sum of the table's numbers of the last 64 bytes, each shifted by its distance; so it can
be had for all places of a piece at once, by doubling: the sums over 2, 4, ... 64 bytes.
"""

from collections.abc import Iterable, Iterator
from importlib.resources import files

import numpy as np

FEWEST_BYTES, MOST_BYTES = 8 * 1024, 128 * 1024
_WINDOW = 64
_LEAST = np.uint64(1 << 48)  # below it the 16 highest bits are zero
_TEXT = files("ecotone.storage").joinpath("gear.txt").read_text().splitlines()
_TABLE = np.array([int(word, 16) for line in _TEXT if not line.startswith("#") for word in line.split()], np.uint64)
_PIECE = 4 * 1024 * 1024
_BLOCK = 32 * 1024  # the sums of a block stay in the processor's cache


def chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of a file that comes in pieces; some MiB in memory."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= _PIECE:
            data = bytes(held)
            ends = cuts(data)[:-1]  # the last one is where the bytes end, not where the file is cut
            yield from _split(data, ends)
            del held[: ends[-1] if ends else 0]
    data = bytes(held)
    yield from _split(data, cuts(data))


def cuts(data: bytes) -> list[int]:
    """Ends of the chunks of data that begins with one; the last is the end of the data."""
    places = np.concatenate([_places(data, at) for at in range(0, len(data), _BLOCK)] or [np.empty(0, np.intp)])
    ends, start = [], 0
    while start < len(data):
        # before 64 bytes of a chunk its hash would differ from that of the place; chunks are never that short
        at = int(np.searchsorted(places, start + FEWEST_BYTES))
        end = min(int(places[at]) if at < len(places) else len(data), start + MOST_BYTES, len(data))
        ends.append(end)
        start = end
    return ends


def _places(data: bytes, start: int) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    """Where, in a block of data, a chunk may end: behind each byte whose hash is zero in the bits of the mask."""
    before = min(start, _WINDOW - 1)
    found = _TABLE[np.frombuffer(data, np.uint8, min(_BLOCK, len(data) - start) + before, start - before)]
    shifted = np.empty_like(found)
    width = 1
    while width < min(_WINDOW, len(found)):
        np.left_shift(found[:-width], np.uint64(width), out=shifted[width:])
        found[width:] += shifted[width:]
        width *= 2
    return np.flatnonzero(found[before:] < _LEAST) + start + 1


def _split(data: bytes, ends: list[int]) -> Iterator[bytes]:
    start = 0
    for end in ends:
        yield data[start:end]
        start = end
