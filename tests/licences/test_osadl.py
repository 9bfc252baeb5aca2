"""Derivation and linking as experts see them: OSADL's matrix of 115 licences, Double Open's classes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ecotone.licences import KnowledgeBase
from tests.licences.suites import explained, suites

SUITES = suites()
KB = KnowledgeBase.load()


@pytest.fixture(scope="module")
def pairs(shared: Path) -> list[Any]:
    return list(SUITES.osadl(KB, shared / "data" / "licence"))


def test_the_whole_matrix_is_answered(pairs: list[Any]) -> None:
    """A licence that the matrix has and we do not would leave its users without an answer."""
    assert len(pairs) == 12_032
    assert len({name for p in pairs for name in (p.parent, p.child)}) == 115
    unknown = [str(p) for p in pairs if p.answer.verdict not in ("allow", "allow_with_duties", "deny")]
    assert not unknown, unknown[:10]


def test_derivation_agrees_with_osadl_and_every_difference_has_its_clause(pairs: list[Any]) -> None:
    differing = {(p.parent, p.child): p for p in pairs if not p.agrees}
    told = "\n".join(map(str, differing.values()))
    assert 1 - len(differing) / len(pairs) >= 0.995, told
    reasons = {
        (parent, child): known
        for known in explained("osadl")
        for parent in known["parents"]
        for child in known["children"]
    }
    unexplained = [str(p) for key, p in differing.items() if key not in reasons]
    assert not unexplained, "\n".join(unexplained)
    assert all(known["clause"] and known["why"] for known in reasons.values())
    assert not set(reasons) - set(differing), "explained, yet no difference any more"


def test_a_refusal_names_a_clause_of_the_text_that_refuses(pairs: list[Any]) -> None:
    """A developer who is told no must be able to look it up."""
    refused = [p for p in pairs if p.answer.verdict == "deny"]
    bare = Counter(p.parent for p in refused if p.answer.reasons[0].clause == "whole text")
    assert sum(bare.values()) < 0.06 * len(refused), bare.most_common(10)
    assert all(p.answer.reasons[0].entry in KB.entries for p in refused)


def test_doors_come_from_clauses() -> None:
    """A licence that lets another stand says so somewhere: the door's fact is a permission to relicense."""
    for entry in KB.entries.values():
        if not {*entry.outbound.listed, *entry.outbound.upgrade} or entry.outbound.derivative == "keep_agreement":
            continue
        ways = [f for f in entry.facts if f.modality == "permit" and "relicense" in f.action]
        same = [f for f in entry.facts if f.duty == "same_licence"]
        assert ways or same, entry.id
        assert {*entry.outbound.listed, *entry.outbound.upgrade} <= set(KB.entries), entry.id


def test_what_links_a_library_module_or_file_may_stay_permissive(shared: Path) -> None:
    links = SUITES.linking(KB, shared / "data" / "licence")
    differing = [str(p) for p in links if not p.agrees]
    assert len(links) >= 20
    assert 1 - len(differing) / len(links) >= 0.99, differing
