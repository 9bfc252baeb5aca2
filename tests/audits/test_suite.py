"""What a user would lose: a word the model cannot write counted as measured, a sign told the wrong way round."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from ecotone.audits.suites import Embedded, find, suites
from ecotone.audits.weat_suite import meaning
from ecotone.audits.wordlists import load
from ecotone.vocabulary import Invalid

SETS = load().sets


def planted(texts: Sequence[str], strength: float, lost: frozenset[str] = frozenset()) -> Embedded:
    """Vectors with an association put in: flowers and pleasant words share a direction, insects have the other."""
    sign = {w: 1.0 for key in ("flowers", "pleasant_5") for w in SETS[key].words}
    sign |= {w: -1.0 for key in ("insects", "unpleasant_5a") for w in SETS[key].words}
    rows = []
    for text in texts:
        draw = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"))
        row = draw.normal(size=40)
        row[0] += strength * sign.get(text, 0.0)
        rows.append(row)
    return Embedded(vectors=np.array(rows), lost=frozenset(i for i, t in enumerate(texts) if t in lost))


@pytest.fixture(scope="module")
def strong() -> dict:  # type: ignore[type-arg]
    return find("weat").measure(lambda texts: planted(texts, 3.0), 11)


def test_a_planted_association_is_found_with_its_sign(strong: dict) -> None:  # type: ignore[type-arg]
    first = strong["tests"][0]
    assert first["effect_size"] > 1.5
    assert first["p_value"] == first["least_p"] == 1e-5
    assert first["interval"][0] > 0
    assert first["p_holm"] < 0.001
    assert first["meaning"] == "Flowers lie nearer to pleasant than insects do; insects nearer to unpleasant."


def test_a_planted_opposite_has_a_p_near_one() -> None:
    first = find("weat").measure(lambda texts: planted(texts, -3.0), 11)["tests"][0]
    assert first["effect_size"] > 1.5  # both words and attributes turned: the association is the same
    turned = find("weat").measure(lambda texts: _turn_attributes(planted(texts, 3.0), texts), 11)["tests"][0]
    assert turned["effect_size"] < -1.5
    assert turned["p_value"] > 0.99
    assert "Flowers lie nearer to unpleasant" in turned["meaning"]


def _turn_attributes(embedded: Embedded, texts: Sequence[str]) -> Embedded:
    pleasant = {w for key in ("pleasant_5", "unpleasant_5a") for w in SETS[key].words}
    vectors = embedded.vectors.copy()
    for i, text in enumerate(texts):
        if text in pleasant:
            vectors[i, 0] *= -1
    return Embedded(vectors=vectors)


def test_without_association_none_is_told() -> None:
    result = find("weat").measure(lambda texts: planted(texts, 0.0), 11)
    assert sum(t["p_holm"] < 0.05 for t in result["tests"]) == 0


def test_same_seed_same_result(strong: dict) -> None:  # type: ignore[type-arg]
    assert find("weat").measure(lambda texts: planted(texts, 3.0), 11) == strong


def test_lost_words_are_counted_and_too_many_leave_a_test_unmeasured() -> None:
    few, many = SETS["flowers"].words[:3], SETS["career"].words[:2]
    result = find("weat").measure(lambda texts: planted(texts, 1.0, frozenset([*few, *many])), 11)
    tests = {t["id"]: t for t in result["tests"]}
    assert tests["weat1"]["lost"] == sorted(few)
    assert tests["weat1"]["words"] == [22, 25, 25, 25]
    assert "weat6" not in tests
    assert [u["id"] for u in result["unmeasured"]] == ["weat6"]
    assert "6 of 8 words for career" in result["unmeasured"][0]["reason"]
    assert result["lost_words"] == sorted([*few, *many])


def test_a_model_that_writes_no_word_measures_nothing() -> None:
    result = find("weat").measure(lambda texts: planted(texts, 1.0, frozenset(texts)), 11)
    assert result["tests"] == []
    assert len(result["unmeasured"]) == 10


def test_criticism_stands_with_the_result(strong: dict) -> None:  # type: ignore[type-arg]
    assert {"2012.15859", "2112.07447"} <= {c["url"].rpartition("/")[2] for c in strong["criticism"]}
    assert "ddof 1" in strong["standard_deviation"]


def test_meaning_of_an_interval_over_zero() -> None:
    assert "no clear difference" in meaning(["a", "b", "c", "d"], 0.3, -0.1, 0.7)


def test_unknown_suite_lists_those_there_are() -> None:
    assert [s.name for s in suites()] == ["weat"]
    with pytest.raises(Invalid, match="weat"):
        find("seat")
