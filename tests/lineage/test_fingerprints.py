"""What a user would lose: a copy or a cropped, cast or renamed relative that is not recognised, or a hub that falls
over a hostile file, or that needs more memory or time for a fingerprint than for the file's checksum."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotone.lineage import BrokenWeights, Fingerprint, Fingerprinter, common, fingerprint_of, thinned, unpacked
from ecotone.lineage.sampling import cells, kept, sampled
from tests.lineage.writing import Tensor, bfloat16, blocks, gguf, q8_0, safetensors, stored

NOISE = np.random.default_rng(7)


def random(*shape: int) -> np.ndarray:
    return NOISE.standard_normal(shape, np.float32)


def printed(data: bytes, chunk: int = 1 << 20) -> Fingerprint:
    printer = Fingerprinter(len(data))
    for at in range(0, len(data), chunk):
        printer.feed(data[at : at + chunk])
    return printer.finish()


MATRIX = random(64, 160)
GOOD: dict[str, Tensor] = {
    "model.layers.0.mlp.up_proj.weight": stored(MATRIX),
    "model.layers.0.mlp.gate_proj.weight": bfloat16(random(96, 64)),
    "model.norm.weight": stored(random(2048)),
    "small": stored(random(8)),
    "zeros": stored(np.zeros((64, 64), np.float32)),
    "ones": stored(np.ones(4096, np.float16)),
    "scalar": stored(np.float64(3).reshape(())),
    "empty": ("F32", (0, 4), b""),
    "conv": stored(random(24, 8, 3, 3).astype(np.float64)),
    "last": stored(NOISE.integers(0, 255, (50, 100), np.uint8)),
    "sub-byte": ("F4", (64, 128), NOISE.bytes(4096)),
}
LLAMA = {"general.architecture": "llama", "llama.attention.head_count": 4, "tokenizer.ggml.tokens": ["a", "bc", ""]}
GGUF_GOOD: dict[str, Tensor] = {
    "token_embd.weight": stored(random(64, 64)),
    "blk.0.attn_q.weight": q8_0(random(64, 64)),
    "blk.0.ffn_up.weight": blocks("Q4_K", (16, 512), 1),
    "blk.0.ffn_gate.weight": blocks("IQ2_XXS", (24, 512), 2),
    "output_norm.weight": stored(random(64)),
}


@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 16])
@pytest.mark.parametrize("data", [safetensors(GOOD), gguf(GGUF_GOOD, LLAMA)], ids=["safetensors", "gguf"])
def test_a_fingerprint_does_not_depend_on_how_the_file_arrives(data: bytes, chunk: int) -> None:
    found = printed(data, chunk)
    assert found == printed(data, len(data))
    assert unpacked(found.packed()) == found


def test_a_fingerprint_holds_the_values_of_its_cells() -> None:
    found = printed(safetensors(GOOD)).tensors
    assert set(found) == set(GOOD)
    at = cells((64, 160), 6)
    assert at is not None
    assert at.number >= 1024
    mine = np.frombuffer(found["model.layers.0.mlp.up_proj.weight"].sample, "<f4")
    assert np.array_equal(mine, MATRIX[np.ix_(at.rows, at.columns)].ravel())
    hashed = {name for name, tensor in found.items() if tensor.hash}
    assert hashed == {*GOOD} - {"small", "zeros", "ones", "scalar", "empty"}, "small and constant say nothing"
    assert {name for name, tensor in found.items() if not tensor.sample} == {
        "model.norm.weight", "small", "ones", "scalar", "empty", "sub-byte"
    }  # fmt: skip


def test_a_renamed_copy_has_the_hash_of_its_original_and_a_cast_has_not() -> None:
    mine = printed(safetensors({"a": stored(MATRIX)})).tensors["a"]
    renamed = printed(safetensors({"b": stored(MATRIX), "c": stored(random(64, 64))})).tensors["b"]
    assert mine.hash == renamed.hash
    assert mine.hash != printed(safetensors({"a": bfloat16(MATRIX)})).tensors["a"].hash
    assert mine.hash != printed(safetensors({"a": stored(MATRIX.reshape(160, 64))})).tensors["a"].hash
    assert mine.hash == printed(gguf({"a": stored(MATRIX)})).tensors["a"].hash, "a conversion that keeps the type"


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 400), st.integers(1, 5000))
def test_cropped_and_extended_tensors_sample_the_same_cells(rows: int, columns: int, more: int, tensors: int) -> None:
    mine, theirs = cells((rows, columns), tensors), cells((rows + more, columns), 1)
    assert mine is not None
    assert theirs is not None
    assert 0 < mine.number <= 20_000
    inside = theirs.rows[theirs.rows < rows]
    assert set(mine.rows) <= set(inside) or set(inside) <= set(mine.rows)
    assert set(mine.columns) <= set(theirs.columns) or set(theirs.columns) <= set(mine.columns)
    assert cells((rows, columns), 1).number >= min(1024, rows * columns)  # type: ignore[union-attr]


@settings(deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 12))
def test_levels_nest_and_keep_one_index_of_each_block(length: int, level: int) -> None:
    found, finer = kept(length, level), kept(length, max(0, level - 1))
    assert set(found.tolist()) <= set(finer.tolist())
    assert len(np.unique(found >> level)) == len(found)
    assert len(found) in (length >> level, (length >> level) + 1)


def test_a_vocabulary_that_grew_or_was_cut_is_compared_on_shared_cells() -> None:
    whole = random(300, 96)
    prints = [
        printed(safetensors({"e": stored(whole[:n, :m])})).tensors["e"] for n, m in ((300, 96), (257, 96), (300, 80))
    ]
    for other in prints[1:]:
        mine, theirs = common(prints[0], other)
        assert len(mine) > 300
        assert np.array_equal(mine, theirs)
    mine, theirs = common(prints[0], printed(safetensors({"e": stored(random(300, 2, 48))})).tensors["e"])
    assert not mine.size or len(mine) == len(theirs)
    assert common(prints[0], printed(safetensors({"e": stored(random(300))})).tensors["e"])[0].size == 0


def test_a_model_in_several_files_has_the_fingerprint_that_it_has_in_one(tmp_path: Path) -> None:
    many = {f"model.layers.{i}.mlp.up_proj.weight": stored(random(16, 96)) for i in range(3000)}
    (tmp_path / "one.safetensors").write_bytes(safetensors(many))
    one = fingerprint_of(tmp_path / "one.safetensors")
    halves = [dict(list(many.items())[:900]), dict(list(many.items())[900:])]
    (tmp_path / "folder").mkdir()
    for i, half in enumerate(halves, 1):
        (tmp_path / "folder" / f"model-0000{i}-of-00002.safetensors").write_bytes(safetensors(half))
    assert fingerprint_of(tmp_path / "folder") == one
    joined = printed(safetensors(halves[0])).joined(printed(safetensors(halves[1])))
    assert len(joined.packed()) > len(one.packed())
    assert thinned(joined) == one
    assert len(one.packed()) < 20 << 20
    assert sampled(t.shape for t in one.tensors.values()) == 3000


def test_nan_and_infinite_weights_are_counted_and_not_compared() -> None:
    broken = MATRIX.copy()
    broken[:, ::2], broken[0] = np.nan, np.inf
    tensor = printed(safetensors({"a": stored(broken)})).tensors["a"]
    sample = np.frombuffer(tensor.sample, "<f4")
    assert tensor.odd > 100
    assert np.isfinite(sample).all()
    assert np.count_nonzero(sample == 0) == tensor.odd
    huge = printed(safetensors({"a": stored(np.full((64, 64), 1e300))})).tensors["a"]
    assert huge.odd == 1024, "too large for a 32-bit float"


@pytest.mark.parametrize("data", [safetensors(GOOD), gguf(GGUF_GOOD, LLAMA)], ids=["safetensors", "gguf"])
def test_a_file_that_ends_early_or_goes_on_is_a_finding(data: bytes) -> None:
    for broken in (data[:-97], data[:400], data[:40], data[:3], b"", data + bytes(64)):
        printer = Fingerprinter()
        with pytest.raises(BrokenWeights):
            printer.feed(broken)
            printer.finish()


@pytest.mark.parametrize("data", [safetensors(GOOD), gguf(GGUF_GOOD, LLAMA)], ids=["safetensors", "gguf"])
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: bytes, draw: st.DataObject) -> None:
    file = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 5))):
        head = draw.draw(st.booleans())
        file[draw.draw(st.integers(0, min(len(file), 900 if head else len(file)) - 1))] = draw.draw(st.integers(0, 255))
    printer = Fingerprinter(len(file) if draw.draw(st.booleans()) else None)
    at = 0
    try:
        while at < len(file):
            size = draw.draw(st.sampled_from((1, 13, 500, 5000, 20_000)))
            printer.feed(bytes(file[at : at + size]))
            at += size
        found = printer.finish()
    except BrokenWeights as error:
        assert error.message
        return
    assert all(np.isfinite(np.frombuffer(t.sample, "<f4")).all() for t in found.tensors.values())


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from((b"", b"GGUF", b"GGUF\3\0\0\0", b"\x20\0\0\0\0\0\0\0{")))
def test_junk_never_crashes_the_fingerprinter(junk: bytes, begin: bytes) -> None:
    printer = Fingerprinter()
    try:
        printer.feed(begin + junk)
        assert not printer.finish().tensors, "nothing this short holds weights"
    except BrokenWeights as error:
        assert error.message


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("F4", (1 << 31, 1 << 31)), ("U8", (1 << 61, 1)), ("BF16", (1, 1 << 60)), ("F32", (3, 1 << 30, 1 << 29)),
     ("F6_E2M3", (4, 1 << 58)), ("F64", (1 << 40, 1 << 19))],
)  # fmt: skip
def test_absurd_shapes_cost_no_memory(dtype: str, shape: tuple[int, ...]) -> None:
    bits = {"F4": 4, "F6_E2M3": 6, "U8": 8, "BF16": 16, "F32": 32, "F64": 64}[dtype]
    size = int(np.prod(shape, dtype=object)) * bits // 8
    header = b'{"a":{"dtype":"%s","shape":%s,"data_offsets":[0,%d]}}' % (dtype.encode(), str([*shape]).encode(), size)
    printer = Fingerprinter()
    printer.feed(len(header).to_bytes(8, "little") + header + bytes(100_000))
    with pytest.raises(BrokenWeights):
        printer.finish()


SPARSE = """
import sys
from pathlib import Path
from ecotone.lineage import fingerprint_of
peak = lambda: next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
before = peak()
found = fingerprint_of(Path(sys.argv[1]))
print((peak() - before) / 1024, len(found.tensors))
"""


def sparse(file: Path, layers: int) -> int:
    """A file of holes: matrices of 4096 x 4096 in BF16, and one tensor of a single row."""
    size, rows = 1 << 25, 4096
    end = layers * size
    table: dict[str, dict[str, object]] = {
        f"layers.{i}": {"dtype": "BF16", "shape": [rows, 4096], "data_offsets": [i * size, (i + 1) * size]}
        for i in range(layers)
    }
    table["row"] = {"dtype": "U8", "shape": [1, size * 4], "data_offsets": [end, end + size * 4]}
    header = json.dumps(table).encode()
    with file.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + end + size * 4)
    return file.stat().st_size


@pytest.mark.parametrize("layers", [12, pytest.param(315, marks=pytest.mark.slow)], ids=["0.5 GB", "10 GB"])
def test_a_large_file_is_fingerprinted_in_constant_memory(tmp_path: Path, layers: int) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux, which tells the peak of a process's memory")
    size = sparse(tmp_path / "model.safetensors", layers)
    assert layers < 100 or size > 10**10
    done = subprocess.run(
        [sys.executable, "-c", SPARSE, tmp_path / "model.safetensors"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    more, count = done.stdout.split()
    assert int(count) == layers + 1
    assert float(more) < 32, "megabytes on top of the program's own"


def test_a_fingerprint_takes_no_longer_than_a_checksum() -> None:
    data = safetensors({"a": bfloat16(random(2048, 4096)), "b": bfloat16(random(1024, 4096))})
    piece = [memoryview(data)[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)]
    best = [9.0, 9.0]
    for _ in range(7):
        printer, digest = Fingerprinter(len(data)), hashlib.sha256()
        for i, take in enumerate((printer.feed, digest.update)):
            began = time.thread_time()
            for chunk in piece:
                take(chunk)
            if not i:
                printer.finish()
            best[i] = min(best[i], time.thread_time() - began)
    assert best[0] <= best[1], f"{best[0]:.4f} s against {best[1]:.4f} s of sha256"
