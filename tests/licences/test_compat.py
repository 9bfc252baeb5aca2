"""`compat`: two licences under a relation. What a user would publish wrongly, or be refused wrongly, if it failed."""

import json
import string
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecotone.licences import Edge, Family, KnowledgeBase, Node, outbound
from ecotone.licences.compat import RELATIONS, compat
from ecotone.vocabulary import Relation, Verdict

KB = KnowledgeBase.load()
IDS = sorted(e.id for e in KB.entries.values())
GPL3 = "GPL-3.0-only"
RAIL = "creativeml-openrail-m"


def answer(parent: str, child: str, relation: str = "derive", **how: Any) -> Verdict:
    return compat(KB, parent, child, relation, **how).verdict


# -- traps


@pytest.mark.parametrize("child", ["gpl-3.0", "agpl-3.0", "mit", "apache-2.0", RAIL, "llama3.1", "cc-by-sa-4.0"])
@pytest.mark.parametrize("other", [RAIL, "llama3.1", "gemma", "bigscience-openrail-m"])
def test_t33_a_work_of_gpl_and_use_limits_has_no_single_licence(other: str, child: str) -> None:
    found = compat(KB, f"{GPL3} AND {KB.entry(KB.by_hf[other][0]).expression}", child)
    assert found.verdict is Verdict.DENY
    assert found.reasons[0].clause != "whole text"


def test_t33_the_search_rejects_every_licence_with_a_clause_and_offers_the_bundle() -> None:
    nodes = {
        "me/x": Node("me/x"),
        "a": Node("a", instruments=(GPL3,)),
        "b": Node("b", instruments=(RAIL,)),
    }
    graph = Family("me/x", nodes, (Edge("me/x", "a", Relation.MERGE), Edge("me/x", "b", Relation.MERGE)))
    found = outbound(KB, graph)
    assert found.licence is None
    assert found.expression == f"{GPL3} AND LicenseRef-{RAIL}"
    assert {"MIT", "Apache-2.0", "AGPL-3.0-only", GPL3, RAIL} <= {r.licence for r in found.rejected}
    assert all(r.clause and r.means for r in found.rejected)


@pytest.mark.parametrize(
    ("parent", "child", "passes"),
    [
        ("Apache-2.0", "GPL-2.0-only", False),
        ("Apache-2.0", "GPL-2.0-or-later", False),
        ("Apache-2.0", GPL3, True),
        ("Apache-2.0", "gpl-3.0", True),
        (GPL3, "Apache-2.0", False),
        ("GPL-2.0-only", "Apache-2.0", False),
    ],
)
def test_t34_apache_code_enters_version_3_of_the_gpl_and_not_version_2(parent: str, child: str, passes: bool) -> None:
    found = compat(KB, parent, child)
    assert found.verdict.passes is passes
    assert passes or found.verdict is Verdict.DENY


@pytest.mark.parametrize("library", ["LGPL-2.1-only", "LGPL-3.0-or-later", "MPL-2.0", "EPL-2.0", "CDDL-1.0"])
@pytest.mark.parametrize("child", ["MIT", "Apache-2.0"])
def test_t35_a_library_may_be_linked_into_a_permissive_work_and_not_become_one(library: str, child: str) -> None:
    assert answer(library, child) is Verdict.DENY
    linked = compat(KB, library, child, "link")
    assert linked.verdict is Verdict.ALLOW_WITH_DUTIES
    assert "disclose_source" in {d.duty for d in linked.duties}
    assert answer(library, child, "component_of") is linked.verdict


# -- relations


def test_strong_copyleft_takes_what_is_linked() -> None:
    assert answer(GPL3, "MIT", "link") is Verdict.DENY
    assert answer(GPL3, "MIT", "aggregate") is Verdict.ALLOW_WITH_DUTIES
    assert answer("BSD-4-Clause", GPL3, "link") is Verdict.DENY
    assert answer("BSD-4-Clause", "LGPL-2.1-only", "link").passes


def test_hosting_passes_on_no_copy_unless_the_text_says_so() -> None:
    assert answer(GPL3, "MIT", "host") is Verdict.ALLOW
    affero = compat(KB, "AGPL-3.0-only", "MIT", "host")
    assert affero.verdict.passes
    assert [(d.duty, d.clause) for d in affero.possible_duties] == [("disclose_source", "13")]
    assert "disclose_source" in {d.duty for d in compat(KB, "EUPL-1.2", "MIT", "host").duties}
    assert "flow_down_use" in {d.duty for d in compat(KB, RAIL, "MIT", "host").duties}


def test_what_was_only_measured_carries_nothing() -> None:
    assert answer(GPL3, "MIT", "evaluated_on") is Verdict.ALLOW


