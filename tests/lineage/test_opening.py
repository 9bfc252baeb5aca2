"""What a user would lose: weights that cannot be opened as they lie, two saves of one model that do not meet under the
same names, or code that runs since somebody asked what a file holds."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from ecotone.lineage import BrokenIndex, BrokenWeights, PickledWeights, fingerprint_of, open_weights
from ecotone.lineage.comparing.differences import blocks
from ecotone.lineage.naming import canonical
from ecotone.lineage.opening import WIDEST
from tests.lineage.writing import Tensor, bfloat16, safetensors, stored

ROWS = np.random.default_rng(5).standard_normal((48, 64), np.float32)
ONE: dict[str, Tensor] = {"model.layers.0.mlp.up_proj.weight": stored(ROWS), "model.norm.weight": bfloat16(ROWS[0])}
TWO: dict[str, Tensor] = {"lm_head.weight": stored(ROWS + 1), "scalar": stored(np.float64(2.5).reshape(()))}


def shards(folder: Path, *, index: bool) -> None:
    for i, part in enumerate((ONE, TWO), 1):
        (folder / f"model-0000{i}-of-00002.safetensors").write_bytes(safetensors(part))
    if index:
        table = {name: f"model-0000{i}-of-00002.safetensors" for i, part in enumerate((ONE, TWO), 1) for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))


@pytest.mark.parametrize("index", [True, False])
def test_a_folder_of_shards_is_one_model(tmp_path: Path, index: bool) -> None:
    shards(tmp_path, index=index)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    if index:
        (tmp_path / "consolidated.safetensors").write_bytes(safetensors(ONE))
    source = open_weights(tmp_path)
    assert set(source.tensors) == {*ONE, *TWO}
    assert source.architecture is not None
    assert source.architecture.width == 64
    assert np.array_equal(source.read("lm_head.weight"), ROWS + 1)
    assert np.array_equal(source.rows("lm_head.weight", 7, 9), ROWS[7:9] + 1)
    assert np.allclose(source.read("model.norm.weight"), ROWS[0], atol=0.02)
    assert source.read("scalar") == 2.5
    told: list[tuple[int, int]] = []
    found = fingerprint_of(tmp_path, lambda *at: told.append(at))
    assert set(found.tensors) == set(source.tensors)
    assert told[-1][0] == told[-1][1] == sum(f.stat().st_size for f in tmp_path.glob("model-*.safetensors"))
    for bad in ((-1, 2), (3, 2), (0, 49)):
        with pytest.raises(IndexError):
            source.rows("lm_head.weight", *bad)
    with pytest.raises(KeyError):
        source.read("nothing")


def test_the_trained_models_are_read_as_safetensors_reads_them(shared: Path) -> None:
    safe_open = pytest.importorskip("safetensors").safe_open
    for file in sorted((shared / "data" / "models").glob("*/*.safetensors")):
        source = open_weights(file.parent)
        with safe_open(file, "np") as real:
            for name, ours in canonical(real.keys()).items():
                assert np.array_equal(source.read(ours), real.get_tensor(name)), name


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path(os.environ["TRAP"]) / "sprung"),)


def test_pickles_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAP", str(tmp_path))
    for name in ("pytorch_model.bin", "model.pt", "model.safetensors", "noname"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(pickle.dumps(Trap()))
        for path in (folder / name, *([] if name == "noname" else [folder])):
            for act in (open_weights, fingerprint_of):
                with pytest.raises(PickledWeights, match=r"never opened here; save the model as safetensors"):
                    act(path)
    assert not (tmp_path / "sprung").exists()


def test_what_holds_no_weights_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BrokenWeights, match=r"holds no \*\.safetensors"):
        open_weights(tmp_path)
    with pytest.raises(BrokenWeights, match="is no file and no folder"):
        open_weights(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BrokenWeights, match="is no file and no folder"):
        open_weights(tmp_path / "pipe")


def test_an_index_that_lies_is_refused(tmp_path: Path) -> None:
    shards(tmp_path, index=True)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BrokenIndex, match="which is not there"):
        open_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    with pytest.raises(BrokenIndex):
        open_weights(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(safetensors(ONE))
    for act in (open_weights, fingerprint_of):
        with pytest.raises(BrokenWeights, match="both hold"):
            act(tmp_path)


def test_a_file_that_is_cut_after_it_was_opened_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors(ONE))
    source = open_weights(file)
    os.truncate(file, 3000)
    with pytest.raises(BrokenWeights, match="ends before"):
        source.read("model.norm.weight")


def test_a_row_that_is_wider_than_any_models_does_not_take_the_memory(tmp_path: Path) -> None:
    def sparse(name: str, columns: int) -> Path:
        size = 2 * columns * 4
        head = json.dumps({"w.weight": {"dtype": "F32", "shape": [2, columns], "data_offsets": [0, size]}}).encode()
        (tmp_path / name).write_bytes(len(head).to_bytes(8, "little") + head)
        os.truncate(tmp_path / name, 8 + len(head) + size)
        return tmp_path / name

    with pytest.raises(BrokenWeights, match="no model's"):
        open_weights(sparse("far.safetensors", WIDEST + 1)).rows("w.weight", 0, 1)
    wide = open_weights(sparse("wide.safetensors", (1 << 22) + 5))
    assert [a.shape for a, _ in blocks(wide, "w.weight", wide, "w.weight")] == [(1, 1 << 22)] * 2


@pytest.mark.parametrize("name", ["model.safetensors", "model-Q8_0.gguf", "model-00001-of-00001.safetensors"])
def test_a_pipe_or_a_device_among_the_files_is_refused_and_neither_waited_for_nor_read(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    for act in (open_weights, fingerprint_of):
        with pytest.raises(BrokenWeights, match="no regular file"):
            act(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / "model.safetensors").write_bytes(safetensors(ONE))
    for made in (os.mkfifo, lambda place: place.symlink_to("/dev/zero")):
        made(tmp_path / "config.json")
        assert open_weights(tmp_path).architecture is None
        (tmp_path / "config.json").unlink()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "model.layers.0.mlp.up_proj.lora_A.weight"),
        ("module._orig_mod.model.norm.weight", "model.norm.weight"),
        ("language_model.model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("bert.encoder.layer.0.output.dense.weight", "encoder.layer.0.output.dense.weight"),
        ("h.3.attn.c_attn.weight", "transformer.h.3.attn.c_attn.weight"),
        ("bert.classifier.weight", "bert.classifier.weight"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"),
    ],
)
def test_saves_of_one_model_meet_under_one_name(name: str, expected: str) -> None:
    assert canonical([name]) == {name: expected}


def test_names_that_would_become_one_stay_two() -> None:
    both = ["model.layers.0.w", "language_model.model.layers.0.w", "module.lm_head.weight"]
    assert canonical(both) == {both[0]: both[0], both[1]: both[1], both[2]: "lm_head.weight"}
    two = ["module.a", "_orig_mod.a"]
    assert canonical(two) == {n: n for n in two}
