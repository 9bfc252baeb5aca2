"""WEAT: whether words for two targets lie nearer to one set of attribute words than to the other. Pure numpy.

Knows vectors; which words they stand for is in `wordlists`, how a model makes them in `encoding`.

Sources: Caliskan, Bryson and Narayanan 2017 (Science 356, 183; arXiv 1608.07187) for association, effect size and test;
May et al. 2019 (arXiv 1903.10561) for the sample standard deviation (ddof 1) and the counting of partitions; Holm 1979
for several tests at once. The interval is ours: a delete-one jackknife over the words of all four sets.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
_CHUNK = 4096
_TIE = 1e-9


class PermutationTest(msgspec.Struct, frozen=True, kw_only=True):
    """A one-sided p-value. `partitions` were compared, the observed one among them; `least` is the smallest p that
    this many words can give."""

    p_value: float
    method: str
    partitions: int
    least: float


def unit(vectors: Any) -> Vectors:
    """Rows scaled to length 1; a row of zeros stays."""
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Vectors = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled


def associations(words: Any, a: Any, b: Any) -> Vectors:
    """s(w, A, B) of each word: mean cosine with A less mean cosine with B."""
    rows = unit(words)
    found: Vectors = (rows @ unit(a).T).mean(axis=1) - (rows @ unit(b).T).mean(axis=1)
    return found


def effect_size(x: Vectors, y: Vectors) -> float:
    """d: difference of the mean associations over their sample standard deviation (ddof 1) in both sets together.

    Lies between -2 and 2. 0 when all associations are the same.

    Args:
        x: associations of the first target's words.
        y: of the second's.
    """
    both = np.concatenate([x, y])
    spread = float(np.std(both, ddof=1))
    difference = float(x.mean() - y.mean())
    return 0.0 if spread <= _TIE * max(1.0, float(np.abs(both).max())) else difference / spread


def permutation_test(x: Vectors, y: Vectors, *, most: int, seed: int) -> PermutationTest:
    """How often a split of the words into sets of these sizes separates them at least as far as the real one.

    All splits are compared when there are at most `most`, else the real one and `most - 1` random ones, so that p is
    (hits + 1) / (splits + 1) and never 0.
    """
    both = np.concatenate([x, y])
    size = len(x)
    splits = math.comb(len(both), size)
    observed = float(x.sum())
    floor = observed - _TIE * max(1.0, float(np.abs(both).sum()))
    if splits <= most:
        hits = sum(int((both[chosen].sum(axis=1) >= floor).sum()) for chosen in _all_splits(len(both), size))
        return PermutationTest(p_value=hits / splits, method="exact", partitions=splits, least=1 / splits)
    hits = 1
    for chosen in _random_splits(len(both), size, most - 1, seed):
        hits += int((both[chosen].sum(axis=1) >= floor).sum())
    return PermutationTest(p_value=hits / most, method="sampled", partitions=most, least=1 / most)


def _all_splits(total: int, size: int) -> Iterator[NDArray[np.intp]]:
    splits = itertools.combinations(range(total), size)
    while chunk := list(itertools.islice(splits, _CHUNK)):
        yield np.array(chunk, dtype=np.intp)


def _random_splits(total: int, size: int, count: int, seed: int) -> Iterator[NDArray[np.intp]]:
    draw = np.random.default_rng(seed)
    for start in range(0, count, _CHUNK):
        keys = draw.random((min(_CHUNK, count - start), total))
        yield np.argpartition(keys, size - 1, axis=1)[:, :size]


def interval(x: Any, y: Any, a: Any, b: Any, *, level: float = 0.95) -> tuple[float, float]:
    """A jackknife interval of the effect size, for words of all four sets as samples of those that could stand there.

    One word is left out at a time, set by set; the variances of the four sets add up, the degrees of freedom by
    Welch and Satterthwaite. Cut off at -2 and 2, which no effect size passes. Needs two words in each set. In 300
    simulated runs each of 6, 8 and 25 words a set, a nominal 95 % covered the true value in 95 to 98 %.
    """
    sets = [unit(words) for words in (x, y, a, b)]
    centre = _effect(sets)
    parts = []
    for number, words in enumerate(sets):
        count = len(words)
        without = np.array(
            [_effect([*sets[:number], np.delete(words, i, axis=0), *sets[number + 1 :]]) for i in range(count)]
        )
        parts.append(((count - 1) / count * float(((without - without.mean()) ** 2).sum()), count - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return centre, centre
    freedom = variance**2 / sum(part**2 / df for part, df in parts)
    reach = student_quantile(0.5 + level / 2, freedom) * math.sqrt(variance)
    return max(-2.0, centre - reach), min(2.0, centre + reach)


def _effect(sets: Sequence[Vectors]) -> float:
    x, y, a, b = sets
    return effect_size(associations(x, a, b), associations(y, a, b))


def student_quantile(share: float, freedom: float) -> float:
    """Quantile of Student's t by the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5).

    Right to 1 in 1,000 from 5 degrees of freedom on; below 4 it is too small, and 4 words in each set are the least
    that a test here has.
    """
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being looked at together: the chance of one false alarm in the family stays the level."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = worst
    return adjusted
