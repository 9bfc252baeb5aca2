"""A set of names in fixed memory that forgets none, and takes a few others for its own."""

import hashlib
import secrets
import struct

_WORDS = struct.Struct("<4Q")


class HashFilter:
    """A Bloom filter with four bits a name. At 16 bits of room a name, one foreign name in about 400 is taken for held.

    The bits are chosen anew for each filter: what one takes for held by mistake, the next one does not.

    Args:
        mebibytes: memory, a power of two.
    """

    def __init__(self, mebibytes: int = 16) -> None:
        size = mebibytes * 1024 * 1024
        self._bits = bytearray(size)
        self._mask = size * 8 - 1
        self._key = secrets.token_bytes(16)

    def add(self, name: str) -> None:
        bits = self._bits
        for at in self._places(name):
            bits[at >> 3] |= 1 << (at & 7)

    def __contains__(self, name: str) -> bool:
        bits = self._bits
        return all(bits[at >> 3] >> (at & 7) & 1 for at in self._places(name))

    def _places(self, name: str) -> list[int]:
        mask = self._mask
        words = _WORDS.unpack(hashlib.blake2b(name.encode(), digest_size=32, key=self._key).digest())
        return [word & mask for word in words]
