"""Declared, detected, concluded: what contradicts is shown, and the stricter reading is taken."""

from typing import Any

import pytest

from ecotone.licences import KnowledgeBase, identify
from ecotone.licences.detection import Conclusion, Detection, Near, conclude
from ecotone.licences.detection.detecting import SAME_WORDS

KNOWLEDGE = KnowledgeBase.load()


def found(name: str, *near: Near) -> Detection:
    return Detection(id=name, spdx=None, coverage=1.0, confidence=1.0, near=near)


def concluded(card: dict[str, Any], *detections: Detection) -> Conclusion:
    return conclude(KNOWLEDGE, identify(KNOWLEDGE, card), detections)


def test_a_declaration_without_a_text_stands() -> None:
    answer = concluded({"license": "mit"})
    assert (answer.concluded, answer.detected, answer.conflicts) == (("MIT",), (), ())


def test_a_text_without_a_declaration_is_concluded() -> None:
    assert concluded({}, found("llama-3.1")).concluded == ("llama-3.1",)
    assert concluded({"license": "other", "license_name": "x"}, found("llama-3.1")).concluded == ("llama-3.1",)


def test_a_llama_text_under_an_mit_label_binds_and_the_conflict_is_shown() -> None:
    answer = concluded({"license": "mit"}, found("llama-2"))
    assert answer.concluded == ("MIT", "llama-2")
    (conflict,) = answer.conflicts
    assert (conflict["declared"], conflict["detected"], conflict["concluded"]) == ("mit", "llama-2", "MIT AND llama-2")


def test_a_near_text_is_an_unknown_instrument() -> None:
    answer = concluded({"license": "mit"}, found("unknown", Near("MIT", "adds a clause")))
    assert answer.concluded == ("MIT", "unknown")
    assert "adds a clause" in answer.conflicts[0]["reason"]


def test_the_use_policy_beside_its_licence_is_no_conflict() -> None:
    answer = concluded({"license": "llama3.1"}, found("llama-3.1"), found("llama-3.1-use-policy"))
    assert (answer.concluded, answer.conflicts) == (("llama-3.1",), ())


def test_the_declaration_decides_between_this_version_and_later_ones() -> None:
    text = found("GPL-3.0-only", Near("GPL-3.0-or-later", SAME_WORDS))
    answer = concluded({"license": "GPL-3.0-or-later"}, text)
    assert (answer.concluded, answer.conflicts) == (("GPL-3.0-or-later",), ())


def test_texts_of_both_choices_agree_with_a_choice() -> None:
    answer = concluded({"license": "MIT OR Apache-2.0"}, found("MIT"), found("Apache-2.0"))
    assert answer.conflicts == ()
    assert len(answer.concluded) == 1


@pytest.mark.parametrize("declared", [{"license": "mit"}, {}])
def test_a_text_without_facts_is_unknown_and_said_so(declared: dict[str, Any]) -> None:
    answer = concluded(declared, found("Some-Licence-Of-Nowhere"))
    assert "unknown" in answer.concluded
    assert any("no facts" in c["reason"] for c in answer.conflicts)
