"""choosealicense's flat view of 47 licences, derived from the facts: 47 x 17 cells that test them."""

from pathlib import Path

import msgspec

from ecotone.licences import KnowledgeBase
from ecotone.licences.tags import tags
from tests.licences.suites import explained, suites

SUITES = suites()
KB = KnowledgeBase.load()


def test_the_derived_view_agrees_with_choosealicense_and_every_difference_is_explained(shared: Path) -> None:
    cells, differing = SUITES.choosealicense(KB, shared / "data" / "licence")
    assert cells == 47 * 17
    assert 1 - len(differing) / cells >= 0.98, differing
    reasons = {(known["licence"], known["tag"]): known for known in explained("choosealicense")}
    assert {(c.licence, c.tag) for c in differing} == set(reasons), differing
    assert all(known["clause"] and known["why"] for known in reasons.values())


def test_the_view_is_never_stored() -> None:
    """A stored copy would go its own way; only facts are kept."""
    assert "tags" not in {f.name for f in msgspec.structs.fields(type(KB.entry("MIT")))}


def test_model_licences_have_the_view_too() -> None:
    for entry in KB.entries.values():
        found = tags(entry)
        assert set(found.permissions) <= {
            "commercial-use",
            "modifications",
            "distribution",
            "private-use",
            "patent-use",
        }
    assert "commercial-use" not in tags(KB.entry("CC-BY-NC-4.0")).permissions
    assert "commercial-use" in tags(KB.entry("CC-BY-4.0")).permissions
    assert tags(KB.entry("CC-BY-ND-4.0")).conditions == ("include-copyright",)
