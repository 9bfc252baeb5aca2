"""Laws of the engine that hold for every use and graph: what is unknown never allows, and work stays bounded."""

import time
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ecotone.licences import Edge, Family, KnowledgeBase, Node, Use, judge
from ecotone.licences.conditions import ASSUMED, Facts, compiled
from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
ENTRIES = sorted(e.id for e in KB.entries.values() if e.kind != "policy")
VALUES: dict[str, list[Any]] = {
    "org.principal_place": ["US", "DE"],
    "org.domicile": ["US", "FR"],
    "model.modality": [["text"], ["text", "image"]],
    "product.mau": [1, 200_000_000],
    "account.tier": ["free", "paid", "zero_retention"],
    "territory": [["US"], ["DE"], ["worldwide"]],
    "target_model": ["same_family", "other_llm", "similar", "classifier_internal", "any"],
    "target.distributed": [True, False],
    "parent_has_notice_file": [True, False],
    **{f"org.mau_at.{m}": [1, 800_000_000] for m in ("2023-06", "2024-03", "2024-06", "2024-08", "2024-11", "2025-03")},
}
relations = st.sampled_from([r for r in Relation if r is not Relation.EVALUATED_ON])
modes = st.sampled_from(list(Mode))
purposes = st.sampled_from(list(Purpose))


@st.composite
def families(draw: st.DrawFn) -> Family:
    names = ["me/x", "b", "c", "d"]
    kinds = [
        "weights",
        "weights",
        draw(st.sampled_from(["weights", "dataset"])),
        draw(st.sampled_from(["weights", "api"])),
    ]
    nodes = {
        n: Node(n, instruments=tuple(draw(st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=2))), kind=k)
        for n, k in zip(names, kinds, strict=True)
    }
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names), relations), max_size=6))
    return Family("me/x", nodes, tuple(Edge(c, p, r) for c, p, r in pairs))


told = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 9), max_size=6).map(
    lambda chosen: {name: VALUES[name][i % len(VALUES[name])] for name, i in chosen.items()}
)


@settings(max_examples=120, deadline=None)
@given(families(), modes, purposes, told, st.sampled_from(sorted(VALUES)), st.integers(0, 9))
def test_what_is_told_later_never_turns_a_yes_into_a_no(
    graph: Family, mode: Mode, purpose: Purpose, variables: dict[str, Any], name: str, pick: int
) -> None:
    """Kleene's monotony: a definite answer was not a guess, so a fact that was missing cannot overturn it."""
    assume(name not in variables and name not in ASSUMED)
    before = judge(KB, graph, Use(mode=mode, purpose=purpose, variables=variables)).verdict
    value = VALUES[name][pick % len(VALUES[name])]
    after = judge(KB, graph, Use(mode=mode, purpose=purpose, variables={**variables, name: value})).verdict
    if before.passes:
        assert after.passes
    if name != "target_model":  # what was made from outputs also decides which texts reach the model at all
        assert before is not Verdict.DENY or after is Verdict.DENY


@settings(max_examples=120, deadline=None)
@given(families(), modes, purposes, told)
def test_every_way_to_yes_is_no_larger_than_a_yes_and_refusals_have_reasons(
    graph: Family, mode: Mode, purpose: Purpose, variables: dict[str, Any]
) -> None:
    decision = judge(KB, graph, Use(mode=mode, purpose=purpose, variables=variables))
    assert all(way.verdict.passes for way in decision.would_allow)
    assert all(reason.clause and reason.means for reason in decision.reasons)
    if decision.verdict.passes:
        assert not decision.would_allow
        assert all(r.evaluation == "true" for r in decision.reasons)
        assert decision.reasons
    else:
        assert any(r.evaluation != "true" for r in decision.reasons)


