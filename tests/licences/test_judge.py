"""The licence engine: what experts agree on, and that no label, graph or silence turns a no into a yes."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.licences import (
    Decision,
    Edge,
    Family,
    KnowledgeBase,
    Node,
    Use,
    identify,
    inherited,
    judge,
    legal_class,
    outbound,
)
from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
OPENAI = "openai-services-agreement-2026-01-01"
GEMINI = "gemini-api-additional-2025-05-20"
LICENCES = sorted(e.id for e in KB.entries.values() if e.kind not in ("policy", "api_terms"))


def family(own: tuple[str, ...], *parents: tuple[str, tuple[str, ...], Relation], kind: str = "weights") -> Family:
    nodes = {"me/x": Node("me/x", instruments=own, kind=kind)}
    nodes |= {name: Node(name, instruments=instruments) for name, instruments, _ in parents}
    return Family("me/x", nodes, tuple(Edge("me/x", name, relation) for name, _, relation in parents))


def use(mode: str = "serve_api", purpose: str = "commercial", **more: Any) -> Use:
    return Use(mode=Mode(mode), purpose=Purpose(purpose), **more)


def clauses(decision: Decision) -> set[tuple[str, str]]:
    return {(r.entry, r.clause) for r in decision.reasons}


def duties(decision: Decision) -> set[str]:
    return {d.duty for d in decision.duties}


def test_apache_serves_commercially_and_says_on_which_clause() -> None:
    decision = judge(KB, family(("Apache-2.0",)), use())
    assert decision.verdict is Verdict.ALLOW
    assert ("Apache-2.0", "2") in clauses(decision)
    assert decision.knowledge_base == KB.version


def test_a_label_removes_nothing_mit_on_a_llama_2_child() -> None:
    child = family(("MIT",), ("meta-llama/Llama-2-7b", ("llama-2",), Relation.FINETUNE))
    decision = judge(KB, child, use("publish_weights", "noncommercial", modified=True))
    assert decision.verdict is Verdict.DENY
    assert decision.reasons[0].clause == "1.b.i"
    assert decision.reasons[0].node == "meta-llama/Llama-2-7b"
    assert any("llama2" in way.change for way in decision.would_allow)
    assert decision.conflicts[0]["concluded"] == "LicenseRef-llama-2"


def test_the_right_label_on_a_llama_child_passes_once_users_are_told() -> None:
    child = family(("llama-2",), ("meta-llama/Llama-2-7b", ("llama-2",), Relation.FINETUNE))
    asked = use("publish_weights", "noncommercial", modified=True)
    assert judge(KB, child, asked).verdict is Verdict.UNKNOWN
    told = use("publish_weights", "noncommercial", modified=True, variables={"org.mau_at.2023-06": 10})
    decision = judge(KB, child, told)
    assert decision.verdict is Verdict.ALLOW_WITH_DUTIES
    assert {"include_licence", "notice_file", "comply_policy"} <= duties(decision)


@pytest.mark.parametrize(
    ("month", "users", "verdict"),
    [
        ("2024-06", 700_000_000, Verdict.ALLOW_WITH_DUTIES),
        ("2024-06", 700_000_001, Verdict.ASK_LICENCE),
        ("2026-10", 1, Verdict.UNKNOWN),  # today's users are not those of the month before release
    ],
)
def test_llama_counts_users_of_the_month_before_release_and_more_than_is_strict(
    month: str, users: int, verdict: Verdict
) -> None:
    told = use(variables={f"org.mau_at.{month}": users, "org.mau": users})
    assert judge(KB, family(("llama-3.1",)), told).verdict is verdict


def test_who_gets_a_product_is_exempt_from_the_users_limit() -> None:
    told = use(variables={"actor": "recipient_of_integrated_product"})
    assert judge(KB, family(("llama-2",)), told).verdict.passes


def test_the_assumption_below_thresholds_is_the_organisations_and_stands_in_the_answer() -> None:
    decision = judge(KB, family(("llama-3.1",)), use(), {"assume_below_thresholds": "yes"})
    assert decision.verdict is Verdict.ALLOW_WITH_DUTIES
    assert any("threshold" in str(v) for v in decision.assumptions.values())


@pytest.mark.parametrize(
    ("purpose", "verdict"),
    [
        ("commercial", Verdict.DENY),
        ("internal_commercial", Verdict.DENY),
        ("noncommercial", Verdict.ALLOW),
        ("research", Verdict.ALLOW),
    ],
)
def test_noncommercial(purpose: str, verdict: Verdict) -> None:
    decision = judge(KB, family(("CC-BY-NC-4.0",)), use(purpose=purpose))
    assert decision.verdict is verdict
    assert ("CC-BY-NC-4.0", "2(a)(1), 1(i)") in clauses(decision)
    assert verdict.passes or decision.would_allow


def test_use_inside_a_company_is_shown_under_both_positions() -> None:
    decision = judge(KB, family(("CC-BY-NC-4.0",)), use("run", "internal_commercial"))
    assert decision.verdict is Verdict.DENY
    assert any(d["position"] == "nc_internal" and d["verdict"] is Verdict.ALLOW for d in decision.disputed)


def test_a_noncommercial_parent_reaches_through_the_whole_graph() -> None:
    nodes = {n: Node(n, instruments=("MIT",)) for n in ("a", "b", "c")} | {
        "nc": Node("nc", instruments=("CC-BY-NC-4.0",))
    }
    edges = (Edge("a", "b", Relation.MERGE), Edge("b", "c", Relation.QUANTISED), Edge("c", "nc", Relation.FINETUNE))
    decision = judge(KB, Family("a", nodes, edges), use())
    assert decision.verdict is Verdict.DENY
    assert decision.reasons[0].node == "nc"
    assert decision.reasons[0].path == ("finetune", "quantised", "merge")


def test_ones_own_noncommercial_or_copyleft_model_may_be_published() -> None:
    for licence in ("CC-BY-NC-4.0", "GPL-3.0-only", "llama-1-research"):
        owner = use("publish_weights", "noncommercial", declared_licence=licence)
        assert judge(KB, family((licence,)), owner).verdict is Verdict.ALLOW


def test_who_is_not_the_publisher_may_pass_on_only_what_the_licence_lets_pass() -> None:
    """`licence check --mode publish_weights` on somebody else's model is not the publisher's question."""
    assert judge(KB, family(("llama-1-research",)), use("publish_weights")).verdict is Verdict.DENY
    assert judge(KB, family(("CC-BY-NC-4.0",)), use("publish_weights")).verdict is Verdict.DENY
    assert judge(KB, family(("Apache-2.0",)), use("publish_weights")).verdict is Verdict.ALLOW_WITH_DUTIES


def test_no_licence_and_an_unheard_one_are_unknown_and_never_permission() -> None:
    for licence in ("unknown", "none", "never-heard-of"):
        for mode in ("run", "serve_api", "publish_weights"):
            assert judge(KB, family((licence,)), use(mode, "noncommercial")).verdict is Verdict.UNKNOWN


def test_an_unknown_parent_is_unknown_but_an_unknown_dataset_is_a_possible_duty() -> None:
    child = family(("MIT",), ("who/knows", ("unknown",), Relation.FINETUNE))
    assert judge(KB, child, use()).verdict is Verdict.UNKNOWN
    trained = family(("MIT",), ("some/data", ("unknown",), Relation.TRAINED_ON))
    decision = judge(KB, trained, use())
    assert decision.verdict is Verdict.ALLOW
    assert decision.possible_duties
    assert judge(KB, trained, use(), {"dataset_propagation": "full"}).verdict is Verdict.UNKNOWN


def test_hosting_is_distribution_for_gemma_and_openrail_but_not_for_gpl() -> None:
    for licence in ("gemma-terms-2025-03-24", "creativeml-openrail-m", "bigscience-openrail-m"):
        assert {"include_licence", "flow_down_use"} <= duties(judge(KB, family((licence,)), use()))
    assert not duties(judge(KB, family(("GPL-3.0-only",)), use()))


def test_a_notice_file_is_not_asked_of_a_host_of_gemma() -> None:
    served = judge(KB, family(("gemma-terms-2025-03-24",)), use())
    published = judge(
        KB,
        family(("gemma-terms-2025-03-24",), ("google/gemma-2b", ("gemma-terms-2025-03-24",), Relation.FINETUNE)),
        use("publish_weights", "noncommercial", modified=True),
    )
    assert "notice_file" not in duties(served)
    assert "notice_file" in duties(published)


def test_training_with_outputs_differs_between_llama_versions_and_providers() -> None:
    other = {"target_model": "other_llm", "target.distributed": True}
    ask = use("train_on_outputs", "commercial", variables={**other, "org.mau_at.2023-06": 1, "org.mau_at.2024-06": 1})
    assert judge(KB, family(("llama-2",)), ask).verdict is Verdict.DENY
    newer = judge(KB, family(("llama-3.1",)), ask)
    assert newer.verdict is Verdict.ALLOW_WITH_DUTIES
    assert "name_prefix" in duties(newer)
    assert judge(KB, family((OPENAI,), kind="api"), ask).verdict is Verdict.DENY
    internal = use("train_on_outputs", variables={"target_model": "classifier_internal", "target.distributed": False})
    assert judge(KB, family((OPENAI,), kind="api"), internal).verdict is Verdict.ALLOW


def test_a_provider_by_tier() -> None:
    gemini = family((GEMINI,), kind="api")
    assert judge(KB, gemini, use()).verdict is Verdict.UNKNOWN
    assert judge(KB, gemini, use(variables={"account.tier": "paid"})).verdict.passes
    served_in_europe = use(variables={"account.tier": "free", "territory": ["DE"]})
    assert judge(KB, gemini, served_in_europe).verdict is Verdict.DENY
    medical = use(variables={"account.tier": "paid", "use_tags": ["medical"]})
    assert judge(KB, gemini, medical).verdict is Verdict.DENY


def test_a_forbidden_use_of_an_incorporated_policy() -> None:
    told = {"org.mau_at.2024-06": 1, "use_tags": ["military"]}
    decision = judge(KB, family(("llama-3.1",)), use(variables=told))
    assert decision.verdict is Verdict.DENY
    assert decision.reasons[0].entry == "llama-3.1-use-policy"
    assert decision.warnings  # the policy moves: the pinned version is named


def test_a_patent_suit_ends_the_patent_licence_alone() -> None:
    suing = use(variables={"patent_suit_over_work": True})
    assert judge(KB, family(("Apache-2.0",)), suing).verdict is Verdict.ALLOW


def test_an_adapter_file_alone_and_the_loaded_pair_give_different_answers() -> None:
    pair = family(("MIT",), ("base", ("llama-2",), Relation.ADAPTER))
    told = {"org.mau_at.2023-06": 1}
    publish = use("publish_weights", "noncommercial", variables=told, declared_licence="mit")
    assert judge(KB, pair, publish).verdict is Verdict.DENY
    assert judge(KB, pair, publish, {"adapter_is_derivative": "no"}).verdict is Verdict.ALLOW
    assert judge(KB, pair, use(variables=told)).verdict is Verdict.ALLOW_WITH_DUTIES


def test_an_invisible_parent_binds_without_being_named() -> None:
    nodes = {
        "a": Node("a", instruments=("MIT",)),
        "secret/p": Node("secret/p", instruments=("CC-BY-NC-4.0",), visible=False),
    }
    decision = judge(KB, Family("a", nodes, (Edge("a", "secret/p", Relation.FINETUNE),)), use())
    assert decision.verdict is Verdict.DENY
    told = str(decision.to_json())
    assert "secret/p" not in told
    assert "CC-BY-NC" not in str(decision.to_json()["reasons"])


def test_edge_status_decides_what_propagates() -> None:
    nodes = {"a": Node("a", instruments=("MIT",)), "nc": Node("nc", instruments=("CC-BY-NC-4.0",))}

    def verdict(status: EdgeStatus, asked: Use) -> Verdict:
        return judge(KB, Family("a", nodes, (Edge("a", "nc", Relation.FINETUNE, status),)), asked).verdict

    assert verdict(EdgeStatus.VERIFIED, use()) is Verdict.DENY
    assert verdict(EdgeStatus.REFUTED, use()) is Verdict.ALLOW
    assert verdict(EdgeStatus.SUSPECTED, use()) is Verdict.ALLOW
    assert verdict(EdgeStatus.SUSPECTED, use("publish_weights", "noncommercial")) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("MIT", "mit"),
        ("llama-2", "llama2"),
        ("CC-BY-NC-4.0", "cc-by-nc-4.0"),
        ("GPL-3.0-only", "gpl-3.0"),
    ],
)
@pytest.mark.parametrize("relation", [Relation.FINETUNE, Relation.ADAPTER])
def test_a_derivative_keeps_its_parents_licence(parent: str, expected: str, relation: Relation) -> None:
    found = outbound(KB, family(("none",), ("p", (parent,), relation)))
    assert found.licence == expected


def test_gpl_and_llama_have_no_single_outbound_licence_and_each_is_rejected_with_its_clause() -> None:
    found = outbound(
        KB, family(("none",), ("p", ("GPL-3.0-only",), Relation.MERGE), ("q", ("llama-2",), Relation.MERGE))
    )
    assert found.licence is None
    assert "LicenseRef-llama-2" in found.expression
    assert found.rejected
    assert all(r.clause for r in found.rejected)


@pytest.mark.parametrize(
    ("card", "instruments"),
    [
        ({"license": "apache-2.0"}, ("Apache-2.0",)),
        ({"license": " MIT "}, ("MIT",)),
        ({"license": "gpl-3.0"}, ("GPL-3.0-only", "GPL-3.0-or-later")),
        ({"license": "MIT OR Apache-2.0"}, ("MIT",)),
        ({"license": "MIT AND LicenseRef-llama-2"}, ("MIT", "llama-2")),
        ({"license": "other", "license_name": "llama-2"}, ("unknown",)),
        ({"license": "gpl"}, ("unknown",)),
        ({"license": 3.1}, ("unknown",)),
        ({"license": ["mit", "cc-by-nc-4.0"]}, ("MIT", "CC-BY-NC-4.0")),
        ({"license": "llama-2-use-policy"}, ("unknown",)),
        ({}, ("none",)),
        ({"license": ""}, ("none",)),
    ],
)
def test_what_a_card_declares(card: dict[str, Any], instruments: tuple[str, ...]) -> None:
    assert identify(KB, card).instruments == instruments


def test_gemma_is_the_version_of_the_day() -> None:
    assert identify(KB, {"license": "gemma"}, date="2024-06-01").instruments == ("gemma-terms-2024-04-01",)
    assert identify(KB, {"license": "gemma"}, date="2025-06-01").instruments == ("gemma-terms-2025-03-24",)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(json_values)
def test_any_junk_in_a_card_is_answered(value: Any) -> None:
    found = identify(KB, {"license": value, "license_name": value})
    assert found.instruments
    assert all(i in KB.entries for i in found.instruments)


modes = st.sampled_from([Mode.RUN, Mode.SERVE_API, Mode.EMBED_PRODUCT, Mode.FINETUNE, Mode.TRAIN_ON_OUTPUTS])
purposes = st.sampled_from(list(Purpose))
instruments = st.lists(st.sampled_from(LICENCES), min_size=1, max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(modes, purposes, instruments, st.sampled_from(LICENCES))
def test_one_more_instrument_never_improves_a_verdict(mode: Mode, purpose: Purpose, own: Any, more: str) -> None:
    before = judge(KB, family(own), Use(mode=mode, purpose=purpose)).verdict
    after = judge(KB, family((*own, more)), Use(mode=mode, purpose=purpose)).verdict
    assert after.rank <= before.rank


@settings(max_examples=60, deadline=None)
@given(modes, purposes, instruments, st.sampled_from(LICENCES), st.sampled_from([Relation.FINETUNE, Relation.MERGE]))
def test_relabelling_never_removes_what_is_inherited(
    mode: Mode, purpose: Purpose, label: Any, parent: str, relation: Relation
) -> None:
    child = family(label, ("p", (parent,), relation))
    assert parent in inherited(KB, child)
    parents_own = judge(KB, family((parent,)), Use(mode=mode, purpose=purpose, modified=True)).verdict
    assert judge(KB, child, Use(mode=mode, purpose=purpose)).verdict.rank <= max(
        parents_own.rank, Verdict.ALLOW_WITH_DUTIES.rank
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_graph_with_cycles_ends_and_equal_classes_give_equal_verdicts(data: st.DataObject) -> None:
    names = ["a", "b", "c", "d", "e"]
    nodes = {n: Node(n, instruments=(data.draw(st.sampled_from(LICENCES)),)) for n in names}
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=9))
    edges = tuple(
        Edge(c, p, data.draw(st.sampled_from([Relation.FINETUNE, Relation.MERGE, Relation.TRAINED_ON])))
        for c, p in pairs
    )
    first = Family("a", nodes, edges)
    renamed = Family(
        "z",
        {"z" if n == "a" else n: Node("z" if n == "a" else n, instruments=x.instruments) for n, x in nodes.items()},
        tuple(
            Edge("z" if e.child == "a" else e.child, "z" if e.parent == "a" else e.parent, e.relation) for e in edges
        ),
    )
    assert legal_class(KB, first) == legal_class(KB, renamed)
    assert judge(KB, first, use()).verdict is judge(KB, renamed, use()).verdict


def test_a_verdict_takes_well_under_a_millisecond_and_the_knowledge_base_loads_once() -> None:
    began = time.thread_time()
    assert KnowledgeBase.load() is KB
    graph = family(("Apache-2.0",), ("p", ("MIT",), Relation.FINETUNE), ("q", ("CC-BY-4.0",), Relation.MERGE))
    for _ in range(50):
        judge(KB, graph, use())
    assert (time.thread_time() - began) / 50 < 0.02  # a bound against runaway work, not a benchmark
