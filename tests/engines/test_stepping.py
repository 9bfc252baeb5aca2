"""Answers computed together are those that each would get alone, whatever their company."""

import copy
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TRAINED = ("llama-atlas", "mistral-atlas")
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "tied": ("Llama", {"tie_word_embeddings": True}),
    "every head its own": ("Llama", {"num_key_value_heads": 4}),
    "wide heads": ("Llama", {"head_dim": 20}),
    "coarse epsilon": ("Llama", {"rms_norm_eps": 0.1}),
    "llama3 rope": ("Llama", {"rope_parameters": LLAMA3}),
    "yarn rope": ("Llama", {"rope_parameters": YARN}),
    "linear rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "mistral": ("Mistral", {"sliding_window": 16}),
    "mistral without a window": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen2 with some windows": ("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
}


@pytest.fixture(scope="module")
def small() -> ModuleType:
    pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
    return importlib.import_module("tests.engines.stepping")


@pytest.fixture(scope="module")
def trained(shared: Path) -> dict[str, Any]:
    import transformers

    models = shared / "data" / "models"
    found: dict[str, Any] = {"questions": (models / "README.md").read_text()}
    for name in TRAINED:
        model = transformers.AutoModelForCausalLM.from_pretrained(models / name).eval().requires_grad_(False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(models / name)
        countries = ("France", "Peru", "Japan", "Kenya", "Norway", "India", "Chile", "Egypt")
        asked = [f"What is the {what} of {c}?" for c in countries for what in ("capital", "currency")]
        asked += [f"On which continent is {c}?" for c in countries]
        found[name] = (
            model,
            [
                tokenizer.apply_chat_template(
                    [{"role": "system", "content": "Be brief."}] * (place % 3 == 0)
                    + [{"role": "user", "content": text}],
                    add_generation_prompt=True,
                    return_dict=False,
                )
                for place, text in enumerate(asked)
            ],
        )
    return found


def batched(model: Any, small: ModuleType, slots: int = 32) -> Any:
    """A stepper over a copy, so that the model stays what it is compared with."""
    from ecotone.engines.server.stepping.batched import Batched
    from ecotone.engines.server.stepping.choosing import stepper_for

    stepper = stepper_for(small.loaded(copy.deepcopy(model), model.config.max_position_embeddings), {"slots": slots})
    assert isinstance(stepper, Batched)
    return stepper


@pytest.mark.parametrize("numba", [True, False], ids=["numba", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(
    shape: str, numba: bool, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if not numba:
        small.without_numba(monkeypatch)
    kind, more = SHAPES[shape]
    model = small.made(kind, **more)
    stepper = batched(model, small)
    assert (stepper._fused is not None) == numba, "the engine extra brings numba"
    prompts = small.texts(5) + small.texts(2, shortest=90, longest=91)
    written = dict(zip(range(7), [list(p) for p in prompts], strict=True))
    with torch.inference_mode():
        rows = {stepper.open(prompt): place for place, prompt in enumerate(prompts)}
        while stepper.filling:
            for row, logits in stepper.fill(50):
                torch.testing.assert_close(logits, small.forward(model, row.prompt), atol=1e-4, rtol=0)
        for turn in range(4):
            chosen = list(rows) if turn else list(rows)[1::2]  # not all of them every time, and in another order
            chosen.reverse()
            tokens = [2 + (rows[row] * 7 + turn) % 90 for row in chosen]
            logits = stepper.step(chosen, tokens)
            assert logits.dtype == torch.float32
            for row, token, found in zip(chosen, tokens, logits, strict=True):
                written[rows[row]].append(token)
                torch.testing.assert_close(found, small.forward(model, written[rows[row]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", ["llama", "mistral"])
def test_hidden_states_are_those_of_transformers_also_while_every_place_is_taken(shape: str, small: ModuleType) -> None:
    import torch

    kind, more = SHAPES[shape]
    model = small.made(kind, **more | {"max_position_embeddings": 1024})
    stepper = batched(model, small, slots=2)
    writer = small.Greedy(stepper)
    rows = [writer.begin(prompt, 8) for prompt in small.texts(2)]
    writer.turn()
    for text in small.texts(1) + small.texts(1, shortest=700, longest=701):
        with torch.inference_mode():
            found = stepper.states(text)
            wanted = model.model(torch.tensor([text])).last_hidden_state[0]
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    writer.all()
    for row in rows:
        assert writer.made[row] == small.alone(model, row.prompt, 8)


def test_a_model_goes_on_working_after_its_weights_were_joined(small: ModuleType) -> None:
    import torch

    model = small.made("Llama", attention_bias=True)
    given = copy.deepcopy(model)
    from ecotone.engines.server.stepping.choosing import stepper_for

    stepper_for(small.loaded(given), {})
    prompt = small.texts(1)[0]
    torch.testing.assert_close(small.forward(given, prompt), small.forward(model, prompt), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["Llama", "Mistral"])
def test_half_precision_answers_close_to_transformers(kind: str, small: ModuleType) -> None:
    import torch

    model = small.made(kind, initializer_range=0.1).to(torch.bfloat16)
    stepper = batched(model, small)
    prompt = small.texts(1)[0]
    with torch.inference_mode():
        row = stepper.open(prompt)
        ((_, first),) = stepper.fill(100)
        second = stepper.step([row], [5])[0]
    exact = copy.deepcopy(model).float()
    for found, tokens in ((first, prompt), (second, [*prompt, 5])):
        wanted = small.forward(exact, tokens)
        theirs = (small.forward(model, tokens) - wanted).abs().max()
        assert found.dtype == torch.float32
        assert (found - wanted).abs().max() <= 2 * theirs + 0.02


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("together", [1, 8, 32])
def test_greedy_text_is_that_of_generate_alone(
    name: str, together: int, trained: dict[str, Any], small: ModuleType
) -> None:
    """Answers arrive one after another, some are given up on the way, and their places are used again."""
    model, prompts = trained[name]
    writer = small.Greedy(batched(model, small, slots=together), budget=48)
    for row, place in writer.staggered(prompts, together, 0.2).items():
        assert writer.made[row] == small.alone(model, prompts[place], 12)


@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_a_window_crossed_by_long_answers_is_that_of_transformers(
    apart: bool, trained: dict[str, Any], small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where answers of different lengths are worth computing apart, as those of larger models are."""
    from ecotone.engines.server.stepping import attending

    monkeypatch.setattr(attending, "_CUT", 0 if apart else 1 << 40)
    model, prompts = trained["mistral-atlas"]
    assert model.config.sliding_window == 128
    long = [token for prompt in prompts for token in prompt]
    asked = [long[:200], long[40:165], long[30:60], long[7:134]]
    writer = small.Greedy(batched(model, small), budget=48)
    rows = [writer.begin(prompt, 40) for prompt in asked]
    writer.all()
    for row, prompt in zip(rows, asked, strict=True):
        assert writer.made[row] == small.alone(model, prompt, 40)
    changed = copy.deepcopy(model)
    changed.config.sliding_window = None
    assert small.alone(changed, asked[0], 40) != writer.made[rows[0]]  # so the window is what the text depends on


@pytest.mark.parametrize(
    ("lengths", "saved", "wanted"),
    [
        ([100, 100, 10, 10], 150, [2, 2]),
        ([100, 100, 10, 10], 200, [4]),
        ([10, 100, 10, 50, 50], 20, [1, 1, 1, 2]),
        ([7, 7, 7], 0, [3]),
        ([5], 0, [1]),
    ],
)
def test_a_long_answer_does_not_make_its_neighbours_as_dear(lengths: list[int], saved: int, wanted: list[int]) -> None:
    pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
    from ecotone.engines.server.stepping.attending import apart

    bunches = apart(lengths, saved)
    assert [place for some in bunches for place in range(*some.indices(len(lengths)))] == list(range(len(lengths)))
    assert [some.stop - some.start for some in bunches] == wanted


def test_a_long_prompt_does_not_keep_the_others_waiting(small: ModuleType) -> None:
    model = small.made("Llama")
    writer = small.Greedy(batched(model, small), budget=16)
    short = writer.begin(small.texts(1)[0][:8], 30)
    writer.turn()
    long = writer.begin(small.texts(1, shortest=200, longest=201)[0], 3)
    for _ in range(10):
        before = len(writer.made[short])
        writer.turn()
        assert len(writer.made[short]) == before + 1
    assert writer.made[long] == []
    writer.all()
    assert writer.made[long] == small.alone(model, long.prompt, 3)


def test_few_numbers_of_rows_are_computed_as_each_costs_memory_for_ever(small: ModuleType) -> None:
    from ecotone.engines.server.stepping.linear import rounded

    assert all(count <= rounded(count) <= count * 4 / 3 for count in range(1, 2049))
    assert len({rounded(count) for count in range(1, 2049)}) <= 40


def test_memory_of_a_long_answer_is_given_back(small: ModuleType) -> None:
    stepper = batched(small.made("Llama"), small, slots=1)
    writer = small.Greedy(stepper)
    writer.begin(small.texts(1, shortest=200, longest=201)[0], 2)
    for _ in range(4):
        writer.turn()
    assert stepper._places.keys(0).shape[2] > 128
    writer.all()
    assert stepper._places.keys(0).numel() == 0


def test_answers_go_on_when_there_is_no_memory_for_another(small: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from ecotone.engines.server.stepping.places import Places

    model = small.made("Llama")
    stepper = batched(model, small)
    writer = small.Greedy(stepper)
    rows = [writer.begin(prompt, 12) for prompt in small.texts(2)]
    writer.turn()
    usual, made = Places._made, []

    def scarce(places: Places, count: int, length: int) -> Any:
        made.append(length)
        if len(made) == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return usual(places, count, length)

    with monkeypatch.context() as patched, torch.inference_mode():
        patched.setattr(Places, "_made", scarce)
        large = stepper.open(small.texts(1, shortest=200, longest=201)[0])
        with pytest.raises(RuntimeError, match="memory"):
            while stepper.filling:
                stepper.fill(64)
        stepper.close(large)
    writer.all()
    for row in rows:
        assert writer.made[row] == small.alone(model, row.prompt, 12)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Gemma", {"head_dim": 12}),
        ("Qwen3", {"head_dim": 12}),
        ("Llama", {"hidden_act": "gelu"}),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}),
    ],
)
def test_what_does_not_share_the_shape_is_served_one_by_one(kind: str, more: dict[str, Any], small: ModuleType) -> None:
    from ecotone.engines.server.stepping.alone import Alone
    from ecotone.engines.server.stepping.choosing import stepper_for

    model = small.made(kind, **more)
    stepper = stepper_for(small.loaded(model), {})
    assert isinstance(stepper, Alone)
    writer = small.Greedy(stepper)
    prompt = small.texts(1)[0]
    row = writer.begin(prompt, 5)
    writer.all()
    assert writer.made[row] == small.alone(model, prompt, 5)
