"""What a folder holds decides how it is loaded, and whether it may be."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecotone.engines.server.errors import Unloadable
from ecotone.engines.server.folders import Task, base_of, plan
from ecotone.engines.server.pooling import Pooling, read


def folder(tmp_path: Path, *names: str, **configs: Any) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(b"x" * 10)
    for name, value in configs.items():
        (tmp_path / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return tmp_path


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, Task.GENERATION),
        ({"architectures": ["GPT2LMHeadModel"]}, Task.GENERATION),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, Task.TEXT_TO_TEXT),
        ({"architectures": ["T5EncoderModel"], "is_encoder_decoder": True}, Task.EMBEDDING),
        ({"architectures": ["BertForMaskedLM"]}, Task.FILL_MASK),
        ({"architectures": ["BartForSequenceClassification"], "is_encoder_decoder": True}, Task.TEXT_CLASSIFICATION),
        ({"architectures": ["XLMRobertaForTokenClassification"]}, Task.TOKEN_CLASSIFICATION),
        ({"architectures": ["DistilBertForQuestionAnswering"]}, Task.QUESTION_ANSWERING),
        ({"architectures": ["RobertaModel"]}, Task.EMBEDDING),
        ({}, Task.EMBEDDING),
    ],
)
def test_the_task_follows_from_the_architecture(config: dict[str, Any], task: Task, tmp_path: Path) -> None:
    found = plan(folder(tmp_path, "model.safetensors", config=config))
    assert found.task == task and found.weight_bytes == 10 and found.adapter is None


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match=r"pytorch_model\.bin.*safetensors.*save_pretrained"):
        plan(folder(tmp_path, "pytorch_model.bin", config={"architectures": ["BertModel"]}))


@pytest.mark.parametrize(
    ("names", "configs", "said"),
    [
        (["model.safetensors"], {}, "no config.json"),
        ([], {"config": {}}, "no weights"),
        (["model.safetensors"], {"config": "{"}, "not JSON"),
        (["model.safetensors"], {"config": "[1]"}, "no JSON object"),
        (["model.safetensors"], {"config": {"auto_map": {"AutoModel": "x.Y"}}}, "never run"),
        (["model.safetensors"], {"config": "[" * 100_000}, "not JSON"),
        (["model.safetensors"], {"config": {"_attn_implementation": "evil/kernel"}}, "code of its own.*evil/kernel"),
        (["model.safetensors"], {"config": {"attn_implementation": {"text": "evil/kernel@main:f"}}}, "code of its own"),
        (["model.safetensors"], {"config": {"num_hidden_layers": 10_000_000}}, "num_hidden_layers=10000000"),
        (["adapter_model.safetensors"], {"adapter_config": {"base_model_name_or_path": "a/b"}}, "'a/b'.*not found"),
    ],
)
def test_what_cannot_be_loaded_says_why(names: list[str], configs: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match=said):
        plan(folder(tmp_path, *names, **configs))


def test_an_adapter_is_loaded_over_its_base(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "adapter").mkdir()
    base = folder(tmp_path / "base", "model.safetensors", config={"architectures": ["LlamaForCausalLM"]})
    config = {"base_model_name_or_path": "demo/base", "peft_type": "LORA"}
    adapter = folder(tmp_path / "adapter", "adapter_model.safetensors", adapter_config=config)
    found = plan(adapter, base)
    assert (found.weights, found.adapter, found.tokens, found.task) == (base, adapter, base, Task.GENERATION)
    assert base_of(adapter) == "demo/base" and base_of(base) is None
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(Unloadable, match="safetensors"):
        plan(adapter, base)
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(Unloadable, match="IA3"):
        plan(adapter, base)


def index(tmp_path: Path, name: str) -> Path:
    (tmp_path / "weights").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").write_bytes(b"x")
    table = {"weight_map": {"a": "one.safetensors", "b": name}}
    found = folder(tmp_path / "weights", "one.safetensors", config={"architectures": ["BertModel"]})
    (found / "model.safetensors.index.json").write_text(json.dumps(table))
    return found


@pytest.mark.parametrize(
    "name", ["../other/model.safetensors", "/etc/passwd", "sub/../../other/model.safetensors", "..", "", "a\\b", 5]
)
def test_an_index_never_serves_weights_of_another_model_under_this_ones_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match=r"model\.safetensors\.index\.json: it names .*plain name"):
        plan(index(tmp_path, name))


def test_an_index_names_only_what_lies_beside_it(tmp_path: Path) -> None:
    weights = index(tmp_path, "two.safetensors")
    with pytest.raises(Unloadable, match=r"'two\.safetensors', which is not there; upload it"):
        plan(weights)
    (weights / "two.safetensors").symlink_to(tmp_path / "other" / "model.safetensors")
    with pytest.raises(Unloadable, match="a link that leads out"):
        plan(weights)
    (weights / "two.safetensors").unlink()
    (weights / "two.safetensors").write_bytes(b"x")
    assert plan(weights).weights == weights
    (weights / "sub").mkdir()
    (weights / "model.safetensors.index.json").rename(weights / "sub" / "x.safetensors.index.json")
    with pytest.raises(Unloadable, match=r"sub/x\.safetensors\.index\.json"):
        plan(weights)


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        ({"config": {"transformers_weights": "../other/model.safetensors"}}, "transformers_weights|plain file name"),
        ({"tokenizer_config": {"fast_tokenizer_files": ["../1-ab/tokenizer.4.0.json"]}}, "fast_tokenizer_files"),
        ({"tokenizer_config": {"fast_tokenizer_files": 5}}, "fast_tokenizer_files"),
        ({"tokenizer_config": {"vocab_file": "../../secrets/storage"}}, "vocab_file"),
    ],
)
def test_a_configuration_never_names_files_of_another_model(configs: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match=said):
        plan(folder(tmp_path, "model.safetensors", **{"config": {"architectures": ["BertModel"]}, **configs}))


def test_an_adapters_base_is_no_adapter_that_names_another_base(tmp_path: Path) -> None:
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    config = {"base_model_name_or_path": "../elsewhere", "peft_type": "LORA"}
    base = folder(tmp_path / "base", "model.safetensors", config={}, adapter_config=config)
    adapter = folder(tmp_path / "adapter", "adapter_model.safetensors", adapter_config=config)
    with pytest.raises(Unloadable, match="is an adapter itself"):
        plan(adapter, base)
    (base / "adapter_config.json").unlink()
    assert plan(adapter, base).weights == base
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "megatron_config": {"x": 1}}))
    with pytest.raises(Unloadable, match="Megatron"):
        plan(adapter, base)


def modules(tmp_path: Path, *kinds: str, **pooling: Any) -> Path:
    steps = [{"type": f"sentence_transformers.models.{k}", "path": k.lower()} for k in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    (tmp_path / "pooling").mkdir()
    (tmp_path / "pooling" / "config.json").write_text(json.dumps(pooling))
    return tmp_path


def test_pooling_is_what_the_model_says(tmp_path: Path) -> None:
    found = read(modules(tmp_path, "Transformer", "Pooling", "Normalize", pooling_mode_cls_token=True))
    assert (found.kinds, found.normalise) == (("cls",), True)


def test_joined_pooling_keeps_the_order_of_sentence_transformers(tmp_path: Path) -> None:
    pooling = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}
    assert read(modules(tmp_path, "Transformer", "Pooling", **pooling)).kinds == ("cls", "mean")


@pytest.mark.parametrize("kinds", [("Transformer", "Pooling", "Dense"), ("Transformer",)])
def test_a_step_that_would_be_left_out_is_refused(kinds: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match=r"modules\.json"):
        read(modules(tmp_path, *kinds, pooling_mode_mean_tokens=True))


def test_without_files_the_mean_is_taken_and_said(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.kinds == ("mean",) and not found.normalise and "names no pooling" in found.description


def test_each_kind_of_pooling_leaves_padding_out() -> None:
    torch = pytest.importorskip("torch")
    vectors = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])
    wanted = {
        "cls": [1, 4],
        "max": [3, 4],
        "mean": [2, 3],
        "mean_sqrt_len": [4 / 2**0.5, 6 / 2**0.5],
        "weightedmean": [7 / 3, 8 / 3],
        "lasttoken": [3, 2],
    }
    for kind, expected in wanted.items():
        assert Pooling((kind,), False, "")(vectors, mask).tolist()[0] == pytest.approx(expected), kind
