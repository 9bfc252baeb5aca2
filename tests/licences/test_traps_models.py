"""Traps of outputs, derivatives, names and texts in model licences. Each test carries its number (T1 to T42)."""

import re
from pathlib import Path

import pytest

from ecotone.catalog.starter import load_starter
from ecotone.licences import Edge, Family, KnowledgeBase, Node, Use, identify, judge, legal_class, outbound
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict
from tests.licences.asked import BELOW, ENTRIES, KB, Parent, ask, duties, family, publish, use


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("tongyi-qianwen-2023", Verdict.DENY),
        ("qwen-license-2024", Verdict.ALLOW_WITH_DUTIES),
        ("stability-community-2024", Verdict.DENY),
        ("playground-v2-community", Verdict.DENY),
        ("OpenMDW-1.0", Verdict.ALLOW),
        ("fair-ai-public-1.0", Verdict.ALLOW),
        ("nvidia-open-model-2025-04-28", Verdict.ALLOW_WITH_DUTIES),
        ("hyperclova-x-seed-2025", Verdict.ALLOW_WITH_DUTIES),
    ],
)
def test_t7_t11_what_outputs_may_train(licence: str, expected: Verdict) -> None:
    """A model trained on forbidden outputs cannot be cured afterwards."""
    target = "similar" if licence in ("stability-community-2024", "playground-v2-community") else "other_llm"
    found = ask(licence, "train_on_outputs", target_model=target, target__distributed=True)
    assert found.verdict is expected


def test_t8_llama_and_hyperclova_and_exaone_cannot_share_a_name() -> None:
    """A merge of two such parents must break one of the agreements, whatever it is called."""
    pairs = [("llama-3.1", "hyperclova-x-seed-2025"), ("hyperclova-x-seed-2025", "exaone-1.1-nc")]
    for one, other in pairs:
        both = family((one,), ("a", (one,), Relation.MERGE), ("b", (other,), Relation.MERGE))
        declared = f"LicenseRef-{one} AND LicenseRef-{other}"
        asked = Use(mode=Mode.PUBLISH_WEIGHTS, purpose=Purpose.RESEARCH, declared_licence=declared, variables=BELOW)
        decision = judge(KB, both, asked, {"conflicting_clauses": "lenient"})
        assert decision.verdict is Verdict.DENY
        assert any(r.fact == "name_prefix" for r in decision.reasons)
        assert any("without" in way.change for way in decision.would_allow), (one, other)


def test_t11_who_may_use_outputs() -> None:
    """Outputs are free in some texts, bound in others, and the licensor's own in one."""
    for free in (
        "OpenMDW-1.0",
        "openmdw-1.1",
        "fair-ai-public-1.0",
        "gemma-terms-2025-03-24",
        "creativeml-openrail++-m",
    ):
        assert ask(free, "publish_outputs").verdict.passes, free
    for bound in ("llama-1-research", "exaone-1.1-nc", "chameleon-research-2024", "mg-by-nc-1.0", "opt-175b", "seer"):
        assert ask(bound, "publish_outputs").verdict is Verdict.DENY, bound
        research = ask(bound, "publish_outputs", "research").verdict
        assert research.passes, bound
    owned = ask("exaone-1.1-nc", "publish_outputs", "research")
    assert any("belong to the licensor" in r.means for r in owned.reasons)
    limited = ask("mistral-mrl-0.1", "publish_outputs")
    assert limited.verdict is Verdict.DENY
    assert "mistral-mrl-0.1:commercial" in limited.secondary_facts


@pytest.mark.parametrize(
    ("licence", "any_model"),
    [
        ("gemma-terms-2025-03-24", False),
        ("deepseek-1.0", False),
        ("creativeml-openrail++-m", False),
        ("ltxv-owl-2025-05-05", False),
        ("bigcode-openrail-m-1", True),
        ("bilibili-index-tts-2", True),
    ],
)
def test_t12_a_classifier_from_outputs_is_a_derivative_only_where_likeness_is_not_asked(
    licence: str, any_model: bool
) -> None:
    made: Parent = ("p", (licence,), Relation.DISTILLED_OUTPUTS)
    assert publish("MIT", made, told={"target_model": "similar"}).verdict is Verdict.DENY
    found = publish("MIT", made, told={"target_model": "classifier_internal"})
    assert found.verdict is (Verdict.DENY if any_model else Verdict.ALLOW)


