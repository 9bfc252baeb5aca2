"""A text whose deciding clause was changed must never be called by the licence's name."""

import re
from pathlib import Path

import pytest

from ecotone.licences import KnowledgeBase
from ecotone.licences.detection import Detection, detect
from ecotone.licences.detection.detecting import UNKNOWN
from ecotone.licences.detection.discriminators import discriminators
from ecotone.licences.detection.index import load
from ecotone.licences.detection.normalising import words_of
from tests.licences.detection.texts import listed, text_of


@pytest.fixture(scope="module")
def knowledge() -> KnowledgeBase:
    return KnowledgeBase.load()


@pytest.fixture(scope="module")
def texts(shared: Path) -> dict[str, str]:
    """The first text of each id; those with an SPDX id too."""
    data = shared / "data/licence"
    found = {p.stem: text_of(p) for p in (data / "detection/spdx_simple").glob("*.txt")}
    for item in listed(data):
        found.setdefault(item.id, item.text)
    return found


def only(text: str, knowledge: KnowledgeBase) -> Detection:
    (answer,) = detect(text, knowledge)
    return answer


def test_kimi_s_licence_is_explained_as_mit_plus_a_display_clause(
    texts: dict[str, str], knowledge: KnowledgeBase
) -> None:
    answer = only(texts["kimi-k2-modified-mit"], knowledge)
    near = {n.id: n.difference for n in answer.near}
    assert answer.id == "kimi-k2-modified-mit"
    assert "100 million" in near["MIT"]


def test_mit_with_a_clause_that_nobody_knows_is_not_mit(texts: dict[str, str], knowledge: KnowledgeBase) -> None:
    clause = (
        "\n\nIf the software is used in a commercial product with more than 50 million monthly active users, "
        "you must prominently display the name of the model."
    )
    answer = only(texts["MIT"] + clause, knowledge)
    assert answer.id == UNKNOWN
    assert answer.near[0].id == "MIT"
    assert "number of users" in answer.near[0].difference


@pytest.mark.parametrize(
    ("licence", "old", "new", "said"),
    [
        ("kimi-k2-modified-mit", "100 million", "10 million", "threshold"),
        ("llama-3.1", "700 million", "70 million", "clause 2"),
        ("llama-3.1", "3.1", "3.5", "version"),
        ("llama-3.2", "or any outputs or results of", "or any part of", "bears the name"),
        ("llama-2", "to improve any other large language model", "to improve a toaster", "other language models"),
        ("openmdw-1.1", " or copyright", "", "copyright"),
        ("OpenMDW-1.0", "patent", "patent or copyright", "copyright"),
        ("gemma-terms-2025-03-24", "in the Appendix", "at a web page", "appendix"),
        ("creativeml-openrail-m", "reasonable efforts to use the latest version", "consider updates", "latest"),
        ("fair-ai-public-1.0-sd", "Prohibited Uses", "Welcome Uses", "prohibited"),
    ],
)
def test_a_changed_clause_is_named_and_the_licence_is_not(
    texts: dict[str, str], knowledge: KnowledgeBase, licence: str, old: str, new: str, said: str
) -> None:
    changed, times = re.subn(
        r"\s+".join(map(re.escape, old.split())) if old.strip() == old else old, new, texts[licence]
    )
    assert times, "the test's own premise"
    answers = detect(changed, knowledge)
    assert [a.id for a in answers] == [UNKNOWN]
    assert any(n.id == licence and said in n.difference for n in answers[0].near), answers


def test_a_clause_of_an_older_version_in_a_newer_licence_is_seen(
    texts: dict[str, str], knowledge: KnowledgeBase
) -> None:
    ban = re.search(r"v\. You will not use.*?\)\.", texts["llama-2"], re.S)
    assert ban is not None
    at = texts["llama-3.1"].index("iv. Your use")
    spliced = texts["llama-3.1"][:at] + ban[0].replace("Llama 2", "Llama 3.1") + "\n\n" + texts["llama-3.1"][at:]
    answer = only(spliced, knowledge)
    assert answer.id == UNKNOWN
    assert "1.b.v" in answer.near[0].difference


def test_no_paragraph_of_terms_can_be_cut_out_unseen(texts: dict[str, str], knowledge: KnowledgeBase) -> None:
    unseen = []
    for licence in ("MIT", "BSD-3-Clause", "ISC", "MPL-2.0", "CC-BY-NC-4.0", "llama-3.1", "qwen-license-2024"):
        paragraphs = re.split(r"\n\s*\n", texts[licence].strip())
        long = [i for i, p in enumerate(paragraphs) if i and len(p.split()) >= 25]
        for i in long[:: max(1, len(long) // 5)]:
            cut = "\n\n".join(paragraphs[:i] + paragraphs[i + 1 :])
            if "Creative Commons" not in paragraphs[i] and licence in {d.id for d in detect(cut, knowledge)}:
                unseen.append((licence, paragraphs[i][:60]))
    assert unseen == []


def test_no_negation_can_be_taken_out_unseen(texts: dict[str, str], knowledge: KnowledgeBase) -> None:
    unseen = []
    for licence in ("Apache-2.0", "GPL-2.0-only", "MPL-2.0", "llama-3.1", "gemma-terms-2025-03-24", "CC-BY-SA-4.0"):
        text = texts[licence]
        places = [m for m in re.finditer(r"\b(?:not|only|no) ", text) if 0.1 < m.start() / len(text) < 0.75]
        for place in places[:: max(1, len(places) // 4)]:
            answers = detect(text[: place.start()] + text[place.end() :], knowledge)
            if licence in {d.id for d in answers}:
                unseen.append((licence, text[place.start() - 40 : place.end() + 20]))
    assert unseen == []


def test_every_discriminator_is_about_a_text_that_is_known_and_true_of_it(texts: dict[str, str]) -> None:
    known = {k.label for k in load().known}
    rules = discriminators()
    assert {i for pair in rules.pairs for i in pair.between} | set(rules.marks) <= known
    for label in rules.marks:
        assert rules.broken(label, words_of(texts[label])) == [], label
