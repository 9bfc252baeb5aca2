"""What a user would lose: a broken or hostile file that crashes the hub, or two copies that are not seen as one."""

import json
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.lineage import (
    BrokenWeights,
    architecture,
    parameters,
    read_gguf,
    read_safetensors,
)


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def made(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    table: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    place, data = 0, b""
    for name, (dtype, shape, content) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + len(content)]}
        place, data = place + len(content), data + content
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + data


def noise(size: int, seed: int) -> bytes:
    return b"".join(((seed * 2654435761 + i * 40503) & 0xFFFFFFFF).to_bytes(4, "little") for i in range(size // 4))


GOOD = {
    "a": ("F32", [32, 64], noise(8192, 1)),
    "b": ("BF16", [4096], noise(8192, 2)),
    "small": ("F32", [4], noise(16, 3)),
    "zeros": ("F32", [64, 64], bytes(16384)),
    "ones": ("F16", [4096], b"\x00\x3c" * 4096),
    "scalar": ("I64", [], bytes(8)),
    "empty": ("F32", [0, 4], b""),
    "last": ("U8", [5000], noise(5000, 4)),
}


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_a_header_does_not_depend_on_how_the_file_arrives(size: int) -> None:
    data = made(GOOD, {"format": "pt"})
    weights = read_safetensors(chunked(data, size), len(data))
    assert {t.name: (t.dtype, list(t.shape)) for t in weights.tensors} == {n: (d, s) for n, (d, s, _) in GOOD.items()}
    assert weights.metadata == {"format": "pt"}
    assert parameters([weights]).by_dtype["F32"] == 32 * 64 + 4 + 64 * 64


def raw(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    ("file", "word"),
    [
        (b"", "cut off"),
        (b"\x08\0\0", "cut off"),
        (b"\xff" * 16, "not possible"),
        (raw(b"[]      "), "begins with"),
        (raw(b'{"a": NaN}'), "JSON"),
        (raw(b"{" * 5000), "JSON"),
        (raw(b'{"a": 1}'), "no description"),
        (raw(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}', bytes(8)), "bytes of data"),
        (raw(b'{"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)), "data type"),
        (raw(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', bytes(4)), "list of sizes"),
        (raw(b'{"a": {"dtype": "U8", "shape": [true], "data_offsets": [0, 1]}}', bytes(1)), "list of sizes"),
        (raw(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', bytes(4)), "bytes of data"),
        (raw(b'{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},'
             b'"b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}', bytes(3)), "overlaps"),
        (raw(b'{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},'
             b'"b": {"dtype": "U8", "shape": [2], "data_offsets": [3, 5]}}', bytes(5)), "hole"),
        (raw(b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},'
             b'"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}', bytes(1)), "twice"),
        (raw(b'{"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}', bytes(3)), "end at byte"),
        (raw(b'{"__metadata__": {"a": 1}}'), "__metadata__"),
        (raw(b'{"__metadata__": {"a": "\\ud800"}}'), "Unicode"),
        (raw(b'{"\\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}', bytes(1)), "Unicode"),
    ],
)  # fmt: skip
def test_a_broken_header_is_a_finding(file: bytes, word: str) -> None:
    with pytest.raises(BrokenWeights, match=word):
        read_safetensors([file], len(file) if len(file) > 16 else None)


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_junk_never_crashes_the_readers(junk: bytes, framed: bool) -> None:
    for read in (read_safetensors, read_gguf):
        try:
            read([raw(junk) if framed else junk])
        except BrokenWeights as error:
            assert error.message


@settings(deadline=None)
@given(st.data())
def test_a_damaged_header_is_read_or_refused(data: st.DataObject) -> None:
    for file, read in ((bytearray(made(GOOD)), read_safetensors), (bytearray(gguf()), read_gguf)):
        for _ in range(data.draw(st.integers(1, 4))):
            file[data.draw(st.integers(0, min(len(file), 400) - 1))] = data.draw(st.integers(0, 255))
        try:
            weights = read([bytes(file)], len(file))
        except BrokenWeights:
            continue
        for one, other in pairwise(weights.tensors):
            assert one.end <= other.begin


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf() -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 3)
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    head += text("llama.block_count") + struct.pack("<II", 4, 2)
    head += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    head += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 64, 2, 0, 0)
    head += text("blk.0.attn_q.weight") + struct.pack("<IQQIQ", 2, 32, 2, 8, 512)
    start = -(-len(head) // 32) * 32
    return head.ljust(start, b"\0") + bytes(512 + 68)


@pytest.mark.parametrize("size", [1, 33, 10_000])
def test_a_gguf_header_tells_metadata_and_tensors(size: int) -> None:
    data = gguf()
    weights = read_gguf(chunked(data, size), len(data))
    assert weights.metadata == {"general.architecture": "llama", "llama.block_count": 2, "tokenizer.ggml.tokens": 2}
    assert [(t.name, t.dtype, t.shape, t.end - t.begin) for t in weights.tensors] == [
        ("token_embd.weight", "F32", (2, 64), 512),
        ("blk.0.attn_q.weight", "Q8_0", (2, 32), 68),
    ]
    assert parameters([weights]).total == 192
    for cut in range(0, 200, 13):
        with pytest.raises(BrokenWeights):
            read_gguf([data[:cut]])


def test_gguf_claims_are_bounded() -> None:
    for claim in (
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("x") + struct.pack("<IIQ", 9, 0, 1 << 60),
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    ):
        with pytest.raises(BrokenWeights):
            read_gguf([claim])


def test_families_name_their_sizes_differently() -> None:
    bert = {
        "model_type": "bert",
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "vocab_size": 30522,
    }
    t5 = {"model_type": "t5", "num_layers": 12, "d_model": 768, "num_heads": 12, "vocab_size": 32128}
    nested = {"model_type": "gemma3", "text_config": {"hidden_size": 2560, "num_hidden_layers": 34}}
    assert [a.signature for c in (bert, t5, nested) if (a := architecture(c))] == [
        "bert-12x768-12h-30522v",
        "t5-12x768-12h-32128v",
        "gemma3-34x2560-?h-?v",
    ]
    assert architecture({"model_type": ["x"]}) is None
    assert architecture({}) is None


def test_real_models_are_read_as_safetensors_reads_them(shared: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    for file in sorted((shared / "data" / "models").glob("*/*.safetensors")):
        data = file.read_bytes()
        weights = read_safetensors(chunked(data, 65536), len(data))
        with safetensors.safe_open(file, "np") as real:
            assert {t.name: list(t.shape) for t in weights.tensors} == {
                k: real.get_slice(k).get_shape()
                for k in real.keys()  # noqa: SIM118
            }
