"""The Hub's licence ids: each stands for its own text, and none for a milder one."""

import re
from pathlib import Path
from typing import Any

import pytest

from ecotone.licences import KnowledgeBase, Use, check_card, identify
from ecotone.vocabulary import Mode, Purpose, Verdict

KB = KnowledgeBase.load()
FAMILIES = ("bsd", "cc", "gpl", "lgpl", "gfdl", "openrail")
NOTHING = ("unknown", "other")
NAMED = {
    "bsl-1.0": "BSL-1.0",
    "c-uda": "C-UDA-1.0",
    "pddl": "PDDL-1.0",
    "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0",
    "lgpl-lr": "LGPLLR",
    "bigscience-bloom-rail-1.0": "bigscience-rail-1.0",
    "bigscience-openrail-m": "bigscience-openrail-m",
    "creativeml-openrail-m": "creativeml-openrail-m",
    "openrail++": "creativeml-openrail++-m",
    "bigcode-openrail-m": "bigcode-openrail-m-1",
    "llama2": "llama-2",
    "llama3": "llama-3",
    "llama3.1": "llama-3.1",
    "llama3.2": "llama-3.2",
    "llama3.3": "llama-3.3",
    "llama4": "llama-4",
    "grok2-community": "grok-2-community",
    "openmdw-1.1": "openmdw-1.1",
}
EITHER = ("agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0")


def test_every_id_of_the_hub_is_known(shared: Path) -> None:
    """An id that is silently unknown would hold back a model that may be used."""
    table = (shared / "data" / "licence" / "hf" / "repositories-licenses.md").read_text()
    ids = re.findall(r"^\|[^|]+\| `([^`]+)`", table, re.MULTILINE)
    assert len(ids) == 83
    for hub_id in ids:
        found = identify(KB, {"license": hub_id}, date="2024-06-01")
        assert (found.instruments == ("unknown",)) is (hub_id in (*FAMILIES, *NOTHING)), hub_id
        if hub_id in (*FAMILIES, *NOTHING):
            continue
        expected = NAMED.get(hub_id)
        if expected is not None:
            assert found.instruments == (expected,), hub_id
        elif hub_id in EITHER:
            assert {i.casefold() for i in found.instruments} == {f"{hub_id}-only", f"{hub_id}-or-later"}
            assert found.conflicts
        elif hub_id != "gemma":
            assert [i.casefold() for i in found.instruments] == [hub_id], hub_id


@pytest.mark.parametrize("hub_id", sorted(NAMED))
def test_an_id_is_read_without_case_and_blanks(hub_id: str) -> None:
    for text in (hub_id.upper(), f"  {hub_id.title()} ", hub_id):
        assert identify(KB, {"license": text}).instruments == (NAMED[hub_id],)


@pytest.mark.parametrize(
    ("day", "version"),
    [
        ("2024-06-01", "2024-04-01"),
        ("2025-03-23", "2024-04-01"),
        ("2025-03-24", "2025-03-24"),
        ("2026-06-01", "2026-04-01"),
    ],
)
def test_gemma_is_the_version_of_the_day(day: str, version: str) -> None:
    assert identify(KB, {"license": "gemma"}, date=day).instruments == (f"gemma-terms-{version}",)


def test_gemma_without_a_day_or_before_the_first_holds_for_all_versions() -> None:
    every = {f"gemma-terms-{v}" for v in ("2024-04-01", "2025-03-24", "2026-04-01")}
    assert set(identify(KB, {"license": "gemma"}).instruments) == every
    assert set(identify(KB, {"license": "gemma"}, date="2020-01-01").instruments) == every


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_never_its_mildest_member(family: str) -> None:
    """`cc` on a non-commercial model, read as CC-BY, would let a company sell it."""
    found = identify(KB, {"license": family})
    assert found.instruments == ("unknown",)
    assert any("family" in c for c in found.conflicts)
    asked = Use(mode=Mode.RUN, purpose=Purpose.COMMERCIAL)
    assert check_card(KB, {"license": family}, asked).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("hint", ["llama-3.1", "meta-llama-3", "qwen", "MIT", "apache-2.0", "gemma", "deepseek"])
def test_a_name_beside_other_is_a_hint_and_no_licence(hint: str) -> None:
    for card in ({"license": "other", "license_name": hint}, {"license": "Other", "license_name": hint}):
        found = identify(KB, card)
        assert found.instruments == ("unknown",)
        assert hint in str(found.declared)


@pytest.mark.parametrize(
    ("declared", "instruments"),
    [
        (3.1, ("unknown",)),
        (2, ("unknown",)),
        (True, ("unknown",)),
        (float("nan"), ("unknown",)),
        ({"name": "mit"}, ("unknown",)),
        (["mit"], ("MIT",)),
        (["mit", "apache-2.0"], ("MIT", "Apache-2.0")),
        (["mit", 3.1], ("MIT", "unknown")),
        (["mit", None], ("MIT", "unknown")),
        ([["mit"]], ("unknown",)),
        ([], ("none",)),
        (None, ("none",)),
        ("", ("none",)),
        ("mit, apache-2.0", ("unknown",)),
        ("mit OR apache-2.0", ("MIT",)),
        ("mit AND llama3.1", ("MIT", "llama-3.1")),
        ("(mit or apache-2.0) and openrail++", ("MIT", "creativeml-openrail++-m")),
        ("LicenseRef-llama-2", ("llama-2",)),
        ("LicenseRef-OpenMDW-1.1", ("openmdw-1.1",)),
        ("llama-3.1", ("llama-3.1",)),
        ("meta-llama-3", ("unknown",)),
        ("mit\n", ("MIT",)),
    ],
)
def test_slips_of_a_card_never_become_a_permission(declared: Any, instruments: tuple[str, ...]) -> None:
    assert identify(KB, {"license": declared}).instruments == instruments
