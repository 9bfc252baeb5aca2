"""The hashes of the Xet protocol: with one wrong bit no client's upload would be taken."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.storage import hashes

# appendix B of the protocol notes: input, chunk lengths, file hash, xorb hash, verification hash of the one term
VECTORS = {
    "a": (
        [1],
        "49a7fffaf5f34109d4a191757f3e541e26437dcd1e0e83153454a503757856be",
        "a4d4ed80fcb2fe5177fc59321d3e6f90faf23e35a48d58303114bf073f34178a",
        "1856127f86e6e067d17ce895d84d9963bd53565e566fc0be2a8cee4cf198e63c",
    ),
    "S(8191)": (
        [8191],
        "dbab632285888facb44e49fdae509fa0148c9cdca168c76582095addcac9eef8",
        "eff808ea0be2810c0bf7e8f98cbc43082d3172b12a9cc7475a5f5c5471386505",
        "6fe318e4205d7121481e7b26c7a1a9dab873b39ceab10d2e24da1026bf36a7d6",
    ),
    "zeros": (
        [131072, 131072, 37856],
        "3d7bd4178bc2851ba07d59c24c3a88ae0c7220e9920d6c5c6a06b01556d46404",
        "c2c391c2780688107997606ed6798520928296386f08a43bdf7e28cd1b06b37b",
        "e169d38b9b9fae44721fdd0d6c3a25406ba8346446f87a34224f1730d6172a7f",
    ),
    "S(300000)": (
        [75860, 50472, 79735, 23718, 56146, 14069],
        "b28f03662ba22eddd1348bc37087dbf95720937fbb496bfa571ad638823a0b5a",
        "ace75a9f03b6f54e0d8dec2dd6c490a0693587a3966247d832381a39fafe2178",
        "085ade02a5a91954730d5ce98859b78b34ccdfe519d4b7e21b3cc7d108b952fd",
    ),
}


def content(name: str, forge: Any) -> bytes:
    return {"a": b"a", "zeros": bytes(300_000)}.get(name) or forge.sample(int(name[2:-1]))


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str, forge: Any) -> None:
    lengths, file, xorb, verification = VECTORS[name]
    data, at, nodes = content(name, forge), 0, []
    for length in lengths:
        nodes.append((hashes.chunk_hash(data[at : at + length]), length))
        at += length
    assert at == len(data)
    assert hashes.to_text(hashes.tree_root(nodes)) == xorb
    assert hashes.to_text(hashes.file_hash(nodes)) == file
    assert hashes.to_text(hashes.verification_hash(b"".join(h for h, _ in nodes))) == verification


def test_first_chunk_of_the_sample(forge: Any) -> None:
    first = hashes.chunk_hash(forge.sample(300_000)[:75860])
    assert hashes.to_text(first) == "f7a4d6a93e3f85f99ddb6e9139e121d66f3a7d2f373b48d7302cf8b3b4e96ac1"


def test_empty_file() -> None:
    assert hashes.tree_root([]) == hashes.file_hash([]) == bytes(32)


def test_text_is_four_little_endian_numbers() -> None:
    text = hashes.to_text(bytes(range(32)))
    assert text == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"
    assert hashes.from_text(text) == bytes(range(32))


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n", "../" + "0" * 61])
def test_what_is_no_hash(text: str) -> None:
    assert not hashes.is_hash(text)
    with pytest.raises(ValueError, match="hexadecimal"):
        hashes.from_text(text)


def by_the_book(level: list[tuple[bytes, int]]) -> bytes:
    """The tree as the specification words it: look ahead, cut, repeat."""
    while len(level) > 1:
        above, rest = [], level
        while rest:
            size = len(rest)
            if size > 2:
                size = min(9, size)
                for i in range(2, size):
                    if int.from_bytes(rest[i][0][24:], "little") % 4 == 0:
                        size = i + 1
                        break
            above.append(hashes._node(rest[:size]))
            rest = rest[size:]
        level = above
    return level[0][0]


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, 131072)), min_size=1, max_size=120))
def test_the_streamed_tree_is_the_specified_one(nodes: list[tuple[bytes, int]]) -> None:
    assert hashes.tree_root(iter(nodes)) == by_the_book(nodes)
