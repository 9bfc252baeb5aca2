"""What a user would lose: a GGUF file that is not recognised as the quantised copy that it is, since its values are
read wrongly, its names are not matched, or its q and k rows are compared in llama.cpp's order."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from ecotone.lineage import BrokenWeights, common, fingerprint_of, open_weights
from ecotone.lineage.dequantising import DEQUANTISERS, NOT_READ, dequantise
from ecotone.lineage.gguf import read_gguf
from ecotone.lineage.values import decoder, width
from tests.lineage.writing import TYPES, bfloat16, blocks, gguf, q8_0, stored

# SHA-256 of what gguf 0.19.0 (`gguf.quants.dequantize`) reads in the blocks that `some_blocks` makes.
RECORDED = json.loads((Path(__file__).parent / "gguf_blocks.json").read_text())


def some_blocks(dtype: str) -> np.ndarray:
    """Forty blocks of bytes that are the same everywhere, without NaN and infinite scales."""
    _, _, size = TYPES[dtype]
    stream = b"".join(hashlib.sha256(f"{dtype}{i}".encode()).digest() for i in range(40 * size // 32 + 1))
    raw = np.frombuffer(stream[: 40 * size], np.uint8).reshape(40, size).copy()
    with np.errstate(all="ignore"):
        return raw[np.isfinite(dequantise(dtype, raw)).all(axis=1)] if dtype in DEQUANTISERS else raw


def digest(values: np.ndarray) -> str:
    return hashlib.sha256((values.astype("<f4") + np.float32(0)).tobytes()).hexdigest()


@pytest.mark.parametrize("dtype", sorted(RECORDED))
def test_blocks_mean_what_another_reader_says(dtype: str) -> None:
    raw = some_blocks(dtype)
    assert len(raw) > 20
    assert digest(dequantise(dtype, raw)) == RECORDED[dtype]


def test_blocks_are_read_as_the_gguf_package_reads_them_now() -> None:
    quants = pytest.importorskip("gguf.quants", reason="needs the package gguf")
    kinds = pytest.importorskip("gguf.constants").GGMLQuantizationType
    rng = np.random.default_rng(1)
    for dtype in RECORDED:
        raw = rng.integers(0, 256, (30, TYPES[dtype][2]), np.uint8)
        with np.errstate(all="ignore"):
            theirs = quants.dequantize(raw, kinds[dtype])
        assert np.array_equal(dequantise(dtype, raw), theirs, equal_nan=True), dtype
    values = rng.standard_normal((8, 512), np.float32)
    for dtype in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16"):
        raw = quants.quantize(values, kinds[dtype])
        mine = (
            decoder("BF16")(raw.reshape(8, -1, 2))
            if dtype == "BF16"
            else dequantise(dtype, raw.reshape(8, -1, TYPES[dtype][2]))
        )
        assert np.abs(mine.reshape(8, 512) - values).max() < 0.6, dtype
        assert np.corrcoef(mine.ravel(), values.ravel())[0, 1] > 0.99, dtype


def test_intermediate_types_hold_a_scale_and_whole_numbers() -> None:
    numbers = np.arange(-128, 128, dtype=np.int8)
    q8_k = np.concatenate((np.array([0.5], "<f4").view(np.uint8), numbers.view(np.uint8), np.zeros(32, np.uint8)))
    assert np.array_equal(dequantise("Q8_K", q8_k), numbers * np.float32(0.5))
    q8_1 = np.concatenate((np.array([0.25, 9], "<f2").view(np.uint8), numbers[:32].view(np.uint8)))
    assert np.array_equal(dequantise("Q8_1", q8_1), numbers[:32] * np.float32(0.25))


@pytest.mark.parametrize(
    ("dtype", "code", "value"),
    [("F8_E4M3", 0x7E, 448), ("F8_E4M3", 0x01, 2**-9), ("F8_E4M3", 0xB8, -1), ("F8_E5M2", 0x7B, 57344),
     ("F8_E5M2", 0xFC, -np.inf), ("F8_E5M2", 0x01, 2**-16), ("F8_E4M3FNUZ", 0x7F, 240), ("F8_E5M2FNUZ", 0x7F, 57344),
     ("F8_E8M0", 127, 1), ("F8_E8M0", 0, 2**-127), ("BOOL", 1, 1), ("I8", 0xFF, -1), ("U8", 0xFF, 255)],
)  # fmt: skip
def test_small_types_mean_what_their_standard_says(dtype: str, code: int, value: float) -> None:
    assert width(dtype) == 1
    assert decoder(dtype)(np.array([[code]], np.uint8))[0] == np.float32(value)


@pytest.mark.slow
def test_small_types_agree_with_torch_in_every_value() -> None:
    torch = pytest.importorskip("torch")
    codes = torch.arange(256, dtype=torch.uint8)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        mine = decoder("F" + name[5:].upper().replace("FN", "", 1 if name.endswith("fn") else 0))(
            codes.numpy()[:, None]
        )
        assert np.array_equal(mine, codes.view(getattr(torch, name)).float().numpy(), equal_nan=True), name


def reordered(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does with q and k."""
    return np.ascontiguousarray(rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape))


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def converted(source: object, form: str, heads: int, kv: int) -> bytes:
    """A LLaMA as llama.cpp's converter writes it."""
    tensors = {}
    for name in source.tensors:  # type: ignore[attr-defined]
        values, stem = source.read(name), name.removesuffix(".weight")  # type: ignore[attr-defined]
        if stem.startswith("model.layers."):
            number, part = stem.removeprefix("model.layers.").split(".", 1)
            stem = f"blk.{number}.{GGUF_NAMES[part]}"
        else:
            stem = GGUF_NAMES[stem]
        if stem.endswith(("attn_q", "attn_k")):
            values = reordered(values, heads if stem.endswith("q") else kv)
        to = {"F32": stored, "BF16": bfloat16, "Q8_0": q8_0}[form if values.ndim > 1 else "F32"]
        tensors[stem + ".weight"] = to(values)  # type: ignore[operator]
    sizes = {"attention.head_count": heads, "attention.head_count_kv": kv, "block_count": 3, "embedding_length": 96}
    return gguf(tensors, {"general.architecture": "llama", **{f"llama.{key}": value for key, value in sizes.items()}})


