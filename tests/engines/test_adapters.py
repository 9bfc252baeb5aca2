"""Adapters on one base: each row gets its own, as if it were merged, whoever comes and goes beside it."""

import copy
import importlib
import json
import random
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "all": {"r": 4, "lora_alpha": 8, "target_modules": ALL},
    "attention": {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"]},
    "stabilised": {"r": 9, "lora_alpha": 6, "target_modules": ["k_proj", "up_proj", "o_proj"], "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ALL,
        "rank_pattern": {"layers.1.self_attn.q_proj": 7, "down_proj": 2},
        "alpha_pattern": {".*up_proj": 2, "layers.0.self_attn.v_proj": 16},
    },
    "one layer": {"r": 3, "lora_alpha": 3, "target_modules": ["down_proj"], "layers_to_transform": [1]},
}


@pytest.fixture(scope="module")
def small() -> ModuleType:
    pytest.importorskip("peft", reason="needs the engine extra (torch, transformers, peft)")
    return importlib.import_module("tests.engines.stepping")


@pytest.fixture(scope="module")
def base(small: ModuleType) -> Any:
    return small.made("Llama")


@pytest.fixture(scope="module")
def folders(base: Any, small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {kind: adapter(base, root / kind, seed=place, **more) for place, (kind, more) in enumerate(KINDS.items())}


def adapter(base: Any, folder: Path, *, seed: int = 0, **more: Any) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    made = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **more))
    made.save_pretrained(folder)
    return folder


def merged(base: Any, folder: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(copy.deepcopy(base), folder).merge_and_unload(safe_merge=True)


def served(model: Any, small: ModuleType) -> Any:
    from ecotone.engines.server.stepping.choosing import stepper_for

    return stepper_for(small.loaded(copy.deepcopy(model)), {})


def test_each_row_is_computed_as_if_its_adapter_were_merged(
    base: Any, folders: dict[str, Path], small: ModuleType
) -> None:
    import torch

    stepper = served(base, small)
    models: dict[str | None, Any] = {None: base}
    for kind, folder in folders.items():
        stepper.adapters.add(kind, folder)
        models[kind] = merged(base, folder)
    prompts = small.texts(12)
    names = [list(models)[place % 6] for place in range(12)]
    with torch.inference_mode():
        rows = [stepper.open(prompt, name) for prompt, name in zip(prompts, names, strict=True)]
        while stepper.filling:
            for row, logits in stepper.fill(60):
                torch.testing.assert_close(logits, small.forward(models[row.adapter], row.prompt), atol=1e-4, rtol=0)
        for chosen in (rows, rows[:1], rows[1:2], rows[1::6], rows[4:9]):  # mixed, base only, one, one shared, some
            fresh = [stepper.open([*row.prompt, 5], row.adapter) for row in chosen]
            found = dict(stepper.fill(1000))
            after = stepper.step(fresh, [6] * len(fresh))
            for row, logits in zip(fresh, after, strict=True):
                wanted = small.forward(models[row.adapter], row.prompt)
                torch.testing.assert_close(found[row], wanted, atol=1e-4, rtol=0)
                wanted = small.forward(models[row.adapter], [*row.prompt, 6])
                torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)
                stepper.close(row)
    assert {a.running for a in stepper.adapters.listed()} == {2}
    with torch.inference_mode():
        for row in rows:
            stepper.close(row)
    assert {a.running for a in stepper.adapters.listed()} == {0}


def test_greedy_text_of_a_trained_adapter_is_that_of_the_merged_model(shared: Path, small: ModuleType) -> None:
    import transformers

    models = shared / "data" / "models"
    base = transformers.AutoModelForCausalLM.from_pretrained(models / "llama-atlas").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(models / "llama-atlas")
    brief = merged(base, models / "llama-atlas-brief")
    writer = small.Greedy(served(base, small))
    writer.stepper.adapters.add("brief", models / "llama-atlas-brief")
    rows = {}
    for place, country in enumerate(("France", "Peru", "Japan", "Kenya", "Norway", "India", "Chile", "Egypt")):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": f"What is the capital of {country}?"}],
            add_generation_prompt=True,
            return_dict=False,
        )
        rows[writer.begin(prompt, 10, "brief" if place % 2 else None)] = brief if place % 2 else base
    writer.all()
    for row, model in rows.items():
        assert writer.made[row] == small.alone(model, row.prompt, 10)


def test_nobody_gets_anothers_adapter_while_adapters_come_and_go(
    base: Any, small: ModuleType, tmp_path: Path, until: Callable[..., None]
) -> None:
    """Adapters are added and removed all the time, under names that come back with other weights."""
    writer = small.Greedy(served(base, small))
    adapters = writer.stepper.adapters
    made = [adapter(base, tmp_path / str(i), seed=i, r=2 + i, target_modules=ALL[i % 3 :]) for i in range(6)]
    solo = [merged(base, folder) for folder in made]
    prompts = small.texts(40, longest=20)
    there: dict[str, int] = {}
    rows: dict[Any, tuple[int | None, list[int]]] = {}
    chance = random.Random(3)
    ended = threading.Event()

    def churn() -> None:  # names that no row uses, beside the ones below
        turn = 0
        while not ended.is_set():
            adapters.add(f"spare{turn % 3}", made[turn % 6])
            adapters.remove(f"spare{turn % 3}")
            turn += 1
            ended.wait(0.005)

    other = threading.Thread(target=churn)
    other.start()
    try:
        for prompt in prompts:
            name = f"name{chance.randrange(3)}"
            if name in there and chance.random() < 0.7:
                adapters.remove(name)  # rows that have it are still being written
                del there[name]
            if name not in there:
                there[name] = chance.randrange(6)
                adapters.add(name, made[there[name]])
            used = chance.choice([None, *there])
            rows[writer.begin(prompt, 40, used)] = (None if used is None else there[used], prompt)
            for _ in range(2):
                writer.turn()
        writer.all()
    finally:
        ended.set()
        other.join()
    assert len({place for place, _ in rows.values()}) > 4
    for row, (place, prompt) in rows.items():
        model = base if place is None else solo[place]
        assert writer.made[row] == small.likeliest(model, prompt, writer.made[row]) and len(writer.made[row]) == 40
    assert all(found.running == 0 for found in adapters.listed())


