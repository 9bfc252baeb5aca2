"""A described case is answered as the same family is in the hub, and whatever cannot be read is named."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.licences import Decision, Edge, Family, KnowledgeBase, Node, Use, judge
from ecotone.licences.asking import ask
from ecotone.licences.errors import MalformedCase
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
USE = {"mode": "serve_api", "purpose": "commercial"}
BASE = "meta-llama/Llama-3.2-11B-Vision"


def case(*licences: Any, use: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A chain of fine-tunes, the target first."""
    nodes = [{"id": f"n{i}", "kind": "weights", "licence": licence} for i, licence in enumerate(licences)]
    edges = [
        {"child": f"n{i}", "parent": f"n{i + 1}", "relation": "finetune", "status": "declared"}
        for i in range(len(licences) - 1)
    ]
    return {"nodes": nodes, "edges": edges, "target": "n0", "use": dict(use or USE), **more}


def verdict(*licences: Any, **more: Any) -> Verdict:
    return ask(KB, case(*licences, **more)).verdict


def test_a_case_is_answered_as_its_family_is() -> None:
    found = ask(KB, case("mit", "apache-2.0", "cc-by-nc-4.0"))
    ids = ("MIT", "Apache-2.0", "CC-BY-NC-4.0")
    nodes = {f"n{i}": Node(f"n{i}", instruments=(ids[i],)) for i in range(3)}
    edges = tuple(Edge(f"n{i}", f"n{i + 1}", Relation.FINETUNE) for i in range(2))
    assert found == judge(KB, Family("n0", nodes, edges), Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL))
    assert found.verdict is Verdict.DENY
    assert found.reasons[0].path == ("finetune", "finetune")


@pytest.mark.parametrize("licence", ["MIT", "mit", "LicenseRef-MIT", ["mit", "apache-2.0"], "MIT OR Apache-2.0"])
def test_a_licence_is_an_id_a_hub_id_an_expression_or_a_list(licence: Any) -> None:
    assert verdict(licence).passes


def test_dotted_and_nested_names_are_the_same() -> None:
    dotted = {**USE, "org.mau_at.2024-06": 800_000_000}
    nested = {**USE, "org": {"mau_at": {"2024-06": 800_000_000}}}
    listed = {**USE, "variables": {"org.mau_at.2024-06": 800_000_000}}
    for use in (dotted, nested, listed):
        assert verdict("llama3.1", use=use) is Verdict.ASK_LICENCE
    assert verdict("llama3.1", use={**USE, "org": None}) is Verdict.UNKNOWN


def test_facts_of_the_base_decide_and_not_those_of_another_node() -> None:
    """A text-only fine-tune of a multimodal model is still under the grant of the multimodal one."""
    told = {**USE, "org.mau_at.2024-08": 5, "org.domicile": "DE", "org.principal_place": "DE"}
    for where, modality, expected in (
        (1, ["text", "image"], Verdict.DENY),
        (1, ["text"], Verdict.ALLOW_WITH_DUTIES),
        (0, ["text"], Verdict.UNKNOWN),
    ):
        asked = case("mit", "llama3.2", use=told)
        asked["nodes"][where]["facts"] = {"model": {"modality": modality}}
        assert ask(KB, asked).verdict is expected
    vision = case("mit", "llama3.2", use={**told, "model.modality": ["text"]})
    vision["nodes"][1]["facts"] = {"model.modality": ["image"]}
    assert ask(KB, vision).verdict is Verdict.DENY  # what is known of the base counts before what the asker says


def test_an_untold_purpose_is_missing_where_it_matters_and_only_there() -> None:
    for licence, expected in (("mit", Verdict.ALLOW), ("cc-by-nc-4.0", Verdict.UNKNOWN)):
        found = ask(KB, case(licence, use={"mode": "serve_api"}))
        assert found.verdict is expected
        assert ("purpose" in found.to_json()["missing"]) is (expected is Verdict.UNKNOWN)
        assert found.use["purpose"] is None


def test_positions_and_edge_status_count() -> None:
    run = {"mode": "run", "purpose": "internal_commercial"}
    assert verdict("cc-by-nc-4.0", use=run) is Verdict.DENY
    assert verdict("cc-by-nc-4.0", use=run, positions={"nc_internal": "allow"}).passes
    refuted = case("mit", "cc-by-nc-4.0")
    refuted["edges"][0]["status"] = "refuted"
    assert ask(KB, refuted).verdict.passes


def test_a_hidden_parent_is_not_named() -> None:
    asked = case("mit", "cc-by-nc-4.0")
    asked["nodes"][1]["visible"] = False
    found = ask(KB, asked)
    assert found.verdict is Verdict.DENY
    assert "n1" not in str(found.to_json()["reasons"])


def note(decision: Decision, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in decision.warnings)