@pytest.mark.parametrize(("form", "near"), [("F32", 1.0), ("BF16", 0.99998), ("Q8_0", 0.9998)])
def test_a_converted_llama_has_the_cells_of_its_original(shared: Path, tmp_path: Path, form: str, near: float) -> None:
    folder = shared / "data" / "models" / "llama-atlas"
    original = open_weights(folder)
    config = json.loads((folder / "config.json").read_text())
    kv = config["num_key_value_heads"]
    (tmp_path / "m.gguf").write_bytes(converted(original, form, config["num_attention_heads"], kv))
    copy = open_weights(tmp_path / "m.gguf")
    assert set(copy.tensors) == set(original.tensors)
    assert copy.format == "gguf"
    assert copy.architecture is not None
    assert original.architecture is not None
    assert copy.architecture.signature == original.architecture.signature
    mine, theirs = fingerprint_of(tmp_path / "m.gguf"), fingerprint_of(folder)
    for name in original.tensors:
        whole = original.read(name)
        assert np.allclose(copy.read(name), whole, atol=np.abs(whole).max() / 100), name
        if whole.ndim > 1:
            assert np.array_equal(copy.rows(name, 3, 11), copy.read(name)[3:11]), name
            a, b = (v.astype(np.float64) for v in common(mine.tensors[name], theirs.tensors[name]))
            assert len(a) >= 1024
            assert a @ b / np.sqrt((a @ a) * (b @ b)) >= near - 1e-12, name


def test_heads_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).standard_normal((64, 64), np.float32)
    tensors = {f"blk.{i}.attn_q.weight": stored(reordered(rows, heads)) for i, heads in enumerate((4, 8, 2))}
    metadata = {"general.architecture": "llama", "llama.attention.head_count": [4, 8, 2]}
    (tmp_path / "m.gguf").write_bytes(gguf(tensors, metadata))
    source = open_weights(tmp_path / "m.gguf")
    for i in range(3):
        assert np.array_equal(source.read(f"model.layers.{i}.self_attn.q_proj.weight"), rows)


def test_other_architectures_keep_their_rows_and_have_their_names(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).standard_normal((64, 64), np.float32)
    for kind, expected in (
        ("qwen2", "model.layers.3.self_attn.q_proj.weight"),
        ("bert", "encoder.layer.3.attention.self.query.weight"),
    ):
        (tmp_path / "m.gguf").write_bytes(
            gguf({"blk.3.attn_q.weight": stored(rows), "odd.thing": stored(rows)},
                 {"general.architecture": kind, f"{kind}.attention.head_count": 4})
        )  # fmt: skip
        source = open_weights(tmp_path / "m.gguf")
        assert set(source.tensors) == {expected, "odd.thing"}
        assert np.array_equal(source.read(expected), rows)


def test_stacked_experts_are_single_as_in_their_original(tmp_path: Path) -> None:
    stack = np.random.default_rng(3).standard_normal((4, 48, 64), np.float32)
    for kind, name in (("qwen3moe", "mlp.experts.{}.down_proj"), ("llama", "block_sparse_moe.experts.{}.w2")):
        (tmp_path / "m.gguf").write_bytes(
            gguf({"blk.1.ffn_down_exps.weight": stored(stack)}, {"general.architecture": kind})
        )
        source, found = open_weights(tmp_path / "m.gguf"), fingerprint_of(tmp_path / "m.gguf")
        for i in range(4):
            full = f"model.layers.1.{name.format(i)}.weight"
            assert np.array_equal(source.read(full), stack[i])
            assert found.tensors[full].hash
            assert found.tensors[full].sample


def test_types_without_a_reader_are_named_and_hashed(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf({"token_embd.weight": blocks("IQ2_XXS", (32, 512))}))
    tensor = fingerprint_of(tmp_path / "m.gguf").tensors["model.embed_tokens.weight"]
    assert (tensor.dtype, tensor.shape, tensor.sample) == ("IQ2_XXS", (32, 512), b"")
    assert tensor.hash
    assert tensor.dtype in NOT_READ
    with pytest.raises(BrokenWeights, match="IQ2_XXS"):
        open_weights(tmp_path / "m.gguf").read("model.embed_tokens.weight")