def test_training_data_binds_as_far_as_the_position_says() -> None:
    found = compat(KB, "cc-by-sa-4.0", "mit", "train_on")
    assert found.verdict is Verdict.ALLOW_WITH_DUTIES
    assert [d.duty for d in found.duties] == ["attribution"]
    assert {"position": "dataset_propagation", "value": "full", "verdict": "deny"} in found.disputed
    assert answer("cc-by-sa-4.0", "mit", "train_on", positions={"dataset_propagation": "full"}) is Verdict.DENY


def test_a_distilled_model_is_unknown_until_its_kind_is_told() -> None:
    found = compat(KB, "llama2", "mit", "distilled_outputs")
    assert found.verdict is Verdict.UNKNOWN
    assert found.to_json()["missing"] == ["target_model"]
    assert answer("llama2", "mit", "distilled_outputs", variables={"target_model": "other_llm"}) is Verdict.DENY


def test_terms_of_a_service_do_not_speak_of_derivatives() -> None:
    assert answer("openai-services-agreement-2026-01-01", "mit") is Verdict.UNKNOWN


def test_an_unknown_relation_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="fork"):
        compat(KB, "MIT", "MIT", "fork")


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_is_answered(relation: str) -> None:
    found = compat(KB, "MIT", "MIT", relation)
    assert found.verdict.passes
    assert found.notice == "not legal advice"
    assert found.knowledge_base == KB.version


# -- names and expressions


def test_of_an_offered_choice_the_best_is_taken_and_of_an_offering_each_must_stand() -> None:
    assert answer("GPL-2.0-only OR MIT", "Apache-2.0").passes
    assert compat(KB, "GPL-2.0-only OR MIT", "Apache-2.0").parent == ("MIT",)
    assert answer("GPL-2.0-only AND MIT", "Apache-2.0") is Verdict.DENY
    assert answer("MIT", "GPL-2.0-only OR Apache-2.0").passes
    assert answer(GPL3, f"{GPL3} OR MIT") is Verdict.DENY
    assert answer("llama3.1", "mit AND llama3.1").passes


def test_an_exception_is_part_of_the_text() -> None:
    classpath = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert answer(classpath, "GPL-2.0-only").passes
    assert answer("GPL-2.0-only", classpath) is Verdict.DENY
    assert answer(classpath, "MIT", "link").passes
    assert answer("GPL-2.0-only", "MIT", "link") is Verdict.DENY


def test_an_unknown_exception_gives_away_what_the_parent_may_not_have_given() -> None:
    assert answer("Apache-2.0 WITH LLVM-exception", "MIT").passes
    assert answer("MIT", "Apache-2.0 WITH LLVM-exception").passes
    assert answer(GPL3, f"{GPL3} WITH Some-exception") is Verdict.UNKNOWN
    assert answer("GPL-2.0-only WITH Some-exception", "MIT") is Verdict.DENY


@pytest.mark.parametrize(
    ("parent", "child", "passes"),
    [
        ("GPL-2.0+", "GPL-3.0", True),
        ("GPL-2.0-only", "GPL-3.0-only", False),
        ("gpl-2.0", "GPL-3.0-only", False),
        ("LGPL-2.1", "GPL-3.0-or-later", True),
        ("LGPL-2.0", "GPL-2.0-only", True),
        ("MPL-1.1", "MPL-2.0", True),
        ("MPL-2.0", "MPL-1.1", False),
        ("cc-by-sa-4.0", "gpl-3.0", True),
        ("gpl-3.0", "cc-by-sa-4.0", False),
        ("cc-by-sa-3.0", "cc-by-sa-4.0", True),
        ("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", True),
        ("cc-by-nc-4.0", "cc-by-4.0", False),
        ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", True),
        ("cc-by-nd-4.0", "cc-by-nd-4.0", False),
        ("Artistic-2.0", "gpl-3.0", True),
        ("ofl-1.1", "mit", False),
        ("lppl-1.3c", "mit", True),
        ("wtfpl", "llama3.1", True),
    ],
)
def test_doors_and_walls(parent: str, child: str, passes: bool) -> None:
    found = compat(KB, parent, child)
    assert found.verdict.passes is passes, found.reasons
    assert passes or found.verdict is Verdict.DENY


@pytest.mark.parametrize("name", ["bsd", "cc", "gpl", "lgpl", "gfdl", "openrail"])
def test_the_name_of_a_family_stays_unknown(name: str) -> None:
    assert KB.entry(KB.by_hf[name][0]).kind == "family"
    assert answer(name, "mit") is Verdict.UNKNOWN
    assert answer("mit", name) is Verdict.UNKNOWN
    assert answer(GPL3, name) is Verdict.UNKNOWN
    assert any("family" in w for w in compat(KB, name, "mit").warnings)


