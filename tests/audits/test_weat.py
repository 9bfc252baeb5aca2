"""What a user would lose: an effect size or p-value that is not the one of the paper."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.audits import weat

A, B = [[1.0, 0.0]], [[0.0, 1.0]]


def test_association_is_the_difference_of_mean_cosines() -> None:
    words = [[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]]
    assert weat.associations(words, A, B).tolist() == pytest.approx([1.0, -1.0, 0.0, 0.0])


def test_effect_size_by_hand() -> None:
    x, y = np.array([3.0, 1.0]), np.array([-1.0, -3.0])
    # means 2 and -2; all four: mean 0, squares 9+1+1+9 = 20, over n - 1 = 3
    assert weat.effect_size(x, y) == pytest.approx(4 / math.sqrt(20 / 3))
    assert weat.effect_size(y, x) == pytest.approx(-4 / math.sqrt(20 / 3))


def test_no_spread_is_no_effect() -> None:
    assert weat.effect_size(np.ones(3), np.ones(3)) == 0.0


def test_exact_p_by_hand() -> None:
    # 6 splits of 4 words into pairs; sums of the first pair: 4, 2, 0, 0, -2, -4
    found = weat.permutation_test(np.array([3.0, 1.0]), np.array([-1.0, -3.0]), most=100, seed=1)
    assert (found.p_value, found.method, found.partitions) == (1 / 6, "exact", 6)
    other = weat.permutation_test(np.array([3.0, -3.0]), np.array([1.0, -1.0]), most=100, seed=1)
    assert other.p_value == 4 / 6  # ties count
    last = weat.permutation_test(np.array([-1.0, -3.0]), np.array([3.0, 1.0]), most=100, seed=1)
    assert last.p_value == 1.0


def test_sampled_p_is_near_the_exact_one_seeded_and_never_zero() -> None:
    draw = np.random.default_rng(5)
    x, y = draw.normal(0.5, 1, 9), draw.normal(0, 1, 9)
    exact = weat.permutation_test(x, y, most=10**6, seed=1)
    sampled = weat.permutation_test(x, y, most=20_000, seed=1)
    assert (exact.method, sampled.method) == ("exact", "sampled")
    assert exact.partitions == math.comb(18, 9)
    error = math.sqrt(exact.p_value * (1 - exact.p_value) / 20_000)
    assert abs(sampled.p_value - exact.p_value) < 4 * error
    assert sampled == weat.permutation_test(x, y, most=20_000, seed=1)
    assert sampled != weat.permutation_test(x, y, most=20_000, seed=2)
    apart = weat.permutation_test(np.arange(100.0, 140.0), np.arange(40.0), most=500, seed=1)
    assert apart.p_value == 1 / 500 == apart.least


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=5),
    st.lists(st.floats(-1, 1), min_size=2, max_size=5),
)
def test_bounds_and_brute_force(x: list[float], y: list[float]) -> None:
    first, second = np.array(x), np.array(y)
    assert -2 <= weat.effect_size(first, second) <= 2
    found = weat.permutation_test(first, second, most=1000, seed=0)
    both = x + y
    sums = [math.fsum(split) for split in itertools.combinations(both, len(x))]
    hits = sum(s >= math.fsum(x) - 1e-9 * max(1, sum(map(abs, both))) for s in sums)
    assert found.p_value == pytest.approx(hits / len(sums), abs=1.01 / len(sums))
    assert 0 < found.p_value <= 1


def test_interval_holds_the_effect_size_and_narrows_with_more_words() -> None:
    draw = np.random.default_rng(3)
    shift = np.zeros(20)
    shift[0] = 0.6

    def sets(count: int) -> list[np.ndarray]:
        return [sign * shift + draw.normal(size=(count, 20)) for sign in (1, -1, 2, -2)]

    widths = []
    for count in (8, 40):
        x, y, a, b = sets(count)
        low, high = weat.interval(x, y, a, b)
        size = weat.effect_size(weat.associations(x, a, b), weat.associations(y, a, b))
        assert -2 <= low <= size <= high <= 2
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_identical_words_have_no_interval_to_speak_of() -> None:
    same = np.ones((4, 3))
    assert weat.interval(same, same, same, same) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("freedom", "table"), [(4, 2.776), (5, 2.571), (7, 2.365), (10, 2.228), (20, 2.086), (60, 2.0), (10**6, 1.96)]
)
def test_student_quantiles_are_those_of_the_tables(freedom: float, table: float) -> None:
    assert weat.student_quantile(0.975, freedom) == pytest.approx(table, rel=2e-3)


def test_holm_by_hand() -> None:
    assert weat.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert weat.holm([0.5, 0.9]) == [1.0, 1.0]
    assert weat.holm([]) == []