def test_a_split_model_is_read_whole_from_any_of_its_files(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).standard_normal((64, 64), np.float32)
    metadata = {"general.architecture": "llama", "llama.attention.head_count": 4}
    part = {i: {f"blk.{i}.attn_q.weight": stored(reordered(rows, 4))} for i in range(2)}
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(gguf(part[0], metadata))
    second = tmp_path / "m-00002-of-00002.gguf"
    second.write_bytes(gguf(part[1]))
    (tmp_path / "whole.gguf").write_bytes(gguf(part[0] | part[1], metadata))
    assert np.array_equal(open_weights(second).read("model.layers.1.self_attn.q_proj.weight"), rows)
    assert fingerprint_of(second) == fingerprint_of(tmp_path / "whole.gguf")
    with pytest.raises(BrokenWeights, match="not parts of one model"):
        open_weights(tmp_path)
    second.unlink()
    with pytest.raises(BrokenWeights, match="00002-of-00002"):
        open_weights(tmp_path / "m-00001-of-00002.gguf")


def test_a_long_vocabulary_does_not_slow_the_header_down() -> None:
    tokens = [f"token{i}" for i in range(60_000)]
    data = gguf({"a": stored(np.ones((2, 2), np.float32))}, {"tokenizer.ggml.tokens": tokens, "x": "y" * 100_000})
    for size in (1000, len(data)):
        weights = read_gguf([data[i : i + size] for i in range(0, len(data), size)], len(data))
        assert weights.metadata["tokenizer.ggml.tokens"] == 60_000
        assert len(str(weights.metadata["x"])) == 65_536
        assert weights.tensors[0].shape == (2, 2)


ROWS = stored(np.ones((32, 32), np.float32))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (gguf({"a": ROWS, "b": ROWS}).replace(struct.pack("<IQ", 0, 4096), struct.pack("<IQ", 0, 4000)), "overlaps"),
        (gguf({"a": ROWS, "b": ROWS}).replace(struct.pack("<Qc", 1, b"b"), struct.pack("<Qc", 1, b"a")), "twice"),
        (gguf({"a": ("F32", (1 << 40, 1 << 40), b"")}), "shape"),
        (gguf({"a": ("Q4_K", (300, 100), bytes(144 * 100))}), "shape"),
        (gguf({"a": ("F32", (1 << 30, 1 << 30), b"")}), "end at byte"),
        (gguf({"a": ROWS}, {"general.name": 1}, step=0x7FFFFFFF & 3 << 24)[:200], "alignment"),
        (gguf({"a": ROWS}, {"general.alignment": "x"}), "alignment"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 0), "more than"),
        (b"FUGG" + bytes(100), "not possible"),
    ],
)
def test_a_broken_gguf_file_is_a_finding(tmp_path: Path, data: bytes, word: str) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    for act in (open_weights, fingerprint_of):
        with pytest.raises(BrokenWeights, match=word):
            act(tmp_path / "m.gguf")


def test_empty_tensors_and_unknown_types_are_told_and_skipped(tmp_path: Path) -> None:
    data = gguf({"a": ROWS, "empty": ("F32", (0, 32), b""), "b": ROWS, "new": ("F32", (0, 8), b"")})
    data = data.replace(struct.pack("<QQI", 8, 0, 0), struct.pack("<QQI", 8, 4, 777))
    (tmp_path / "m.gguf").write_bytes(data + bytes(1000))
    found = fingerprint_of(tmp_path / "m.gguf").tensors
    assert (found["empty"].shape, found["empty"].sample) == ((0, 32), b"")
    assert (found["new"].dtype, found["new"].shape, found["new"].hash) == ("TYPE_777", (4, 8), None)
    assert found["b"].sample
    assert open_weights(tmp_path / "m.gguf").read("empty").shape == (0, 32)
    with pytest.raises(BrokenWeights, match="TYPE_777"):
        open_weights(tmp_path / "m.gguf").read("new")


def test_what_the_gguf_package_writes_is_read(tmp_path: Path) -> None:
    package = pytest.importorskip("gguf", reason="needs the package gguf")
    rows = np.random.default_rng(3).standard_normal((64, 64), np.float32)
    writer = package.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_head_count(4)
    writer.add_head_count_kv([4, 2])
    writer.add_token_list(["a", "b"])
    writer.add_tensor("blk.1.attn_k.weight", reordered(rows, 2))
    kind = package.GGMLQuantizationType.Q5_1
    writer.add_tensor("token_embd.weight", package.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source, found = open_weights(tmp_path / "m.gguf"), fingerprint_of(tmp_path / "m.gguf")
    assert np.array_equal(source.read("model.layers.1.self_attn.k_proj.weight"), rows)
    assert np.abs(source.read("model.embed_tokens.weight") - rows).max() < 0.2
    assert found.tensors["model.embed_tokens.weight"].dtype == "Q5_1"
