"""What a user would lose: a run that ends well with weights that are no numbers."""

import math
from pathlib import Path
from typing import Any

import pytest

from ecotone.tuning.masking import Encoder
from ecotone.tuning.recipes import Recipe

ROW = [{"role": "user", "content": "what is a ?"}, {"role": "assistant", "content": "a b ."}]


@pytest.fixture
def loaded(tiny: Path) -> tuple[Any, list[Any]]:
    from ecotone.tuning.lora_child import load

    model, tokenizer = load(tiny, "team/base")
    longer = [*ROW, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    return model, [Encoder(tokenizer, 64).encode(row) for row in (ROW, longer, ROW)]


def ignore(step: int, total: int, loss: float) -> None:
    pass


def test_loss_of_the_first_step_is_the_mean_over_the_batchs_trained_tokens(loaded: tuple[Any, list[Any]]) -> None:
    import torch

    from ecotone.tuning import training

    model, rows = loaded
    with torch.no_grad():
        summed = [
            float(model(input_ids=torch.tensor([i]), labels=torch.tensor([t])).loss) * sum(x != -100 for x in t[1:])
            for i, t in rows
        ]
    expected = sum(summed) / sum(sum(x != -100 for x in t[1:]) for _, t in rows)
    seen: list[float] = []
    recipe = Recipe(epochs=1, batch_size=3)
    training.train(training.add_lora(model, recipe), rows, recipe, lambda s, t, loss: seen.append(loss))
    assert seen == [pytest.approx(expected, rel=1e-5)]


def test_a_batch_in_pieces_gives_the_same_gradient(
    loaded: tuple[Any, list[Any]], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecotone.tuning import training
    from ecotone.tuning.lora_child import load

    recipe = Recipe(epochs=3, batch_size=3, learning_rate=1e-3)
    whole = training.train(training.add_lora(loaded[0], recipe), loaded[1], recipe, ignore)
    monkeypatch.setattr(training, "_LOGITS_BYTES", 1)
    pieces = training.train(training.add_lora(load(tiny, "team/base")[0], recipe), loaded[1], recipe, ignore)
    assert pieces.losses == pytest.approx(whole.losses, rel=1e-5)


def test_weights_that_are_no_numbers_stop_the_run(loaded: tuple[Any, list[Any]]) -> None:
    from ecotone.tuning import training

    model, rows = loaded
    model.lm_head.weight.data[3] = math.nan
    recipe = Recipe(epochs=1)
    with pytest.raises(training.Diverged, match="loss is nan before the first step"):
        training.train(training.add_lora(model, recipe), rows, recipe, ignore)


def test_a_run_that_ends_worse_than_it_began_fails_the_run(loaded: tuple[Any, list[Any]]) -> None:
    from ecotone.tuning import training

    good = Recipe(epochs=30, learning_rate=0.01)
    learned = training.add_lora(loaded[0], good)
    trained = training.train(learned, loaded[1], good, ignore)
    assert trained.after < 0.1 < trained.before
    wild = Recipe(epochs=1, learning_rate=1.0, batch_size=1)
    with pytest.raises(training.Diverged, match=r"lower the learning rate \(1\)"):
        training.train(training.add_lora(learned.merge_and_unload(), wild), loaded[1] * 4, wild, ignore)


def test_a_gradient_that_is_no_number_stops_the_run(loaded: tuple[Any, list[Any]]) -> None:
    from ecotone.tuning import training

    recipe = Recipe(epochs=2)
    model = training.add_lora(loaded[0], recipe)
    at = []

    def break_it(step: int, total: int, loss: float) -> None:
        at.append(step)
        next(p for p in model.parameters() if p.requires_grad).data[0] = math.inf

    with pytest.raises(training.Diverged, match="step 2 gave a loss of"):
        training.train(model, loaded[1], recipe, break_it)
    assert at == [1]


def test_an_adapter_alone_and_a_broken_folder_are_told_apart(tmp_path: Path) -> None:
    from ecotone.tuning.lora_child import CannotTune, load

    with pytest.raises(CannotTune, match="cannot be loaded"):
        load(tmp_path, "team/empty")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CannotTune, match="is an adapter itself"):
        load(tmp_path, "team/adapter")
