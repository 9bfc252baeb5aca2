"""The suite `weat`: tests 1 to 10 of Caliskan et al. 2017 on the vectors that a model gives to single words.

What the numbers mean is said with them: signs in words, the least p that a test can reach, what could not be measured,
and the published criticism of the method.
"""

from collections.abc import Mapping
from typing import Any

from ecotone.audits import weat
from ecotone.audits.suites import Embed, suite
from ecotone.audits.wordlists import LEAST_WORDS, Test, WordLists, load

VERSION = "1.0.0"
LEVEL = 0.95
PERMUTATIONS = 100_000
MOST_LOST = 0.2

NOTES = (
    "The effect size d is the difference of mean associations over their sample standard deviation (ddof 1) in both "
    "target sets together; it lies between -2 and 2. Above 0 the first target lies nearer to the first attribute, "
    "below 0 nearer to the second.",
    "p is one-sided, as in the paper: the share of splits of the target words that separate them at least as far as "
    "the real one. An association in the opposite direction has a p near 1; look at the interval.",
    "p_holm takes into account that ten tests are looked at together (Holm 1979).",
    "The interval treats the words of all four sets as samples (delete-one jackknife, t quantiles).",
)
CRITICISM = (
    {
        "says": "Over hundreds of trained models no reliable correlation was found between such measures inside the "
        "embedding and bias in what an application does with it.",
        "source": "Goldfarb-Tarrant et al. 2021",
        "url": "https://arxiv.org/abs/2012.15859",
    },
    {
        "says": "Results depend on templates, on seeds and on how the vector is taken from the model; the authors "
        "advise against metrics based on embeddings.",
        "source": "Delobelle et al. 2022",
        "url": "https://arxiv.org/abs/2112.07447",
    },
    {
        "says": "Such a test can show that an association is there; that none shows does not prove its absence.",
        "source": "May et al. 2019",
        "url": "https://arxiv.org/abs/1903.10561",
    },
)


@suite("weat", version=VERSION, title="Word Embedding Association Test")
def measure(embed: Embed, seed: int) -> dict[str, Any]:
    """All tests of the word lists."""
    lists = load()
    words = lists.words()
    embedded = embed(words)
    vectors = {word: embedded.vectors[i] for i, word in enumerate(words) if i not in embedded.lost}
    tests, unmeasured = [], []
    for number, test in enumerate(lists.tests):
        reason = _unmeasurable(test, lists, vectors)
        if reason is not None:
            unmeasured.append({"id": test.id, "name": test.title, "reason": reason})
        else:
            tests.append(_measure(test, lists, vectors, seed + number))
    for test_result, adjusted in zip(tests, weat.holm([t["p_value"] for t in tests]), strict=True):
        test_result["p_holm"] = adjusted
    return {
        "tests": tests,
        "unmeasured": unmeasured,
        "lost_words": sorted(words[i] for i in embedded.lost),
        "level": LEVEL,
        "n_permutations": PERMUTATIONS,
        "standard_deviation": "sample (ddof 1)",
        "word_lists": {"version": lists.version, "sha256": lists.sha256},
        "notes": list(NOTES),
        "criticism": [dict(c) for c in CRITICISM],
        "sources": dict(lists.sources),
    }


def _unmeasurable(test: Test, lists: WordLists, vectors: Mapping[str, Any]) -> str | None:
    for key in (*test.targets, *test.attributes):
        group = lists.sets[key]
        known = sum(word in vectors for word in group.words)
        if known < LEAST_WORDS or known < (1 - MOST_LOST) * len(group.words):
            return f"the model's vocabulary writes only {known} of {len(group.words)} words for {group.name}"
    return None


def _measure(test: Test, lists: WordLists, vectors: Mapping[str, Any], seed: int) -> dict[str, Any]:
    keys = (*test.targets, *test.attributes)
    x, y, a, b = ([vectors[w] for w in lists.sets[key].words if w in vectors] for key in keys)
    first, second = weat.associations(x, a, b), weat.associations(y, a, b)
    size = weat.effect_size(first, second)
    tested = weat.permutation_test(first, second, most=PERMUTATIONS, seed=seed)
    low, high = weat.interval(x, y, a, b, level=LEVEL)
    names = [lists.sets[key].name for key in keys]
    return {
        "id": test.id,
        "name": test.title,
        "topic": test.topic,
        "targets": names[:2],
        "attributes": names[2:],
        "words": [len(x), len(y), len(a), len(b)],
        "lost": sorted(w for key in keys for w in lists.sets[key].words if w not in vectors),
        "effect_size": size,
        "interval": [low, high],
        "p_value": tested.p_value,
        "method": tested.method,
        "n_permutations": tested.partitions,
        "least_p": tested.least,
        "seed": seed,
        "meaning": meaning(names, size, low, high),
        "source": test.source,
    }


def meaning(names: list[str], size: float, low: float, high: float) -> str:
    """The sign in words. `names`: first and second target, first and second attribute."""
    x, y, a, b = names
    if low <= 0 <= high:
        return f"The interval covers 0: no clear difference between {x} and {y} on {a} against {b}."
    near, far = (a, b) if size > 0 else (b, a)
    return f"{x[0].upper()}{x[1:]} lie nearer to {near} than {y} do; {y} nearer to {far}."