@pytest.mark.parametrize(
    "name", ["other", "", "made-up-1.0", "MIT AND made-up-1.0", "(MIT", "none", "unknown", "x" * 900]
)
def test_what_is_not_known_is_never_allowed(name: str) -> None:
    assert answer(name, "MIT") is Verdict.UNKNOWN
    assert answer("MIT", name) is Verdict.UNKNOWN


def test_a_known_part_still_refuses() -> None:
    assert answer("GPL-2.0-only AND made-up-1.0", "MIT") is Verdict.DENY
    assert answer(GPL3, "MIT OR made-up-1.0") is Verdict.DENY
    assert answer("cc-by-nd-4.0", "made-up-1.0") is Verdict.DENY


def test_more_choices_than_are_weighed_are_not_taken_for_good() -> None:
    many = " OR ".join(["MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause"] * 9)
    assert answer("Apache-2.0", many) is Verdict.UNKNOWN


def test_an_allow_of_a_secondary_text_is_unknown_and_says_which_text_is_missing() -> None:
    """No text that nobody read may open anything, on either side."""
    secondary = [e for e in KB.entries.values() if e.status.authority == "secondary" and e.kind != "family"]
    for entry in secondary:
        if entry.kind in ("policy", "api_terms"):
            continue
        found = compat(KB, entry.id, entry.id)
        assert not found.verdict.passes, entry.id


def test_a_condition_names_the_limit_within_which_the_answer_holds() -> None:
    found = compat(KB, "llama3.1", "llama3.1")
    assert found.verdict is Verdict.ALLOW_WITH_DUTIES
    assert any(c.fact == "mau" for c in found.conditions)
    free = compat(KB, "cc-by-nc-4.0", "cc-by-nc-4.0")
    assert any("NonCommercial" in c.means for c in free.conditions)


def test_the_refusal_names_both_clauses() -> None:
    reason = compat(KB, "Apache-2.0", "GPL-2.0-only").reasons[0]
    assert (reason.entry, reason.clause) == ("Apache-2.0", "3")
    assert "(6)" in reason.means


# -- laws

words = st.text(st.sampled_from(string.ascii_letters + string.digits + " ()+.-:WITHANDOR\x00\né"), max_size=80)
pieces = st.lists(
    st.sampled_from(["MIT", GPL3, "gpl-2.0", "AND", "OR", "WITH", "(", ")", "+", "LicenseRef-x", "llama3.1", "cc"]),
    max_size=14,
).map(" ".join)
sides = st.one_of(words, pieces, st.sampled_from(IDS))


@settings(max_examples=300, deadline=None)
@example("", "(AND 0", "derive")
@example("llama3.1", "0BSD", "generated_by")
@given(sides, sides, st.sampled_from(RELATIONS))
def test_no_text_crashes_and_every_answer_has_a_reason(parent: str, child: str, relation: str) -> None:
    found = compat(KB, parent, child, relation)
    assert json.loads(json.dumps(found.to_json()))["verdict"] == found.verdict
    assert found.reasons or found.duties or found.possible_duties or found.conditions or found.missing


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(IDS), st.sampled_from(IDS), st.sampled_from(IDS), st.sampled_from(["derive", "link"]))
def test_more_parents_never_help_and_more_choices_never_hurt(one: str, other: str, child: str, relation: str) -> None:
    first, second = (KB.entry(i).expression for i in (one, other))
    alone = answer(first, child, relation)
    assert answer(f"{first} AND {second}", child, relation).rank <= alone.rank
    assert answer(f"{first} OR {second}", child, relation).rank >= alone.rank


@pytest.mark.parametrize(
    "name", [i for i in IDS if KB.entry(i).kind in ("permissive", "public_domain", "weak_copyleft")]
)
def test_a_licence_may_stay_as_it_is(name: str) -> None:
    entry = KB.entry(name)
    if entry.status.authority == "primary":
        assert answer(entry.expression, entry.expression).passes


# -- command


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    code = "from ecotone.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "licence", "compat", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_needs_no_server_and_tells_scripts_by_its_exit_status() -> None:
    denied = run("llama2", "mit", "--json")
    assert denied.returncode == 4
    assert json.loads(denied.stdout)["reasons"][0]["clause"] == "1.b.i"
    assert run("MIT", "apache-2.0").returncode == 0
    assert run("MIT", "((").returncode == 5
    assert run("MIT", "MIT", "--relation", "fork").returncode == 2
    shown = run("GPL-2.0-only", "MIT")
    assert shown.returncode == 4
    assert "2(b)" in shown.stdout
    assert "not legal advice" in shown.stdout
