"""A T5's answers computed together are those that each would get alone, whatever their company."""

import copy
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SHAPES: dict[str, dict[str, Any]] = {
    "relu": {"feed_forward_proj": "relu"},
    "gated, logits not scaled": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "deeper decoder": {"num_decoder_layers": 3, "layer_norm_epsilon": 0.1},
    "near and far": {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
}


@pytest.fixture(scope="module")
def small() -> ModuleType:
    pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
    return importlib.import_module("tests.engines.stepping")


def made(**more: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(7)
    config = transformers.T5Config(
        **{"vocab_size": 97, "d_model": 48, "d_kv": 12, "d_ff": 80, "num_layers": 2, "num_heads": 4} | more,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("layer_norm.weight"):
            weight.data.uniform_(0.5, 1.5)
        elif "relative" not in name and "shared" not in name:
            weight.data.normal_(std=0.12)
        else:
            weight.data.normal_(std=0.4)
    return model


def forward(model: Any, prompt: list[int], written: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        out = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *written]]))
        return out.logits[0, -1].float()


def alone(model: Any, prompt: list[int], new: int) -> list[int]:
    import torch

    with torch.inference_mode():
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=new, min_new_tokens=new, do_sample=False, eos_token_id=None
        )
    found: list[int] = out[0, 1:].tolist()
    return found


def stepper_of(model: Any, small: ModuleType, slots: int = 32) -> Any:
    """A stepper over a copy, so that the model stays what it is compared with."""
    from ecotone.engines.server.stepping.choosing import stepper_for
    from ecotone.engines.server.stepping.text_to_text import TextToText

    stepper = stepper_for(small.loaded(copy.deepcopy(model)), {"slots": slots})
    assert isinstance(stepper, TextToText)
    return stepper


def assert_near(found: Any, wanted: Any) -> None:
    """Within 1e-4, or within that share of the logits' spread where they are large: float32 has no more digits."""
    import torch

    torch.testing.assert_close(found, wanted, atol=1e-4 * max(1.0, float(wanted.std())), rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape: str, small: ModuleType) -> None:
    import torch

    model = made(**SHAPES[shape])
    stepper = stepper_of(model, small)
    prompts = small.texts(5) + small.texts(2, shortest=90, longest=91)  # all lengths but two differ
    written: list[list[int]] = [[] for _ in prompts]
    with torch.inference_mode():
        rows = {stepper.open(prompt): place for place, prompt in enumerate(prompts)}
        while stepper.filling:
            for row, logits in stepper.fill(100):
                assert_near(logits, forward(model, prompts[rows[row]], []))
        for turn in range(30):
            chosen = list(rows) if turn % 3 else list(rows)[1::2]  # not all of them every time, in another order
            chosen.reverse()
            tokens = [2 + (rows[row] * 7 + turn) % 90 for row in chosen]
            logits = stepper.step(chosen, tokens)
            assert logits.dtype == torch.float32
            for row, token, found in zip(chosen, tokens, logits, strict=True):
                written[rows[row]].append(token)
                wanted = forward(model, prompts[rows[row]], written[rows[row]])
                assert_near(found, wanted)


def test_half_precision_answers_close_to_transformers(small: ModuleType) -> None:
    import torch

    model = made(feed_forward_proj="gated-gelu").to(torch.bfloat16)
    for name, module in model.named_modules():
        if name.endswith(".wo"):
            module.float()  # as transformers loads it
    stepper = stepper_of(model, small)
    prompt = small.texts(1)[0]
    exact = copy.deepcopy(model).float()
    with torch.inference_mode():
        row = stepper.open(prompt)
        ((_, first),) = stepper.fill(100)
        second = stepper.step([row], [5])[0]
    for found, written in ((first, []), (second, [5])):
        wanted = forward(exact, prompt, written)
        theirs = (forward(model, prompt, written) - wanted).abs().max()
        assert (found - wanted).abs().max() <= 2 * theirs + 0.02


@pytest.fixture(scope="module")
def atlas(shared: Path) -> tuple[Any, list[list[int]]]:
    import transformers

    folder = shared / "data" / "models" / "t5-atlas"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    countries = ("France", "Peru", "Japan", "Kenya", "Norway", "India", "Chile", "Egypt", "Burundi")
    asked = [f"question: What is the {what} of {c}?" for c in countries for what in ("capital", "currency")]
    asked += [f"question: On which continent is {c}?" for c in countries]
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval().requires_grad_(False)
    return model, [tokenizer(text)["input_ids"] for text in asked]


@pytest.mark.parametrize("together", [1, 8, 32])
def test_greedy_text_is_that_of_generate_alone(
    together: int, atlas: tuple[Any, list[list[int]]], small: ModuleType
) -> None:
    """Answers arrive one after another, some are given up on the way, and their places are used again."""
    model, prompts = atlas
    writer = small.Greedy(stepper_of(model, small, slots=together), budget=48)
    for row, place in writer.staggered(prompts, together, 0.3).items():
        assert writer.made[row] == alone(model, prompts[place], 12)


def test_memory_of_a_long_prompt_is_given_back(small: ModuleType) -> None:
    stepper = stepper_of(made(), small, slots=1)
    writer = small.Greedy(stepper)
    writer.begin(small.texts(1, shortest=250, longest=251)[0], 2)
    writer.all()
    assert stepper._asked.count == 0


def test_an_adapter_is_refused_and_never_left_out_in_silence(small: ModuleType) -> None:
    from ecotone.engines.server.errors import RequestError

    with pytest.raises(RequestError, match="team/lora"):
        stepper_of(made(), small).open([3, 4], "team/lora@1")
