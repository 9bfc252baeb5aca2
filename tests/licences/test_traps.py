"""Traps into which readers of licences fall; each test is one that the knowledge base must not fall into."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from ecotone import licences
from ecotone.licences import Edge, Family, KnowledgeBase, Node, Use, check_card, check_expression, identify, judge
from ecotone.licences.composition import UNTOLD
from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
FILES = sorted(Path(licences.__file__).parent.glob("entries/*.yaml"))
OPENAI = "openai-services-agreement-2026-01-01"
ANTHROPIC = "anthropic-commercial-2025-06-17"
GEMINI = "gemini-api-additional-2025-05-20"
MISTRAL = "mistral-la-plateforme-2025-02-06"
DEEPSEEK = "deepseek-open-platform-2026-04-29"
BELOW = {f"org.mau_at.{m}": 1 for m in ("2023-06", "2024-03", "2024-06", "2024-08", "2024-11", "2025-03")}


def family(own: tuple[str, ...], *parents: tuple[str, tuple[str, ...], Relation], kind: str = "weights") -> Family:
    nodes = {"me/x": Node("me/x", instruments=own, kind=kind)}
    nodes |= {name: Node(name, instruments=instruments) for name, instruments, _ in parents}
    return Family("me/x", nodes, tuple(Edge("me/x", name, relation) for name, _, relation in parents))


def use(mode: str = "serve_api", purpose: str = "commercial", declared: str | None = None, **told: Any) -> Use:
    variables = {name.replace("__", "."): value for name, value in told.items()}
    return Use(mode=Mode(mode), purpose=Purpose(purpose), declared_licence=declared, variables=BELOW | variables)


def verdict(own: str, asked: Use, kind: str = "weights") -> Verdict:
    return judge(KB, family((own,), kind=kind), asked).verdict


def publish(own: str, *parents: tuple[str, tuple[str, ...], Relation], **told: Any) -> Any:
    return judge(KB, family((own,), *parents), use("publish_weights", "noncommercial", declared=own, **told))


def test_t1_users_at_release_or_continuously() -> None:
    big_today = {**dict.fromkeys(BELOW, 100000000), "org.mau": 800_000_000, "product.mau": 800_000_000}
    asked = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables=big_today)
    assert verdict("llama-3.1", asked).passes
    assert verdict("qwen-license-2024", asked) is Verdict.ASK_LICENCE
    big_then = {**dict.fromkeys(BELOW, 800000000), "org.mau": 1, "product.mau": 100_000_000}
    asked = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables=big_then)
    assert verdict("llama-3.1", asked) is Verdict.ASK_LICENCE
    assert verdict("qwen-license-2024", asked).passes


def test_t1_todays_users_never_stand_for_those_of_a_release_month() -> None:
    asked = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables={"org.mau": 5, "product.mau": 5})
    assert verdict("llama-2", asked) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("licence", "place", "modality", "actor", "expected"),
    [
        ("llama-3.2", "US", ["text", "image"], "licensee", True),
        ("llama-3.2", "DE", ["text", "image"], "licensee", False),
        ("llama-3.2", "EU", ["text", "image"], "licensee", False),
        ("llama-3.2", "de", ["text"], "licensee", True),
        ("llama-3.2", "DE", ["text", "image"], "recipient_of_integrated_product", True),
        ("llama-3.1", "DE", ["text", "image"], "licensee", True),
        ("llama-3.3", "DE", ["text"], "licensee", True),
        ("llama-4", "DE", ["text", "image"], "licensee", False),
        ("llama-4", "CH", ["text", "image"], "licensee", True),
    ],
)
def test_t4_the_clause_on_europe_asks_where_the_licensee_sits_not_where_users_are(
    licence: str, place: str, modality: list[str], actor: str, expected: bool
) -> None:
    told = {"org.principal_place": place, "model.modality": modality, "actor": actor, "territory": ["DE"]}
    found = judge(KB, family((licence,)), use(**{k.replace(".", "__"): v for k, v in told.items()})).verdict
    assert found.passes if expected else found is Verdict.DENY


@pytest.mark.parametrize(
    ("name", "status"), [("Llama-support", "kept"), ("support-Llama-8B", "missing"), ("llama-support", "missing")]
)
def test_t6_the_name_begins_with_the_word_as_written(name: str, status: str) -> None:
    nodes = {f"Llama/{name}": Node(f"Llama/{name}", instruments=("llama-3.1",)), "p": Node("p", None, ("llama-3.1",))}
    graph = Family(f"Llama/{name}", nodes, (Edge(f"Llama/{name}", "p", Relation.FINETUNE),))
    decision = judge(KB, graph, use("publish_weights", "noncommercial", declared="llama3.1"))
    assert [d.status for d in decision.duties if d.duty == "name_prefix"] == [status]


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("llama-2", Verdict.DENY), ("llama-3", Verdict.DENY), ("llama-3.1", Verdict.ALLOW_WITH_DUTIES)],
)
def test_t7_outputs_may_improve_other_models_since_3_1(licence: str, expected: Verdict) -> None:
    asked = use("train_on_outputs", target_model="other_llm", target__distributed=True)
    assert verdict(licence, asked) is expected


def test_t8_two_names_that_both_must_come_first(tmp_path: Any) -> None:
    for entry in KB.entries.values():
        source = next(f for f in FILES if f"\nid: {entry.id}\n" in f.read_text())
        (tmp_path / source.name).write_text(source.read_text())
    (tmp_path / "positions.yml").write_text((FILES[0].parent / "positions.yml").read_text())
    other = next(f for f in FILES if f.stem == "llama-3.1").read_text()
    other = other.replace("id: llama-3.1\n", "id: other-name\n").replace(
        "text: Llama, position", "text: Alpaka, position"
    )
    (tmp_path / "other.yaml").write_text(
        other.replace("outbound: {derivative: keep_agreement", "outbound: {derivative: own_terms")
    )
    knowledge = KnowledgeBase.load(tmp_path)
    both = family(("llama-3.1",), ("a", ("llama-3.1",), Relation.MERGE), ("b", ("other-name",), Relation.MERGE))
    decision = judge(knowledge, both, use("publish_weights", "noncommercial", declared="LicenseRef-llama-3.1"))
    assert decision.verdict is Verdict.DENY
    assert any(r.fact == "name_prefix" for r in decision.reasons)
    assert any("without" in way.change for way in decision.would_allow)
    alone = family(("llama-3",), ("a", ("llama-3",), Relation.MERGE))
    assert judge(knowledge, alone, use("publish_weights", "noncommercial", declared="llama3")).verdict.passes


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("deepseek-1.0", {"include_licence", "flow_down_use"}),
        ("gemma-terms-2024-04-01", {"include_licence", "flow_down_use"}),
        ("creativeml-openrail-m", {"include_licence", "flow_down_use", "keep_notices"}),
        ("creativeml-openrail++-m", {"include_licence", "flow_down_use", "keep_notices"}),
        ("bigscience-rail-1.0", {"include_licence", "flow_down_use", "use_latest"}),
        ("bigcode-openrail-m-1", {"include_licence", "flow_down_use", "document_changes"}),
        ("tencent-hunyuan-3d-2.0", {"include_licence", "flow_down_use"}),
        ("mg-by-2.0", {"include_licence", "keep_notices"}),
        ("openatom-model-1.0", {"keep_notices"}),
    ],
)
def test_t10_hosting_is_distribution_in_some_texts(licence: str, expected: set[str]) -> None:
    """A host who thinks that nothing is distributed ships no licence and binds no user."""
    told = {"territory": ["US"], "org__mau_at__2024-12": 1}
    asked = use(**{name.replace("org__mau_at__", "org.mau_at."): value for name, value in told.items()})
    found = {d.duty for d in judge(KB, family((licence,)), asked).duties}
    assert expected <= found
    assert "notice_file" not in found


def test_t10_hosting_is_no_distribution_in_others() -> None:
    hosting = {e.id for e in KB.entries.values() if "hosted_service" in e.definitions.distribution_includes}
    assert not hosting & {"GPL-3.0-only", "llama-3.1", "Apache-2.0", "MIT", "OpenMDW-1.0"}
    for licence in ("GPL-3.0-only", "Apache-2.0", "OpenMDW-1.0"):
        assert not judge(KB, family((licence,)), use()).duties, licence


def test_t12_a_classifier_made_from_outputs_is_no_derivative_where_similarity_is_asked() -> None:
    made = family(("MIT",), ("google/gemma-2b", ("gemma-terms-2025-03-24",), Relation.DISTILLED_OUTPUTS))
    similar = judge(KB, made, use("publish_weights", "noncommercial", declared="mit", target_model="similar"))
    assert similar.verdict is Verdict.DENY
    inside = use("publish_weights", "noncommercial", declared="mit", target_model="classifier_internal")
    assert judge(KB, made, inside).verdict is Verdict.ALLOW


@pytest.mark.parametrize("parent", ["llama-2", "llama-3", "llama-3.1", "llama-3.2", "llama-3.3", "llama-4"])
@pytest.mark.parametrize("label", ["MIT", "Apache-2.0", "GPL-3.0-only", "CC-BY-NC-4.0"])
def test_t13_t14_a_llama_derivative_keeps_its_agreement_whatever_the_label(parent: str, label: str) -> None:
    decision = publish(label, ("meta/base", (parent,), Relation.QUANTISED))
    assert decision.verdict is Verdict.DENY
    assert decision.reasons[0].clause.startswith("1.b.i")
    assert decision.would_allow


def test_t14_the_refusal_of_mit_on_llama_2_names_1_b_i_and_the_way_out() -> None:
    decision = publish("MIT", ("meta-llama/Llama-2-7b", ("llama-2",), Relation.FINETUNE))
    assert (decision.reasons[0].entry, decision.reasons[0].clause) == ("llama-2", "1.b.i")
    assert "llama2" in decision.would_allow[0].change
    assert publish("llama-2", ("meta-llama/Llama-2-7b", ("llama-2",), Relation.FINETUNE)).verdict.passes


def test_t14_offering_mit_as_a_choice_is_offering_mit() -> None:
    child = family(("llama-2",), ("meta-llama/Llama-2-7b", ("llama-2",), Relation.FINETUNE))
    for declared in ("MIT OR LicenseRef-llama-2", "LicenseRef-llama-2 OR MIT"):
        asked = use("publish_weights", "noncommercial", declared=declared)
        assert judge(KB, child, asked).verdict is Verdict.DENY
    both = use("publish_weights", "noncommercial", declared="MIT AND LicenseRef-llama-2")
    assert judge(KB, child, both).verdict.passes


def test_t15_a_frozen_noncommercial_tower_binds() -> None:
    tower = family(("MIT",), ("nc/tower", ("CC-BY-NC-4.0",), Relation.COMPONENT_OF))
    decision = judge(KB, tower, use())
    assert decision.verdict is Verdict.DENY
    assert decision.reasons[0].path == ("component_of",)


def test_t17_a_family_name_answers_nothing() -> None:
    for name in ("mistral", "qwen", "deepseek", "falcon", "nvidia", "llama", "openrail", "cc", "gpl"):
        assert identify(KB, {"license": name}).instruments == ("unknown",)
        assert identify(KB, {"license": "other", "license_name": name}).instruments == ("unknown",)


def test_t19_a_policy_that_moves_is_answered_with_its_pinned_date() -> None:
    for licence in ("llama-3.1", "gemma-terms-2025-03-24"):
        assert any("latest version" in w for w in judge(KB, family((licence,)), use()).warnings)


def test_t24_restricted_uses_differ() -> None:
    military = use(use_tags=["Military"])
    assert verdict("deepseek-1.0", military) is Verdict.DENY
    assert verdict("llama-3.1", military) is Verdict.DENY
    assert verdict("creativeml-openrail-m", military).passes


def test_t27_a_suit_ends_the_patent_licence_or_everything() -> None:
    suing = use(patent_suit_over_work=True, ip_suit_over_materials_or_outputs=True)
    assert verdict("Apache-2.0", suing) is Verdict.ALLOW
    assert verdict("llama-3.1", suing) is Verdict.DENY


def test_t29_the_tier_decides_what_may_be_sent() -> None:
    for terms in (GEMINI, MISTRAL):
        assert verdict(terms, use("run"), "api") is Verdict.UNKNOWN
        assert verdict(terms, use("run", account__tier="paid"), "api").passes
        confidential = use("run", account__tier="free", use_tags=["confidential"])
        assert verdict(terms, confidential, "api") is Verdict.DENY
    for territory in (["NO"], ["uk"], ["worldwide"], ["EU"]):
        asked = use(account__tier="free", territory=territory)
        assert verdict(GEMINI, asked, "api") is Verdict.DENY
    assert verdict(GEMINI, use(account__tier="free", territory=["US"]), "api").passes
    assert verdict(GEMINI, use(account__tier="free", territory=["Germany"]), "api") is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("terms", "target", "expected"),
    [
        (OPENAI, "similar", Verdict.DENY),
        (OPENAI, "classifier_internal", Verdict.ALLOW),
        (OPENAI, None, Verdict.UNKNOWN),
        (ANTHROPIC, "classifier_internal", Verdict.DENY),
        (DEEPSEEK, "similar", Verdict.ALLOW),
    ],
)
def test_t30_data_that_a_provider_generated_brings_its_terms(terms: str, target: str | None, expected: Verdict) -> None:
    nodes = {
        "me/x": Node("me/x", instruments=("MIT",)),
        "data": Node("data", instruments=("MIT",), kind="dataset"),
        "api": Node("api", instruments=(terms,), kind="api"),
    }
    edges = (Edge("me/x", "data", Relation.TRAINED_ON), Edge("data", "api", Relation.GENERATED_BY))
    told = {"target__distributed": False} | ({"target_model": target} if target else {})
    decision = judge(KB, Family("me/x", nodes, edges), use("run", **told))
    assert decision.verdict is expected
    assert judge(
        KB, Family("me/x", nodes, edges), use("run", **told), {"api_terms_bind_downstream": "no"}
    ).verdict.passes


def test_t31_terms_that_have_ended_say_nothing_of_a_later_call(tmp_path: Any) -> None:
    for file in FILES:
        (tmp_path / file.name).write_text(
            file.read_text().replace("{from: 2026-01-01, until: null}", "{from: 2026-01-01, until: 2026-06-30}")
        )
    (tmp_path / "positions.yml").write_text((FILES[0].parent / "positions.yml").read_text())
    knowledge = KnowledgeBase.load(tmp_path)
    api = family((OPENAI,), kind="api")
    then = Use(mode=Mode.RUN, purpose=Purpose.COMMERCIAL, date=datetime.date(2026, 5, 1))
    later = Use(mode=Mode.RUN, purpose=Purpose.COMMERCIAL, date=datetime.date(2026, 7, 1))
    assert judge(knowledge, api, then).verdict.passes
    assert judge(knowledge, api, later).verdict is Verdict.UNKNOWN


def test_t32_a_text_without_a_clause_is_unknown_and_not_free() -> None:
    asked = use("train_on_outputs", target_model="similar", account__tier="paid")
    assert verdict(MISTRAL, asked, "api") is Verdict.UNKNOWN


def test_t34_one_way_doors() -> None:
    assert publish("GPL-3.0-only", ("p", ("Apache-2.0",), Relation.FINETUNE)).verdict.passes
    assert publish("Apache-2.0", ("p", ("GPL-3.0-only",), Relation.FINETUNE)).verdict is Verdict.DENY
    assert publish("GPL-3.0-only", ("p", ("CC-BY-SA-4.0",), Relation.FINETUNE)).verdict.passes
    assert publish("CC-BY-SA-4.0", ("p", ("GPL-3.0-only",), Relation.FINETUNE)).verdict is Verdict.DENY
    assert publish("MIT", ("p", ("CC-BY-SA-4.0",), Relation.FINETUNE)).verdict is Verdict.DENY


def test_t39_a_missing_variable_is_named_and_nonsense_is_missing() -> None:
    for nonsense in ("many", float("nan"), -1, True, [5]):
        told = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, variables={"org.mau_at.2024-06": nonsense})
        decision = judge(KB, family(("llama-3.1",)), told)
        assert decision.verdict is Verdict.UNKNOWN, nonsense
        assert decision.to_json()["missing"] == ["org.mau_at.2024-06"]


def test_t39_what_another_fact_has_decided_is_not_missing() -> None:
    asked = use(org__principal_place=None)
    assert judge(KB, family(("llama-3.2",)), asked).to_json()["missing"] == ["model.modality", "org.principal_place"]


def test_t42_minors_and_medicine() -> None:
    for tag in ("minors", "medical"):
        assert verdict(GEMINI, use(account__tier="paid", use_tags=[tag]), "api") is Verdict.DENY


def test_a_quantised_finetune_is_a_finetune_first() -> None:
    """Under the milder position on quantising, the fine-tune on the way still needs its name."""
    nodes = {n: Node(n, instruments=("llama-3.1",)) for n in ("me/q", "ft", "base")}
    edges = (Edge("me/q", "ft", Relation.QUANTISED), Edge("ft", "base", Relation.FINETUNE))
    asked = use("publish_weights", "noncommercial", declared="llama3.1")
    decision = judge(KB, Family("me/q", nodes, edges), asked, {"transform_is_new_model": "no"})
    assert "name_prefix" in {d.duty for d in decision.duties}
    direct = Family("me/q", nodes, (Edge("me/q", "base", Relation.QUANTISED),))
    decision = judge(KB, direct, asked, {"transform_is_new_model": "no"})
    assert "name_prefix" not in {d.duty for d in decision.duties}


def test_a_mirror_is_no_derivative() -> None:
    mirror = publish("llama-3.1", ("meta/base", ("llama-3.1",), Relation.MIRROR_OF))
    assert mirror.verdict.passes
    assert "name_prefix" not in {d.duty for d in mirror.duties}


@pytest.mark.parametrize("mode", ["publish_weights", "serve_api"])
def test_nothing_of_a_hidden_parents_text_is_told(mode: str) -> None:
    for licence in ("llama-2", "llama-3.1", "gemma-terms-2025-03-24", "GPL-3.0-only", "llama-1-research"):
        nodes = {"a": Node("a", instruments=("MIT",)), "secret/p": Node("secret/p", None, (licence,), visible=False)}
        graph = Family("a", nodes, (Edge("a", "secret/p", Relation.FINETUNE),))
        declared = "mit" if mode == "publish_weights" else None
        asked = Use(mode=Mode(mode), purpose=Purpose.COMMERCIAL, declared_licence=declared)
        decision = judge(KB, graph, asked)
        told = str(decision.to_json())
        for word in ("secret/p", f"'{licence}'", f"'{licence} ", KB.entry(licence).title, KB.entry(licence).expression):
            assert word not in told, (licence, word)
        if not decision.verdict.passes:
            assert UNTOLD in told


def test_a_hidden_parents_kind_of_licence_is_not_told_by_the_position_it_asks_for() -> None:
    nodes = {"a": Node("a", instruments=("MIT",)), "secret/p": Node("secret/p", None, ("CC-BY-NC-4.0",), visible=False)}
    graph = Family("a", nodes, (Edge("a", "secret/p", Relation.FINETUNE),))
    asked = Use(mode=Mode.RUN, purpose=Purpose.INTERNAL_COMMERCIAL)
    decision = judge(KB, graph, asked)
    assert not decision.verdict.passes and any(r.entry == "hidden" for r in decision.reasons)
    assert "nc_" not in str(decision.to_json())


def test_a_suspected_parent_gives_a_second_answer() -> None:
    nodes = {"a": Node("a", instruments=("MIT",)), "nc": Node("nc", instruments=("CC-BY-NC-4.0",))}
    graph = Family("a", nodes, (Edge("a", "nc", Relation.FINETUNE, EdgeStatus.SUSPECTED),))
    decision = judge(KB, graph, use())
    assert decision.verdict is Verdict.ALLOW
    assert any(d["position"] == "suspected ancestry" and d["verdict"] is Verdict.DENY for d in decision.disputed)


def test_dataset_terms_follow_the_organisations_position() -> None:
    trained = family(("MIT",), ("data", ("CC-BY-NC-4.0",), Relation.TRAINED_ON))
    assert judge(KB, trained, use(), {"dataset_propagation": "none"}).verdict is Verdict.ALLOW
    assert judge(KB, trained, use()).verdict.passes
    assert judge(KB, trained, use(), {"dataset_propagation": "full"}).verdict is Verdict.DENY
    assert any(d["position"] == "dataset_propagation" for d in judge(KB, trained, use()).disputed)


def test_a_card_alone_says_nothing_of_its_parents() -> None:
    card = {"license": "mit", "base_model": "meta-llama/Llama-2-7b", "datasets": ["some/data"]}
    assert check_card(KB, card, use()).verdict is Verdict.UNKNOWN
    known = {"meta-llama/Llama-2-7b": ("llama-2",)}
    publishing = use("publish_weights", "noncommercial", declared="mit")
    assert check_card(KB, card, publishing, known=known).verdict is Verdict.DENY
    assert check_card(KB, {"license": "apache-2.0"}, use()).verdict is Verdict.ALLOW
    assert check_card(KB, {"license": "cc-by-nc-4.0", "base_model": 7}, use()).verdict is Verdict.DENY


def test_expressions_know_our_symbols() -> None:
    found = check_expression(KB, "mit OR (apache-2.0 and licenseref-llama-2)")
    assert found.normalised == "MIT OR (Apache-2.0 AND LicenseRef-llama-2)"
    assert found.entries == ("MIT", "Apache-2.0", "llama-2")
    assert found.branches == (("MIT",), ("Apache-2.0", "llama-2"))
    assert check_expression(KB, "MIT AND Nobody-1.0").unknown == ("Nobody-1.0",)
    assert check_expression(KB, "MIT AND (").error
    assert check_expression(KB, "(" * 3000).error


def test_the_milder_branch_of_a_choice_is_taken_wherever_it_stands() -> None:
    for text in ("GPL-3.0-only OR MIT", "MIT OR GPL-3.0-only"):
        assert identify(KB, {"license": text}).instruments == ("MIT",)
    assert identify(KB, {"license": "MIT AND Nobody-1.0"}).instruments == ("unknown",)
    assert identify(KB, {"license": "GPL-3.0-only WITH Classpath-exception-2.0"}).instruments == ("unknown",)
