"""What a user would lose: a run with settings that cannot work, found out an hour later."""

import itertools
import math

import pytest

from ecotone.tuning.recipes import Recipe, learning_rate_at, steps
from ecotone.vocabulary import Invalid


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "full"),
        ("epochs", 0),
        ("epochs", 100_000),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_settings_that_cannot_work_are_named(field: str, value: object) -> None:
    with pytest.raises(Invalid) as caught:
        Recipe(**{field: value})
    assert caught.value.param == field


def test_same_recipe_same_hash() -> None:
    assert Recipe(seed=1).sha256 == Recipe(seed=1).sha256 != Recipe(seed=2).sha256


def test_learning_rate_warms_up_and_decays_in_a_line() -> None:
    recipe = Recipe(learning_rate=1.0, epochs=10, batch_size=1, warmup_share=0.1)
    total = steps(recipe, 10)
    rates = [learning_rate_at(recipe, step, total) for step in range(total)]
    assert total == 100
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert 0 < rates[-1] < 0.02


def test_one_step_is_enough() -> None:
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=0.5)
    assert steps(recipe, 1) == 1
    assert learning_rate_at(recipe, 0, 1) == 0.5