@settings(max_examples=80, deadline=None)
@given(families(), modes, purposes, told, relations, st.sampled_from(ENTRIES))
def test_one_more_parent_never_improves_a_verdict(
    graph: Family, mode: Mode, purpose: Purpose, variables: dict[str, Any], relation: Relation, licence: str
) -> None:
    asked = Use(mode=mode, purpose=purpose, variables=variables)
    more = Family(
        "me/x", {**graph.nodes, "new": Node("new", None, (licence,))}, (*graph.edges, Edge("me/x", "new", relation))
    )
    assert judge(KB, more, asked).verdict.rank <= judge(KB, graph, asked).verdict.rank


@settings(max_examples=60, deadline=None)
@given(families(), purposes, told, st.sampled_from(ENTRIES))
def test_a_label_never_frees_from_what_is_inherited(
    graph: Family, purpose: Purpose, variables: dict[str, Any], label: str
) -> None:
    """Whatever licence a publisher writes on a derivative, serving it is judged with its parents' texts."""
    asked = Use(mode=Mode.SERVE_API, purpose=purpose, variables=variables)
    bare = Family("me/x", {**graph.nodes, "me/x": Node("me/x", None, ("Apache-2.0",))}, graph.edges)
    labelled = Family("me/x", {**graph.nodes, "me/x": Node("me/x", None, (label,))}, graph.edges)
    assert judge(KB, labelled, asked).verdict.rank <= max(
        judge(KB, bare, asked).verdict.rank, Verdict.ALLOW_WITH_DUTIES.rank
    )


def test_a_graph_with_more_paths_than_can_be_walked_is_answered() -> None:
    layers = 40
    nodes = {f"n{i}": Node(f"n{i}", instruments=("MIT",)) for i in range(layers)}
    nodes[f"n{layers - 1}"] = Node("last", instruments=("CC-BY-NC-4.0",))
    kinds = (Relation.FINETUNE, Relation.MERGE, Relation.QUANTISED, Relation.ADAPTER_MERGED)
    edges = [Edge(f"n{i}", f"n{j}", r) for i in range(layers) for j in range(i + 1, min(i + 4, layers)) for r in kinds]
    edges += [Edge(f"n{i + 1}", f"n{i}", Relation.FINETUNE) for i in range(layers - 1)]
    began = time.thread_time()
    decision = judge(KB, Family("n0", nodes, tuple(edges)), Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL))
    assert decision.verdict is Verdict.DENY
    assert "the declared family has a cycle" in decision.warnings
    assert time.thread_time() - began < 30, "half a second; each path would take years"


@settings(max_examples=50, deadline=None)
@given(families())
def test_a_refuted_edge_carries_nothing(graph: Family) -> None:
    asked = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)
    refuted = Family(
        "me/x", graph.nodes, tuple(Edge(e.child, e.parent, e.relation, EdgeStatus.REFUTED) for e in graph.edges)
    )
    alone = Family("me/x", {"me/x": graph.nodes["me/x"]})
    assert judge(KB, refuted, asked).verdict is judge(KB, alone, asked).verdict


plain = st.text(max_size=4) | st.integers()
junk = st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.lists(plain, max_size=3)
names = st.sampled_from(sorted([*VALUES, *ASSUMED, "relation", "date", "name"]))


@given(st.dictionaries(names, junk, max_size=5), modes)
def test_any_junk_in_variables_is_answered(variables: dict[str, Any], mode: Mode) -> None:
    graph = Family("me/x", {"me/x": Node("me/x", None, ("llama-3.2", "gemma-terms-2025-03-24"))})
    decision = judge(KB, graph, Use(mode=mode, purpose=Purpose.COMMERCIAL, variables=variables))
    assert isinstance(decision.to_json(), dict)


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">=", "in", "not_in", "overlaps", "before", "after"])
def test_no_comparison_with_a_missing_variable_is_decided(operator: str) -> None:
    value: Any = {"before": "2026-01-01", "after": "2026-01-01"}.get(operator, 5)
    facts = Facts({})
    assert compiled({"var": "org.mau", "op": operator, "value": value})(facts) is None
    assert "org.mau" in facts.missing
