"""The graph of a whole hub answers as each family alone does, and a change reaches all that it concerns, no more."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.licences import Edge, Family, KnowledgeBase, Node, Use, inherited, judge
from ecotone.licences.composition import Composition, compose
from ecotone.licences.evaluate import PUBLISHING
from ecotone.licences.graph import FamilyGraph
from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
ENTRIES = sorted(e.id for e in KB.entries.values() if e.kind != "policy")
NAMES = [f"n{i}" for i in range(6)]
POSITIONS: list[dict[str, str]] = [
    {},
    {"dataset_propagation": "full"},
    {"dataset_propagation": "none", "adapter_is_derivative": "no"},
    {"api_terms_bind_downstream": "no", "transform_is_new_model": "no"},
]
kinds = st.sampled_from(["weights", "weights", "weights", "dataset", "api", "code"])
told: Any = st.sampled_from([{}, {}, {"model.modality": ["text"]}, {"model.modality": ["text", "image"]}])
statuses = st.sampled_from([EdgeStatus.DECLARED] * 5 + [EdgeStatus.SUSPECTED, EdgeStatus.REFUTED])
licences = st.lists(st.sampled_from([*ENTRIES, "never-heard-of"]), max_size=2).map(tuple)
uses = st.builds(
    Use,
    mode=st.sampled_from(list(Mode)),
    purpose=st.sampled_from(list(Purpose)),
    modified=st.booleans(),
    declared_licence=st.sampled_from([None, "mit", "cc-by-sa-4.0", "gpl-3.0", "llama3.1"]),
    variables=st.sampled_from([{}, {"target_model": "classifier_internal"}, {"org.mau_at.2024-06": 5}]),
)


@st.composite
def nodes(draw: st.DrawFn) -> list[Node]:
    return [Node(n, instruments=draw(licences), kind=draw(kinds), facts=draw(told)) for n in NAMES]


@st.composite
def edges(draw: st.DrawFn, cyclic: bool = False) -> list[Edge]:
    found = draw(st.lists(st.tuples(*[st.integers(0, 5)] * 2, st.sampled_from(list(Relation)), statuses), max_size=9))
    return [
        Edge(NAMES[a], NAMES[b], relation, status) for a, b, relation, status in found if a < b or (cyclic and a != b)
    ]


def graph_of(found: list[Node], connected: list[Edge], use: Use, positions: dict[str, str]) -> FamilyGraph:
    target = use.variables.get("target_model")
    publishing = use.mode in PUBLISHING
    return FamilyGraph.of(
        KB, found, connected, positions=positions, publishing=publishing, target_model=str(target) if target else None
    )


def family_of(subject: str, found: list[Node], connected: list[Edge]) -> Family:
    return Family(subject, {n.id: n for n in found}, tuple(connected))


def bound(composition: Composition) -> set[tuple[Any, ...]]:
    return {(b.entry.id, b.facts, b.objects, b.through_outputs) for b in composition.inherited}


@settings(max_examples=250, deadline=None)
@given(nodes(), edges(), uses, st.sampled_from(POSITIONS))
def test_every_node_of_the_graph_has_the_verdict_of_its_own_family(
    found: list[Node], connected: list[Edge], use: Use, positions: dict[str, str]
) -> None:
    graph = graph_of(found, connected, use, positions)
    verdicts = graph.verdicts(use)
    for node in found:
        family = family_of(node.id, found, connected)
        assert verdicts[graph.legal_class(node.id)] is graph.verdict(node.id, use)
        assert graph.verdict(node.id, use) is judge(KB, family, use, positions).verdict, node.id
        if use.mode not in PUBLISHING and not positions and not use.variables:
            assert graph.inherited(node.id) == inherited(KB, family)


@settings(max_examples=150, deadline=None)
@given(nodes(), edges(cyclic=True), uses)
def test_a_cycle_is_answered_no_milder_than_its_families_and_with_the_same_texts(
    found: list[Node], connected: list[Edge], use: Use
) -> None:
    graph = graph_of(found, connected, use, {})
    for node in found:
        family = family_of(node.id, found, connected)
        assert graph.verdict(node.id, use).rank <= judge(KB, family, use).verdict.rank
        if use.mode not in PUBLISHING and not use.variables:
            assert set(graph.inherited(node.id)) >= set(inherited(KB, family))


@settings(max_examples=150, deadline=None)
@given(nodes(), edges(cyclic=True), st.lists(st.tuples(st.integers(0, 5), licences, edges(cyclic=True)), max_size=4))
def test_a_graph_that_was_changed_is_the_graph_that_is_made_anew(
    found: list[Node], connected: list[Edge], changes: list[tuple[int, tuple[str, ...], list[Edge]]]
) -> None:
    """A change that reached too little would leave somebody serving what a new parent forbids."""
    graph = FamilyGraph.of(KB, found, connected)
    for at, licence, others in changes:
        name = NAMES[at]
        changed = Node(name, instruments=licence, kind=found[at].kind, facts=found[at].facts)
        found = [*found[:at], changed, *found[at + 1 :]]
        own = [e for e in others if e.child == name]
        connected = [e for e in connected if e.child != name] + own
        graph.put(changed, own)
        anew = FamilyGraph.of(KB, found, connected)
        assert [graph.inherited(n) for n in NAMES] == [anew.inherited(n) for n in NAMES]
        use = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)
        assert [graph.verdict(n, use) for n in NAMES] == [anew.verdict(n, use) for n in NAMES]


@settings(max_examples=60, deadline=None)
@given(nodes(), edges())
def test_what_a_walk_finds_does_not_depend_on_the_order_of_edges(found: list[Node], connected: list[Edge]) -> None:
    one = compose(KB, family_of("n0", found, connected))
    other = compose(KB, family_of("n0", found, connected[::-1]))
    assert bound(one) == bound(other)


USE = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)


def line(length: int, licence: str = "Apache-2.0") -> tuple[list[Node], list[Edge]]:
    found = [Node("n0", instruments=(licence,))] + [Node(f"n{i}", instruments=("MIT",)) for i in range(1, length)]
    return found, [Edge(f"n{i}", f"n{i - 1}", Relation.FINETUNE) for i in range(1, length)]


def test_a_new_licence_at_the_root_reaches_every_descendant() -> None:
    graph = FamilyGraph.of(KB, *line(2000))
    assert graph.verdict("n1999", USE).passes
    assert graph.put(Node("n0", instruments=("CC-BY-NC-4.0",))) == 2000
    assert graph.verdict("n1999", USE) is Verdict.DENY


def test_a_change_stops_where_nothing_changes() -> None:
    found, connected = line(2000)
    found[5] = Node("n5", instruments=("CC-BY-NC-4.0",))
    found[3] = Node("n3", instruments=("CC-BY-NC-4.0",))
    graph = FamilyGraph.of(KB, found, connected)
    assert graph.put(Node("n5", instruments=("MIT",))) == 2  # below, the older one binds as before
    assert graph.put(Node("n1999", instruments=("GPL-3.0-only",))) == 1
    assert graph.put(Node("alone", instruments=("MIT",))) == 1


def test_a_merge_of_ten_thousand_parents_is_answered_at_once() -> None:
    some = ("MIT", "Apache-2.0", "llama-2", "gemma-terms-2025-03-24")
    found = [Node(f"p{i}", instruments=(some[i % 4],)) for i in range(10_000)] + [Node("m", instruments=("MIT",))]
    connected = [Edge("m", f"p{i}", Relation.MERGE) for i in range(10_000)]
    began = time.thread_time()
    graph = FamilyGraph.of(KB, found, connected)
    assert set(graph.inherited("m")) == set(some)
    assert len(graph.verdicts(USE)) == 5
    assert time.thread_time() - began < 5


def test_a_cycle_is_found_and_its_members_share_what_binds_one_of_them() -> None:
    found, connected = line(4)
    connected.append(Edge("n1", "n3", Relation.MERGE))
    found[2] = Node("n2", instruments=("CC-BY-NC-4.0",))
    graph = FamilyGraph.of(KB, found, connected)
    assert [graph.cyclic(n.id) for n in found] == [False, True, True, True]
    assert graph.verdict("n0", USE).passes
    assert all(graph.verdict(f"n{i}", USE) is Verdict.DENY for i in (1, 2, 3))


def test_a_parent_that_is_no_node_is_unknown() -> None:
    graph = FamilyGraph.of(KB, [Node("a", instruments=("MIT",))], [Edge("a", "gone", Relation.FINETUNE)])
    assert graph.verdict("a", USE) is Verdict.UNKNOWN


def test_a_use_of_the_other_reading_is_refused() -> None:
    graph = FamilyGraph.of(KB, *line(2))
    with pytest.raises(ValueError, match="publishes"):
        graph.verdict("n1", Use(mode=Mode.PUBLISH_WEIGHTS, purpose=Purpose.COMMERCIAL))
