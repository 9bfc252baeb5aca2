"""What comes after a token never changes what was computed at it: in every stepper, however a prompt is cut."""

import copy
import importlib
from types import ModuleType
from typing import Any

import pytest

KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("Llama", {}, "Batched"),
    "mistral with a window": ("Mistral", {"sliding_window": 16}, "Batched"),
    "qwen2 with some windows": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        "Batched",
    ),
    "gemma": ("Gemma", {"head_dim": 12}, "Alone"),
    "qwen3 with some windows": (
        "Qwen3",
        {"head_dim": 12, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        "Alone",
    ),
}
LONG = 90


@pytest.fixture(scope="module")
def small() -> ModuleType:
    pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
    return importlib.import_module("tests.engines.stepping")


def stepper_of(model: Any, small: ModuleType, name: str, **options: Any) -> Any:
    """A stepper over a copy, so that the model stays what it is compared with."""
    from ecotone.engines.server.stepping.choosing import stepper_for

    found = stepper_for(small.loaded(copy.deepcopy(model)), options)
    assert type(found).__name__ == name
    return found


def read(stepper: Any, prompt: list[int], budget: int) -> tuple[Any, Any]:
    """An opened row and the logits after its prompt, read in stretches of at most `budget` tokens."""
    row = stepper.open(prompt)
    for _ in range(len(prompt) + 1):
        for done, logits in stepper.fill(budget):
            assert done is row
            return row, logits
    raise AssertionError("the prompt is never read to its end")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [512, 7, 1])
def test_a_prompt_read_at_once_or_in_stretches_is_what_its_tokens_one_by_one_are(
    kind: str, budget: int, small: ModuleType
) -> None:
    """A forward that looks ahead (transformers #48296) differs from one that has nothing ahead of it."""
    import torch

    family, more, name = KINDS[kind]
    stepper = stepper_of(small.made(family, **more), small, name)
    prompt = small.texts(1, shortest=LONG, longest=LONG + 1)[0]
    with torch.inference_mode():
        wanted, growing = [], None
        for place, token in enumerate(prompt):
            if growing is None:
                growing, logits = read(stepper, [token], 1)
            else:
                logits = stepper.step([growing], [token])[0]
            wanted.append(logits)
            if place % 30 == 29:
                _, found = read(stepper, prompt[: place + 1], budget)
                torch.testing.assert_close(found, logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_a_texts_beginning_do_not_depend_on_its_end(kind: str, small: ModuleType) -> None:
    import torch

    from ecotone.engines.server.causal_vectors import CausalVectors
    from ecotone.engines.server.pooling import Pooling

    family, more, _ = KINDS[kind]
    model = small.made(family, **more)
    loaded = small.loaded(copy.deepcopy(model))
    from ecotone.engines.server.stepping.choosing import stepper_for

    vectors = CausalVectors(loaded, stepper_for(loaded, {}), Pooling(("cls",), False, ""))  # the first token's state
    text = small.texts(1, shortest=LONG, longest=LONG + 1)[0]
    with torch.inference_mode():
        first = vectors(text[:1])
        for changed in (text, text[:1] + text[:0:-1], text[:20]):
            assert vectors(changed) == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_after_and_between_embeddings_of_the_same_model_are_transformers_own(
    kind: str, small: ModuleType
) -> None:
    """The other path over the same weights leaves nothing behind that makes an answer look ahead."""
    import torch

    family, more, name = KINDS[kind]
    model = small.made(family, **more)
    stepper = stepper_of(model, small, name)
    prompts = small.texts(3, shortest=20, longest=60)
    written = [list(prompt) for prompt in prompts]
    with torch.inference_mode():
        rows = []
        for prompt in prompts:
            stepper.states(prompt[::-1])
            row, logits = read(stepper, prompt, 16)
            torch.testing.assert_close(logits, small.forward(model, prompt), atol=1e-4, rtol=0)
            rows.append(row)
        for turn in range(3):
            stepper.states(prompts[turn])
            logits = stepper.step(rows, [5 + turn] * 3)
            for tokens, found in zip(written, logits, strict=True):
                tokens.append(5 + turn)
                torch.testing.assert_close(found, small.forward(model, tokens), atol=1e-4, rtol=0)


def test_a_t5_writes_without_looking_ahead_and_reads_with_it(small: ModuleType) -> None:
    """Its decoder is causal; its encoder is not, and one made causal by mistake would answer otherwise."""
    import torch

    from tests.engines.test_text_to_text import alone, made

    model = made()
    stepper = stepper_of(model, small, "TextToText")
    prompt = small.texts(1, shortest=30, longest=31)[0]
    other = [*prompt[:-1], prompt[-1] % 90 + 3]
    with torch.inference_mode():
        row, first = read(stepper, prompt, 4)
        _, changed = read(stepper, other, 4)
        assert (first - changed).abs().max() > 1e-3, "the encoder does not see its prompt's end"
        logits, made_so_far = [first], []
        for token in alone(model, prompt, 12):
            made_so_far.append(token)
            logits.append(stepper.step([row], [token])[0])
        whole = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *made_so_far]])).logits[0]
    for found, wanted in zip(logits, whole, strict=True):
        torch.testing.assert_close(found, wanted.float(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["mistral with a window", "qwen3 with some windows"])
def test_a_model_served_one_by_one_keeps_its_window_as_well(kind: str, small: ModuleType) -> None:
    """A cache made without the model's configuration forgets the window (transformers' `DynamicCache`)."""
    from ecotone.engines.server.stepping.alone import Alone

    family, more, _ = KINDS[kind]
    model = small.made(family, **more)
    writer = small.Greedy(Alone(small.loaded(copy.deepcopy(model))))
    prompts = small.texts(3, shortest=12, longest=50)
    rows = [writer.begin(prompt, 24) for prompt in prompts]
    writer.all()
    assert [writer.made[row] for row in rows] == [small.alone(model, prompt, 24) for prompt in prompts]


@pytest.mark.parametrize("name", ["Batched", "Alone", "TextToText"])
def test_a_budget_below_a_prompts_length_never_stops_the_reading(name: str, small: ModuleType) -> None:
    """text-embeddings-inference #723: an endless loop when the budget is smaller than one input."""
    import torch

    from tests.engines.test_text_to_text import made

    kinds = {"Batched": ("Llama", {}), "Alone": ("Gemma", {"head_dim": 12})}
    model = made() if name == "TextToText" else small.made(kinds[name][0], **kinds[name][1])
    stepper = stepper_of(model, small, name, slots=4)
    prompts = small.texts(4, shortest=30, longest=60)
    with torch.inference_mode():
        rows = [stepper.open(prompt) for prompt in prompts]
        read_to_the_end = []
        for _ in range(sum(map(len, prompts))):
            read_to_the_end += [row for row, _ in stepper.fill(1)]
    assert read_to_the_end == rows and stepper.filling == 0