def test_what_is_not_known_stays_unknown_and_is_named() -> None:
    found = ask(KB, case("my-own-licence"))
    assert found.verdict is Verdict.UNKNOWN
    assert note(found, "nodes[0].licence", "my-own-licence", "expected")
    gone = case("mit")
    gone["edges"] = [{"child": "n0", "parent": "gone", "relation": "merge"}]
    assert ask(KB, gone).verdict is Verdict.UNKNOWN
    assert note(ask(KB, gone), "edges[0].parent", "gone")
    assert note(ask(KB, case("mit", use={**USE, "org.maus": 5})), "use.org.maus")
    assert note(ask(KB, case("mit", colour="red")), "colour", "expected")


def test_a_cycle_is_named_with_its_members() -> None:
    asked = case("mit", "mit", "cc-by-nc-4.0")
    asked["edges"].append({"child": "n2", "parent": "n0", "relation": "merge"})
    found = ask(KB, asked)
    assert found.verdict is Verdict.DENY
    assert note(found, "cycle", "n0", "n1", "n2")


NO = object()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("nodes",), NO, ("nodes", "is missing", "list")),
        (("nodes",), [], ("nodes", "target")),
        (("nodes", 0), "n0", ("nodes[0]", "object")),
        (("nodes", 0, "id"), 7, ("nodes[0].id", "7", "text")),
        (("nodes", 1, "id"), "n0", ("nodes[1].id", "once")),
        (("nodes", 0, "kind"), "weight", ("nodes[0].kind", "'weight'", "adapter")),
        (("nodes", 0, "licence"), {"id": "mit"}, ("nodes[0].licence", "list")),
        (("nodes", 0, "facts"), ["text"], ("nodes[0].facts", "object")),
        (("nodes", 0, "date"), "soon", ("nodes[0].date", "'soon'", "2026")),
        (("edges",), {"child": "n0"}, ("edges", "list")),
        (("edges", 0, "relation"), "cousin", ("edges[0].relation", "'cousin'", "finetune")),
        (("edges", 0, "relation"), NO, ("edges[0].relation", "is missing", "finetune")),
        (("edges", 0, "child"), "n9", ("edges[0].child", "'n9'")),
        (("edges", 0, "status"), "sure", ("edges[0].status", "'sure'", "verified")),
        (("target",), NO, ("target", "is missing", "n0")),
        (("target",), "n9", ("target", "'n9'", "n0")),
        (("use",), NO, ("use", "is missing", "mode")),
        (("use", "mode"), "serve", ("use.mode", "'serve'", "serve_api")),
        (("use", "mode"), NO, ("use.mode", "is missing", "serve_api")),
        (("use", "purpose"), "fun", ("use.purpose", "'fun'", "research")),
        (("use", "date"), 2026, ("use.date", "2026")),
        (("use", "modified"), "yes", ("use.modified", "true or false")),
        (("use", "declared_licence"), 1, ("use.declared_licence", "expression")),
        (("use", "org"), [[1]], ("use.org", "plain")),
        (("positions",), ["x"], ("positions", "object")),
        (("positions",), {"nope": "yes"}, ("positions", "'nope'", "nc_internal")),
        (("positions",), {"nc_internal": "maybe"}, ("positions.nc_internal", "'maybe'", "allow")),
    ],
    ids=lambda v: ".".join(map(str, v)) if isinstance(v, tuple) else None,
)
def test_what_cannot_be_read_is_named_with_what_was_expected(
    path: tuple[Any, ...], value: Any, words: tuple[str, ...]
) -> None:
    asked = case("mit", "apache-2.0")
    place: Any = asked
    for step in path[:-1]:
        place = place[step]
    if value is NO:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(MalformedCase) as refused:
        ask(KB, asked)
    assert all(word in refused.value.message for word in words), refused.value.message


junk: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("nodes", "edges", "target", "use", "positions", "id", "kind", "licence", "facts", "child", "mode", "date")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), junk, st.integers(0, 1))
def test_junk_anywhere_is_answered_or_named(field: str, value: Any, at: int) -> None:
    asked = case("mit", "llama2")
    for place in (asked, asked["use"], asked["nodes"][at], asked["edges"][0]):
        if field in place:
            place[field] = value
            break
    try:
        assert ask(KB, asked).to_json()["notice"] == "not legal advice"
    except MalformedCase as refused:
        assert "expected" in refused.message or "nested" in refused.message


def test_a_merge_of_ten_thousand_parents_is_answered() -> None:
    licences = ("mit", "cc-by-nc-4.0", "llama2", "never-heard-of", "llama3.1")
    nodes = [{"id": "t", "licence": "mit"}, *({"id": f"p{i}", "licence": licences[i % 5]} for i in range(10_000))]
    edges = [{"child": "t", "parent": f"p{i}", "relation": "merge"} for i in range(10_000)]
    began = time.thread_time()
    publish = {"mode": "publish_weights", "purpose": "commercial", "declared_licence": "mit"}
    for use in (USE, publish):
        assert ask(KB, {"nodes": nodes, "edges": edges, "target": "t", "use": use}).verdict is Verdict.DENY
    assert time.thread_time() - began < 120