def test_t13_own_terms_keep_the_agreement_or_nothing_at_all() -> None:
    """Apache lets another licence follow; a Stability derivative keeps its agreement; an ND derivative stays inside."""
    assert publish("MIT", ("p", ("Apache-2.0",), Relation.FINETUNE)).verdict is Verdict.ALLOW_WITH_DUTIES
    assert publish("Apache-2.0", ("p", ("stability-community-2024",), Relation.FINETUNE)).verdict is Verdict.DENY
    for none in ("mg-by-nd-1.0", "mg-by-nd-2.0"):
        assert publish(none, ("p", (none,), Relation.FINETUNE)).verdict is Verdict.DENY
        assert judge(KB, family((none,)), use("finetune", "noncommercial")).verdict.passes


def test_t15_noncommercial_data_weights_and_towers_bind_through_every_layer() -> None:
    for licence in ("exaone-1.1-nc", "flux-1-dev-nc", "stability-nc-2023-12-06", "qwen-research", "mg-by-nc-2.0"):
        merged = family(("MIT",), ("a", ("MIT",), Relation.MERGE), ("nc", (licence,), Relation.MERGE))
        decision = judge(KB, merged, use())
        assert decision.verdict is Verdict.DENY, licence
        assert decision.reasons[0].path == ("merge",)


@pytest.mark.parametrize("licence", ["stability-community-2024", "bilibili-index-tts-2", "bigcode-openrail-m-1"])
def test_t16_texts_that_name_adapters_leave_no_choice_about_the_file_alone(licence: str) -> None:
    """Under Llama the file alone is disputed; where the text names it, publishing it under MIT is a breach."""
    pair = family(("MIT",), ("base", (licence,), Relation.ADAPTER))
    asked = use("publish_weights", "noncommercial", declared_licence="mit")
    for choice in ("yes", "no"):
        assert judge(KB, pair, asked, {"adapter_is_derivative": choice}).verdict is Verdict.DENY
    silent = family(("MIT",), ("base", ("llama-3.1",), Relation.ADAPTER))
    assert judge(KB, silent, asked, {"adapter_is_derivative": "no"}).verdict is Verdict.ALLOW
    assert judge(KB, silent, use()).verdict is Verdict.ALLOW_WITH_DUTIES  # loaded together, both bind


@pytest.mark.parametrize("name", ["gemma-4", "nemotron", "falcon", "falcon-180b-tii-license", "mrl", "command-r"])
def test_t17_a_name_is_a_hint_and_answers_nothing(name: str) -> None:
    assert identify(KB, {"license": "other", "license_name": name}).instruments == ("unknown",)
    assert identify(KB, {"license": name}).instruments == ("unknown",)


def test_t17_one_family_holds_licences_that_answer_differently() -> None:
    families = {"qwen": ("qwen-license-2024", "tongyi-qianwen-2023"), "falcon": ("falcon-2-tii-1.0", "falcon-llm-1.0")}
    for name, (one, other) in families.items():
        assert {KB.entry(one).family, KB.entry(other).family} == {name}
        asked = {"target_model": "other_llm", "target__distributed": True}
        assert ask(one, "train_on_outputs", **asked).verdict is not ask(other, "train_on_outputs", **asked).verdict


