"""Xet's hashes (specification, sections on hashing): keyed BLAKE3 of chunks, node tree, file and term verification.

Hash text is not plain hex: the 32 bytes as four little-endian u64, each printed as 16 hex digits.
"""

import itertools
import re
import struct
from collections.abc import Iterable, Iterator, Sequence

from blake3 import blake3

DATA_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
VERIFICATION_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
ZERO = bytes(32)
_TEXT = re.compile(r"[0-9a-f]{64}")
_FEWEST, _MOST = 2, 9


def to_text(raw: bytes) -> str:
    """Hash text of 32 bytes."""
    return "%016x%016x%016x%016x" % struct.unpack("<4Q", raw)


def from_text(text: str) -> bytes:
    """The 32 bytes of a hash text. Raises ValueError for anything else."""
    if not _TEXT.fullmatch(text):
        raise ValueError("a hash is 64 lower-case hexadecimal digits")
    return struct.pack("<4Q", *(int(text[i : i + 16], 16) for i in range(0, 64, 16)))


def is_hash(text: str) -> bool:
    return _TEXT.fullmatch(text) is not None


def chunk_hash(data: bytes | memoryview) -> bytes:
    """Of a chunk's raw bytes."""
    return blake3(data, key=DATA_KEY).digest()


def tree_root(nodes: Iterable[tuple[bytes, int]]) -> bytes:
    """Root over (hash, length) pairs: of a xorb's chunks its hash, of a file's chunks what its hash is made from.

    Groups are cut from the left: 3 to 9 nodes, ended by a node from the third on whose last u64 is divisible by 4; a
    tail of one or two is a group of its own. One node alone is its own root; none gives zeros. The first level is cut
    as the nodes come, so that the chunks of a large file are never all in memory.
    """
    incoming = iter(nodes)
    first = list(itertools.islice(incoming, 2))
    if not first:
        return ZERO
    if len(first) == 1:
        return first[0][0]
    level = list(_above(itertools.chain(first, incoming)))
    while len(level) > 1:
        level = list(_above(level))
    return level[0][0]


def _above(level: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    group: list[tuple[bytes, int]] = []
    for node in level:
        group.append(node)
        count = len(group)
        # the lowest byte of the last u64 decides whether it is divisible by 4
        if count == _MOST or (count > _FEWEST and node[0][24] & 3 == 0):
            yield _node(group)
            group = []
    if group:
        yield _node(group)


def _node(children: Sequence[tuple[bytes, int]]) -> tuple[bytes, int]:
    text = "".join(f"{to_text(raw)} : {length}\n" for raw, length in children)
    return blake3(text.encode(), key=NODE_KEY).digest(), sum(length for _, length in children)


def file_hash(nodes: Iterable[tuple[bytes, int]]) -> bytes:
    """Of a file from its chunks' (hash, length); zeros for an empty file."""
    root = tree_root(nodes)
    return ZERO if root == ZERO else blake3(root, key=ZERO).digest()


def verification_hash(chunk_hashes: bytes) -> bytes:
    """Of a term from the concatenated hashes of its chunks."""
    return blake3(chunk_hashes, key=VERIFICATION_KEY).digest()