def test_an_adapter_that_was_removed_is_not_answered_by_the_base(
    base: Any, folders: dict[str, Path], small: ModuleType
) -> None:
    from ecotone.engines.server.errors import RequestError

    stepper = served(base, small)
    stepper.adapters.add("it", folders["all"])
    row = stepper.open([3, 4], "it")
    removed = stepper.adapters.remove("it")
    assert removed.running == 1
    with pytest.raises(RequestError) as refused:
        stepper.open([3, 4], "it")
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")
    stepper.close(row)
    assert removed.running == 0
    assert stepper.adapters.remove("it") is None


def test_a_model_served_one_by_one_refuses_adapters(small: ModuleType) -> None:
    from ecotone.engines.server.errors import RequestError

    stepper = served(small.made("Qwen3", head_dim=12), small)
    assert stepper.adapters is None
    with pytest.raises(RequestError) as refused:
        stepper.open([3, 4], "it")
    assert refused.value.status == 404


def test_one_name_loaded_by_many_at_once_is_one_adapter(base: Any, folders: dict[str, Path], small: ModuleType) -> None:
    from ecotone.engines.server.errors import Unloadable

    adapters = served(base, small).adapters
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: adapters.add("it", folders["all"]), range(24)))
    assert len(set(map(id, found))) == 1
    with pytest.raises(Unloadable, match="from another folder"):
        adapters.add("it", folders["attention"])


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "use_dora"),
    "saved modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "token indices": ({"trainable_token_indices": [3]}, "trainable_token_indices"),
    "bias": ({"bias": "lora_only"}, "bias"),
    "bias of its own": ({"lora_bias": True}, "lora_bias"),
    "another base": ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    "doubled layers": ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
    "unheard of": ({"use_something_new": True}, "use_something_new"),
    "another kind": ({"peft_type": "IA3"}, "IA3"),
    "another rank": ({"r": 5}, "has rank 4"),
    "no rank at all": ({"r": "many"}, "has rank 4"),
    "strange alpha": ({"lora_alpha": "inf"}, "lora_alpha"),
    "endless pattern": ({"rank_pattern": {"(a+)+b": 4}}, "rank_pattern"),
    "broken pattern": ({"rank_pattern": {"(": 4}}, "pattern"),
    "fewer targets": ({"target_modules": ["q_proj"]}, "do not name"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_would_be_left_out_in_silence_is_refused(
    fault: str, base: Any, folders: dict[str, Path], small: ModuleType, tmp_path: Path
) -> None:
    changes, said = BROKEN[fault]
    folder = shutil.copytree(folders["all"], tmp_path / "it")
    config = json.loads((folder / "adapter_config.json").read_bytes())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    _refused(served(base, small), folder, said, small)


@pytest.mark.parametrize("fault", ["cut", "half", "lacking", "foreign", "wide", "nan", "absent", "empty"])
def test_a_bad_file_is_refused_when_it_is_loaded_and_the_engine_goes_on(
    fault: str, base: Any, folders: dict[str, Path], small: ModuleType, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["all"], tmp_path / "it")
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    said = "q_proj"
    if fault == "half":
        del tensors[first]
    elif fault == "lacking":
        tensors = {key: tensor for key, tensor in tensors.items() if "layers.2.mlp.down_proj" not in key}
        said = "lacks the weights of down_proj in layer 2"
    elif fault == "foreign":
        tensors["base_model.model.lm_head.lora_A.weight"] = tensors[first].clone()
        said = "lm_head"
    elif fault == "wide":
        tensors[first] = tensors[first].repeat(1, 2)
    elif fault == "nan":
        tensors[first][0, 0] = float("nan")
    elif fault == "empty":
        tensors, said = {}, "no tensor"
    save_file(tensors, path)
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:-40])
        said = "cannot be read"
    elif fault == "absent":
        shutil.rmtree(folder)
        said = "no adapter_config.json"
    _refused(served(base, small), folder, said, small)


def _refused(stepper: Any, folder: Path, said: str, small: ModuleType) -> None:
    from ecotone.engines.server.errors import Unloadable

    writer = small.Greedy(stepper)
    row = writer.begin(small.texts(1)[0], 6)
    writer.turn()
    with pytest.raises(Unloadable, match=said):
        stepper.adapters.add("it", folder)
    assert stepper.adapters.listed() == []
    assert "it" not in stepper.adapters
    writer.all()
    assert len(writer.made[row]) == 6