def test_t18_a_pinned_revision_keeps_its_text_when_a_later_one_changes_it(tmp_path: Path) -> None:
    """Yesterday's download stays under what it was given under, and today's does not inherit the milder answer."""

    def revision(name: str, licence: str) -> Family:
        return Family("deepseek-ai/V3", {"deepseek-ai/V3": Node("deepseek-ai/V3", name, (licence,))})

    december, march = revision("a" * 40, "deepseek-1.0"), revision("b" * 40, "MIT")
    military = use(told={"use_tags": ["military"]})
    old, new = judge(KB, december, military), judge(KB, march, military)
    assert (old.verdict, new.verdict) == (Verdict.DENY, Verdict.ALLOW)
    assert old.subject["revision"] != new.subject["revision"]
    assert old.text_sha256 == {"deepseek-1.0": KB.entry("deepseek-1.0").text.sha256}
    assert legal_class(KB, december) != legal_class(KB, march)
    for file in ENTRIES.iterdir():
        text = file.read_text()
        (tmp_path / file.name).write_text(text.replace("harassment, medical,", "harassment,"))
    changed = KnowledgeBase.load(tmp_path)
    medical = use(told={"use_tags": ["medical"]})
    differing = [
        e.id
        for e in KB.entries.values()
        if e.kind == "rail"
        and judge(KB, family((e.id,)), medical).verdict is not judge(changed, family((e.id,)), medical).verdict
    ]
    assert "bigscience-rail-1.0" in differing
    assert "deepseek-1.0" not in differing
    assert legal_class(KB, december) != legal_class(changed, december)


@pytest.mark.parametrize("licence", ["falcon-2-tii-1.0", "stability-community-2024", "nvidia-open-model-2025-04-28"])
def test_t19_policies_that_move_are_named_with_the_version_that_answered(licence: str) -> None:
    assert any("latest version" in w for w in ask(licence).warnings)


def test_t20_a_notice_for_the_model_itself_is_not_one_for_derivatives() -> None:
    """NVIDIA's notice goes along with the model; Llama's and Qwen's with what is made from it too."""
    parent: Parent = ("p", ("nvidia-open-model-2025-04-28",), Relation.FINETUNE)
    derived = publish("nvidia-open-model-2025-04-28", parent)
    assert derived.verdict.passes
    assert not {"notice_file", "include_licence"} & duties(derived)
    itself = ask("nvidia-open-model-2025-04-28", "publish_weights", "noncommercial")
    assert {"notice_file", "include_licence"} <= duties(itself)
    for licence in ("llama-3.1", "qwen-license-2024"):
        assert "notice_file" in duties(publish(licence, ("p", (licence,), Relation.FINETUNE)))


@pytest.mark.parametrize(
    "other", ["creativeml-openrail-m", "bigcode-openrail-m-1", "llama-3.1", "gemma-terms-2025-03-24"]
)
def test_t33_no_single_licence_fits_gpl_with_use_restrictions(other: str) -> None:
    both = family(("none",), ("p", ("GPL-3.0-only",), Relation.MERGE), ("q", (other,), Relation.MERGE))
    found = outbound(KB, both)
    assert found.licence is None
    assert "GPL-3.0-only" in found.expression
    assert {"GPL-3.0-only", other} <= {r.licence for r in found.rejected} | ({other} - set(KB.by_hf))
    assert all(r.clause and r.means for r in found.rejected)


@pytest.mark.parametrize("library", ["LGPL-2.1-only", "LGPL-3.0-only", "MPL-2.0"])
def test_t35_a_library_may_stand_inside_a_permissive_work_but_not_become_one(library: str) -> None:
    """Whoever asks "compatible?" without the relation gets a wrong no, or a wrong yes."""
    asked = use("publish_weights", "noncommercial", declared_licence="mit")

    def verdict(licence: str, relation: Relation) -> Verdict:
        return judge(KB, family(("MIT",), ("lib", (licence,), relation)), asked).verdict

    assert verdict(library, Relation.FINETUNE) is Verdict.DENY
    assert verdict(library, Relation.COMPONENT_OF).passes
    assert verdict("GPL-3.0-only", Relation.COMPONENT_OF) is Verdict.DENY


def test_t34_gpl_2_alone_refuses_apache_and_gpl_3_takes_it() -> None:
    parent: Parent = ("p", ("Apache-2.0",), Relation.FINETUNE)
    assert publish("GPL-2.0-only", parent).verdict is Verdict.DENY
    assert publish("GPL-3.0-only", parent).verdict.passes
    for copyleft in ("GPL-2.0-only", "GPL-3.0-only"):
        assert publish("Apache-2.0", ("p", (copyleft,), Relation.FINETUNE)).verdict is Verdict.DENY


