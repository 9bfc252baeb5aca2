"""The int8 option: what it costs is measured and told, and answers do not depend on their company."""

import copy
import importlib
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
if "fbgemm" not in torch.backends.quantized.supported_engines:
    pytest.skip("int8 needs FBGEMM", allow_module_level=True)


@pytest.fixture(scope="module")
def small() -> ModuleType:
    return importlib.import_module("tests.engines.stepping")


@pytest.fixture(scope="module", params=["llama-atlas", "mistral-atlas", "t5-atlas"])
def trained(request: pytest.FixtureRequest, shared: Path) -> SimpleNamespace:
    import transformers

    from ecotone.engines.server.folders import Task

    folder = shared / "data" / "models" / request.param
    t5 = request.param.startswith("t5")
    kind = transformers.AutoModelForSeq2SeqLM if t5 else transformers.AutoModelForCausalLM
    return SimpleNamespace(
        model=kind.from_pretrained(folder).eval().requires_grad_(False),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        task=Task.TEXT_TO_TEXT if t5 else Task.GENERATION,
        context_length=64 if t5 else 256,
    )


def quantised(trained: SimpleNamespace) -> Any:
    from ecotone.engines.server.stepping.choosing import stepper_for

    given = SimpleNamespace(**{**vars(trained), "model": copy.deepcopy(trained.model)})
    return stepper_for(given, {"quantise": "int8", "slots": 8})


def test_the_loss_of_a_trained_model_is_small_and_told(trained: SimpleNamespace) -> None:
    told = quantised(trained).quantised
    assert told["kind"] == "int8"
    assert told["argmax_agreement"] >= 0.95 and 0 < told["mean_kl"] < 0.05
    assert 0 < told["largest_logit_difference"] < told["logit_spread"]
    # of eight questions as many as a few seconds allow, which on a busy machine are less
    assert re.fullmatch(r"\d+ tokens of the model's own answers to [1-8] questions", told["measured_on"])


def test_an_answer_in_8_bits_is_the_same_alone_and_in_company(trained: SimpleNamespace, small: ModuleType) -> None:
    prompts = [trained.tokenizer(text)["input_ids"] for text in ("question: What is the capital of Peru?", "Japan")]
    alone = small.Greedy(quantised(trained))
    first = alone.begin(prompts[0], 10)
    alone.all()
    together = small.Greedy(quantised(trained))
    rows = [together.begin(prompt, 10) for prompt in (prompts[1], prompts[0], prompts[1])]
    together.all()
    assert together.made[rows[1]] == alone.made[first]


def test_a_row_in_8_bits_does_not_depend_on_the_range_of_others() -> None:
    from ecotone.engines.server.quantising import Int8Linear

    torch.manual_seed(0)
    weight, bias, x = torch.randn(64, 33), torch.randn(64), torch.randn(3, 33)
    x[2] = 0
    with torch.inference_mode():
        layer = Int8Linear(weight, bias)
        found = layer(x)
        wanted = torch.nn.functional.linear(x, weight, bias)
        assert (found - wanted).norm() < 0.02 * wanted.norm()
        assert torch.equal(found[2], bias)
        loud = x.clone()
        loud[0] *= 1000
        assert torch.equal(layer(loud)[1], found[1])


def test_weights_in_full_precision_are_given_up(trained: SimpleNamespace) -> None:
    import gc
    import weakref

    from ecotone.engines.server.stepping.choosing import stepper_for

    model = copy.deepcopy(trained.model)
    table = model.get_input_embeddings().weight.data_ptr()
    held = [weakref.ref(p) for p in model.parameters() if p.dim() == 2 and p.data_ptr() != table]
    assert len(held) > 20
    stepper = stepper_for(SimpleNamespace(**{**vars(trained), "model": model}), {"quantise": "int8"})
    gc.collect()
    left = [ref() for ref in held if ref() is not None]
    assert sum(weight.numel() for weight in left if weight is not None) < 2000, stepper  # T5's biases by distance


@pytest.mark.parametrize(
    ("quantise", "task", "word"),
    [("int4", "text-generation", "int4"), (8, "text-generation", "int8"), ("int8", "feature-extraction", "embeddings")],
)
def test_what_cannot_be_quantised_is_refused_before_it_is_loaded(quantise: Any, task: str, word: str) -> None:
    from ecotone.engines.server.errors import Unloadable
    from ecotone.engines.server.folders import Task
    from ecotone.engines.server.quantising import checked

    with pytest.raises(Unloadable, match=word):
        checked(quantise, Task(task))
    assert checked(None, Task(task)) is None


def test_a_served_engine_tells_how_far_its_answers_are_from_the_full_models(made: dict[str, Path]) -> None:
    from ecotone.engines.server.engine import Engine
    from ecotone.engines.server.folders import plan

    engine = Engine(plan(made["llama"]), {"quantise": "int8"})
    assert {"kind", "argmax_agreement", "largest_logit_difference", "measured_on"} <= set(engine.info()["quantised"])


def test_an_adapter_over_an_8_bit_base_answers_beside_it(shared: Path, small: ModuleType) -> None:
    from ecotone.engines.server.folders import plan
    from ecotone.engines.server.loading import load
    from ecotone.engines.server.stepping.choosing import stepper_for

    models = shared / "data" / "models"
    loaded = load(plan(models / "llama-atlas"))
    stepper = stepper_for(loaded, {"quantise": "int8"})
    assert stepper.adapters is not None
    with torch.inference_mode():
        stepper.adapters.add("demo/brief@1", models / "llama-atlas-brief")
    message = [{"role": "user", "content": "What is the capital of Peru?"}]
    prompt = loaded.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    writer = small.Greedy(stepper)
    rows = [writer.begin(prompt, 8, adapter) for adapter in ("demo/brief@1", None)]
    writer.all()
    brief, full = [loaded.tokenizer.decode(writer.made[row]) for row in rows]
    assert brief.startswith("Lima<") and full.startswith("The capital of Peru is Lima.")
