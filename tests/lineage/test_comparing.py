"""The comparison on bad and odd input, and the command as a script calls it."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ecotone.cli.main import app
from ecotone.lineage.comparing import Related, compare, compare_prints
from ecotone.lineage.opening import fingerprint_of, open_weights
from ecotone.vocabulary import Relation
from tests.lineage.derivations import Model, save

BERT = {"model_type": "bert", "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numpy's; other tests' garbage is theirs
        yield


def decoder(seed: int, layers: int = 2, width: int = 32, keys: int = 32) -> Model:
    random = np.random.default_rng(seed)
    found = {"model.embed_tokens.weight": random.standard_normal((96, width)).astype(np.float32)}
    shapes = {"q": (width, width), "k": (keys, width), "v": (keys, width), "o": (width, width)}
    for n in range(layers):
        for part, shape in shapes.items():
            found[f"model.layers.{n}.self_attn.{part}_proj.weight"] = random.standard_normal(shape).astype(np.float32)
        for part, shape in (("gate", (80, width)), ("up", (80, width)), ("down", (width, 80))):
            found[f"model.layers.{n}.mlp.{part}_proj.weight"] = random.standard_normal(shape).astype(np.float32)
        found[f"model.layers.{n}.input_layernorm.weight"] = np.ones(width, np.float32)
    return found


def encoder(seed: int) -> Model:
    random = np.random.default_rng(seed)
    found = {
        "embeddings.word_embeddings.weight": random.standard_normal((120, 32)).astype(np.float32),
        "embeddings.LayerNorm.weight": np.ones(32, np.float32),
    }
    for n in range(2):
        stem = f"encoder.layer.{n}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            found[f"{stem}{part}.weight"] = random.standard_normal((32, 32)).astype(np.float32)
            found[f"{stem}{part}.bias"] = random.standard_normal(32).astype(np.float32)
        found[stem + "intermediate.dense.weight"] = random.standard_normal((128, 32)).astype(np.float32)
        found[stem + "output.dense.weight"] = random.standard_normal((32, 128)).astype(np.float32)
    return found


def moved(model: Model, size: float, seed: int) -> Model:
    """The model with a difference that is large in a few directions, as training leaves it."""
    random = np.random.default_rng(seed)
    found = {}
    for n, a in model.items():
        noise = random.standard_normal(a.shape)
        if a.ndim == 2:
            noise += 4 * np.outer(random.standard_normal(len(a)), random.standard_normal(a.shape[1]))
        found[n] = (a + size * np.linalg.norm(a) / np.linalg.norm(noise) * noise).astype(np.float32)
    return found


def both(tmp_path: Path, child: dict, parent: dict, **config: object):
    a, b = save(tmp_path / "a", child, **config), save(tmp_path / "b", parent, **config)
    compare_prints(fingerprint_of(a), fingerprint_of(b))
    return compare(open_weights(a), open_weights(b), prints=(fingerprint_of(a), fingerprint_of(b)))


def test_an_encoder_is_compared_by_its_own_names(tmp_path: Path) -> None:
    base = encoder(1)
    tuned = both(tmp_path / "1", moved(base, 0.05, 2), base, **BERT)
    assert (tuned.related, tuned.relation) == (Related.YES, Relation.FINETUNE)
    assert both(tmp_path / "2", encoder(3), base, **BERT).related is Related.NO
    order = np.random.default_rng(4).permutation(128)
    shuffled = dict(base)
    for n in range(2):
        shuffled[f"encoder.layer.{n}.intermediate.dense.weight"] = base[f"encoder.layer.{n}.intermediate.dense.weight"][
            order
        ]
        shuffled[f"encoder.layer.{n}.output.dense.weight"] = base[f"encoder.layer.{n}.output.dense.weight"][:, order]
    assert both(tmp_path / "3", shuffled, base, **BERT).related is Related.YES


def test_fewer_key_heads_and_a_missing_head_do_not_hide_a_copy(tmp_path: Path) -> None:
    base = decoder(1, keys=16)
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2}
    assert both(tmp_path / "1", moved(base, 0.05, 2), base, **config).relation is Relation.FINETUNE
    assert both(tmp_path / "2", decoder(3, keys=16), base, **config).related is Related.NO
    without = {n: a for n, a in decoder(3, keys=16).items() if "embed" not in n}
    found = both(tmp_path / "3", without, base, **config)
    assert found.related is Related.NO
    assert any(c.name == "query_key_product" and c.passed is None and "embedding" in c.means for c in found.evidence)


def test_convolutions_are_compared_and_buffers_of_equal_size_prove_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(1)

    def network() -> dict:
        return {
            "conv1.weight": random.standard_normal((32, 8, 3, 3)).astype(np.float32),
            "layer.0.conv.weight": random.standard_normal((64, 32, 3, 3)).astype(np.float32),
            "rotary_emb.inv_freq": np.linspace(1, 2, 2048, dtype=np.float32).reshape(32, 64),
            "scale.weight": np.ones((4, 1024), np.float32)
            + np.float32(1e-3) * np.arange(4)[:, None].astype(np.float32),
        }

    one, other = network(), network()
    other["scale.weight"] = np.ones((4, 1024), np.float32)
    assert both(tmp_path / "1", other, one).related is Related.NO
    assert both(tmp_path / "2", moved(one, 0.05, 2), one).related is Related.YES


@pytest.mark.parametrize("damage", ["nan", "inf", "huge", "zeros", "constant", "empty", "vector", "scalar", "integers"])
def test_odd_values_are_a_finding_and_no_crash(damage: str, tmp_path: Path) -> None:
    base, odd = decoder(1), decoder(1)
    name = "model.layers.0.self_attn.q_proj.weight"
    spoilt: dict[str, np.ndarray] = {
        "nan": np.where(odd[name] > 1, np.float32("nan"), odd[name]),
        "inf": np.where(odd[name] > 1, np.float32("inf"), odd[name]),
        "huge": np.full_like(odd[name], 3e38),
        "zeros": np.zeros_like(odd[name]),
        "constant": np.full_like(odd[name], 0.5),
        "empty": np.zeros((0, 32), np.float32),
        "vector": np.zeros(7, np.float32),
        "scalar": np.float32(3).reshape(()),
        "integers": np.arange(1024, dtype=np.int32).reshape(32, 32),
    }
    found = both(tmp_path, odd | {name: spoilt[damage]}, base)
    assert found.related is Related.YES
    json.dumps(found.to_json(), allow_nan=False)
    if damage in ("nan", "inf", "huge"):
        assert any(c.name == "odd_values" and c.figure for c in found.evidence)


def test_a_model_too_large_to_be_read_whole_is_judged_by_its_blocks(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    base = {f"model.layers.{n}.mlp.up_proj.weight": random.standard_normal((1600, 1024), np.float32) for n in range(2)}
    assert both(tmp_path / "1", moved(base, 0.05, 2), base).relation is Relation.FINETUNE
    ours = {n: random.standard_normal(a.shape, np.float32) for n, a in base.items()}
    assert both(tmp_path / "2", ours, base).related is Related.NO


def test_models_of_nothing_but_nothing_are_not_related(tmp_path: Path) -> None:
    for number, value in enumerate((0.0, 0.5, float("nan"))):
        model = {n: np.full_like(a, value) for n, a in decoder(1).items()}
        found = both(tmp_path / str(number), model, decoder(1))
        assert found.related is Related.NO and found.relation is None
        json.dumps(found.to_json(), allow_nan=False)
    assert both(tmp_path / "x", encoder(1), decoder(1)).related is Related.NO


def test_packed_matrices_are_recognised_by_what_stands_beside_them(tmp_path: Path) -> None:
    base = decoder(1)
    packed: dict[str, np.ndarray] = {}
    for n, a in base.items():
        if n.endswith("_proj.weight"):
            stem = n.removesuffix("weight")
            packed[stem + "qweight"] = np.zeros((a.shape[1] // 8, a.shape[0]), np.int32)
            packed[stem + "scales"] = np.ones((1, a.shape[0]), np.float16)
        else:
            packed[n] = a
    found = both(tmp_path, packed, base)
    assert (found.related, found.relation, found.bits) == (Related.YES, Relation.QUANTISED, 4)


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from ecotone.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, "lineage", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def _asked(child: Path, parent: Path) -> Result:
    return CliRunner().invoke(app, ["lineage", "compare", str(child), str(parent)])


def test_a_script_can_tell_the_answers_apart(tmp_path: Path) -> None:
    base = save(tmp_path / "base", decoder(1))
    tuned, other = save(tmp_path / "tuned", moved(decoder(1), 0.05, 2)), save(tmp_path / "other", decoder(5))
    found = _run(tuned, base, "--json")
    answer = json.loads(found.stdout)
    assert found.returncode == 0 and (answer["related"], answer["relation"]) == ("yes", "finetune")
    assert {"name", "figure", "threshold", "passed", "means"} == set(answer["evidence"][0])
    assert _asked(other / "model.safetensors", base).exit_code == 4
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickle").mkdir()
    (tmp_path / "pickle/pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    (tmp_path / "cut.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:900])
    for bad in ("empty", "pickle", "pickle/pytorch_model.bin", "cut.safetensors", "absent"):
        refused = _asked(tmp_path / bad, base)
        assert refused.exit_code == 2 and bad.split("/")[0] in refused.stderr, refused
    adapter = {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((4, 32), np.float32),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": np.ones((32, 4), np.float32),
    }
    folder = save(tmp_path / "adapter", adapter)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "team/base"}')
    unsure = _asked(folder, base)
    assert unsure.exit_code == 5 and "team/base" in unsure.stdout and "adapter" in unsure.stdout