def test_t36_mit_plus_a_paragraph_is_not_mit(shared: Path) -> None:
    """The text holds all of MIT's words; whoever stops reading there misses what a big product owes."""

    def words(path: str) -> str:
        return " ".join(re.findall(r"[a-z]+", (shared / "data" / "licence" / path).read_text().lower()))

    mit = words("detection/spdx_simple/MIT.txt")
    kimi = words("detection/ai_licence_texts/kimi-k2-modified-mit.txt")
    assert mit[mit.index("permission is hereby") :] in kimi
    big = {"product__mau": 200_000_000}
    assert "display_text" in duties(ask("kimi-k2-modified-mit", **big))
    assert "display_text" not in duties(ask("MIT", **big))
    assert KB.entry("kimi-k2-modified-mit").text.sha256 != KB.entry("MIT").text.sha256
    assert identify(KB, {"license": "other", "license_name": "modified-mit"}).instruments == ("unknown",)


def test_t37_a_licence_of_code_never_fills_in_for_one_of_weights() -> None:
    """PaLM is not under MIT because somebody's re-implementation is."""
    assert "MIT" not in load_starter()["google/palm"].instruments
    nodes = {"m": Node("m", instruments=("none",)), "code": Node("code", None, ("MIT",), kind="code")}
    graph = Family("m", nodes, (Edge("m", "code", Relation.COMPONENT_OF),))
    assert judge(KB, graph, use()).verdict is Verdict.UNKNOWN
    for licence in ("soml-1.0", "hfoil-1.0", "responsible-ai-source-1.1", "CDLA-Permissive-2.0", "ODC-By-1.0"):
        found = judge(KB, family((licence,)), use())
        assert found.verdict is Verdict.UNKNOWN, licence
        assert any(r.fact == "governs" for r in found.reasons)
        assert judge(KB, family((licence,), ("p", ("MIT",), Relation.FINETUNE)), use()).verdict is Verdict.UNKNOWN
    assert ask("llama-1-research").verdict is Verdict.DENY  # GPL-3.0 of its inference code changes nothing


def test_t38_a_tag_without_a_text_leaves_duties_missing() -> None:
    """Most models on the public hub say "mit" and ship no MIT: that is a breach of its one condition."""
    parents: dict[str, set[str]] = {
        "MIT": {"include_copyright"},
        "Apache-2.0": {"include_licence"},
        "OpenMDW-1.0": {"include_licence", "include_copyright"},
        "qwen-license-2024": {"include_licence", "notice_file"},
    }
    for licence, asked in parents.items():
        parent: Parent = ("p", (licence,), Relation.FINETUNE)
        bare = publish(licence, parent, told={"files": ["README.md", "model.safetensors"]})
        assert asked <= {d.duty for d in bare.duties if d.status == "missing"}, licence
        full = publish(licence, parent, told={"files": ["README.md", "LICENSE.txt", "NOTICE"]})
        assert not {d.duty for d in full.duties if d.status == "missing"}, licence
        untold = publish(licence, parent)
        assert not asked & {d.duty for d in untold.duties if d.status == "missing"}, licence


@pytest.mark.parametrize(
    ("licence", "mode", "purpose"),
    [("flux-1-dev-nc", "publish_outputs", "commercial"), ("exaone-1.1-nc", "publish_weights", "research")],
)
def test_t41_contradicting_clauses_give_both_answers(licence: str, mode: str, purpose: str) -> None:
    """One clause gives, another takes: whoever quotes either alone misleads."""
    strict = ask(licence, mode, purpose)
    assert strict.verdict is Verdict.DENY
    assert {"position": "conflicting_clauses", "value": "lenient"}.items() <= strict.disputed[0].items()
    assert strict.disputed[0]["verdict"].passes
    lenient = judge(KB, family((licence,)), use(mode, purpose), {"conflicting_clauses": "lenient"})
    assert lenient.verdict.passes
    assert lenient.positions["conflicting_clauses"] == "lenient"


def test_every_trap_has_a_test() -> None:
    """T1 to T42 of the list of traps, none forgotten."""
    named = "\n".join(f.read_text() for f in Path(__file__).parent.glob("test_traps*.py"))
    heads = re.findall(r"^def test_((?:t\d+_)+)", named, re.M)
    found = {int(n) for head in heads for n in re.findall(r"t(\d+)_", head)}
    assert found >= set(range(1, 43)), sorted(set(range(1, 43)) - found)
