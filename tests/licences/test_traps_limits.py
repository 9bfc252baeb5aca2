"""Traps of thresholds, borders, uses and suits in model licences. Each test carries its number (T1 to T42)."""

import datetime

import pytest

from ecotone.licences import Edge, Family, Node, Use, judge
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict
from tests.licences.asked import BELOW, KB, Parent, ask, duties, family, publish, use


@pytest.mark.parametrize(
    ("licence", "variable"),
    [
        ("llama-2", "org.mau_at.2023-06"),
        ("llama-4", "org.mau_at.2025-03"),
        ("hyperclova-x-seed-2025", "org.mau_at.2025-03"),
        ("qwen-license-2024", "product.mau"),
        ("tongyi-qianwen-2023", "product.mau"),
        ("bilibili-index-tts-2", "org.mau"),
    ],
)
def test_t1_which_users_count_and_when(licence: str, variable: str) -> None:
    """Counting today's users against a release-date clause sends a company to ask for a licence it does not need."""
    everything_else = {n: 800_000_000 for n in BELOW if "mau" in n and n != variable}
    assert judge(KB, family((licence,)), use(told=everything_else)).verdict.passes
    assert judge(KB, family((licence,)), use(told={variable: 800_000_000})).verdict is Verdict.ASK_LICENCE


def test_t1_playground_counts_at_any_time_but_only_where_images_are_the_business() -> None:
    assert ask("playground-v2-community", org__mau=2_000_000).verdict.passes
    told = {"org__mau": 2_000_000, "org__core_business": ["image_generation"]}
    assert ask("playground-v2-community", **told).verdict is Verdict.ASK_LICENCE
    assert ask("playground-v2-community", **told | {"org__mau": 1_000_000}).verdict.passes


def test_t2_affiliates_count_in_some_texts_and_not_in_others() -> None:
    """The big parent of a small subsidiary closes Llama to it, but neither Qwen's product nor Hunyuan's licensee."""
    month, own = "org.mau_at.2024-12", "org.own_mau_at.2024-12"
    affiliates = {n: 800_000_000 for n in BELOW if n.startswith("org.mau_at")}
    small = affiliates | {own: 500_000}
    assert judge(KB, family(("llama-3.1",)), use(told=small)).verdict is Verdict.ASK_LICENCE
    assert judge(KB, family(("hyperclova-x-seed-2025",)), use(told=small)).verdict is Verdict.ASK_LICENCE
    assert judge(KB, family(("qwen-license-2024",)), use(told=small)).verdict.passes
    assert judge(KB, family(("tencent-hunyuan-3d-2.0",)), use(told=small)).verdict.passes
    big = affiliates | {own: 2_000_000}
    assert judge(KB, family(("tencent-hunyuan-3d-2.0",)), use(told=big)).verdict is Verdict.ASK_LICENCE
    untold = judge(KB, family(("tencent-hunyuan-3d-2.0",)), use(told={month: 2_000_000}))
    assert untold.verdict is Verdict.UNKNOWN
    assert own in untold.to_json()["missing"]


def test_t3_revenue_ends_a_licence_on_the_day_it_crosses() -> None:
    """A company that grew past the limit last month still believes what it read two years ago."""
    told = {"org.annual_revenue": {"2026-01-01": 900_000, "2026-07-01": 1_000_001}}
    before, after = datetime.date(2026, 6, 30), datetime.date(2026, 7, 1)
    stability = family(("stability-community-2024",))
    assert judge(KB, stability, use(told=told, date=before)).verdict.passes
    assert judge(KB, stability, use(told=told, date=after)).verdict is Verdict.ASK_LICENCE
    assert judge(KB, stability, use(told=told, date=datetime.date(2025, 1, 1))).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("licence", "figure", "amount", "asks"),
    [
        ("stability-community-2024", "org.annual_revenue", 1_000_000, False),
        ("stability-community-2024", "org.annual_revenue", 1_000_001, True),
        ("ltxv-owl-2025-04-17", "org.annual_revenue", 9_999_999, False),
        ("ltxv-owl-2025-05-05", "org.annual_revenue", 10_000_000, True),
        ("bilibili-index-tts-2", "org.annual_revenue", 200_000_000, True),
        ("llama-3.1", "org.annual_revenue", 10**12, False),
    ],
)
def test_t3_more_than_and_at_least_differ(licence: str, figure: str, amount: int, asks: bool) -> None:
    found = judge(KB, family((licence,)), use(told={figure: amount})).verdict
    assert found is Verdict.ASK_LICENCE if asks else found.passes


def test_t3_kimi_asks_a_display_of_the_big_and_no_licence() -> None:
    for told in ({"product.mau": 100_000_001}, {"product.monthly_revenue": 20_000_001}):
        found = judge(KB, family(("kimi-k2-modified-mit",)), use(told=told))
        assert found.verdict is Verdict.ALLOW_WITH_DUTIES
        assert [d.text for d in found.duties if d.duty == "display_text"] == ["Kimi K2"]
    edge = {"product.mau": 100_000_000, "product.monthly_revenue": 20_000_000}
    assert "display_text" not in duties(judge(KB, family(("kimi-k2-modified-mit",)), use(told=edge)))
    free = use(purpose="research", told={"product.mau": 10**9})
    assert "display_text" not in duties(judge(KB, family(("kimi-k2-modified-mit",)), free))


@pytest.mark.parametrize("place", [["DE"], ["EU"], ["uk"], ["KR"], ["US", "FR"], ["worldwide"]])
@pytest.mark.parametrize("mode", ["run", "serve_api", "publish_outputs"])
def test_t5_a_licence_that_stops_at_a_border_stops_its_outputs_too(place: list[str], mode: str) -> None:
    """A picture published in Berlin is a breach although the model ran in Singapore."""
    found = ask("tencent-hunyuan-3d-2.0", mode, territory=place)
    assert found.verdict is Verdict.DENY
    assert any(r.clause == "5.c" for r in found.reasons)
    assert ask("tencent-hunyuan-3d-2.0", mode, territory=["US", "JP"]).verdict.passes


@pytest.mark.parametrize(
    ("licence", "contains", "calls"),
    [("llama-3", True, True), ("stability-community-2024", True, True), ("llama-3.1", True, False)],
)
def test_t9_a_product_that_calls_an_endpoint_uses_the_model_but_does_not_contain_it(
    licence: str, contains: bool, calls: bool
) -> None:
    """An app on a hosted Llama 3 owes the line on its page; on Llama 3.1 it does not."""
    inside = ask(licence, "embed_product", product__access="contains")
    outside = ask(licence, "embed_product", product__access="calls_endpoint")
    assert ("display_text" in duties(inside)) is contains
    assert ("display_text" in duties(outside)) is calls
    assert "notice_file" in duties(inside)
    assert "notice_file" not in duties(outside)
    untold = ask(licence, "embed_product")
    assert duties(untold) == duties(inside)
    assert untold.assumptions["product.access"] == "contains"


def test_t21_what_a_text_encourages_is_no_duty() -> None:
    for mode in ("serve_api", "publish_weights", "embed_product"):
        found = ask("tencent-hunyuan-3d-2.0", mode, "research")
        assert found.verdict.passes
        assert "display_text" not in duties(found)
        assert not any("Powered by" in str(d.text) for d in (*found.duties, *found.possible_duties))


def test_t22_who_gets_a_finished_product_is_spared_what_binds_its_maker() -> None:
    recipient = {"actor": "recipient_of_integrated_product"}
    big = {n: 10**12 for n in BELOW if "mau" in n or "revenue" in n}
    for licence in ("llama-2", "llama-4", "stability-community-2024"):
        assert judge(KB, family((licence,)), use(told=big)).verdict is Verdict.ASK_LICENCE, licence
        assert judge(KB, family((licence,)), use(told=big | recipient)).verdict.passes, licence
    assert "register" in duties(ask("stability-community-2024", "run"))
    assert "register" not in duties(judge(KB, family(("stability-community-2024",)), use("run", told=recipient)))
    hunyuan = family(("tencent-hunyuan-3d-2.0",))
    assert "include_licence" in duties(judge(KB, hunyuan, use("embed_product")))
    assert "include_licence" not in duties(judge(KB, hunyuan, use("embed_product", told=recipient)))


def test_t23_a_restriction_that_conditions_the_grant_refuses_and_is_no_mere_duty() -> None:
    found = ask("bigcode-openrail-m-1", use_tags=["malware"])
    assert found.verdict is Verdict.DENY
    assert found.reasons[0].clause == "4"
    assert not any(d.clause == "4" for d in found.duties)
    assert ask("bigcode-openrail-m-1").verdict is Verdict.ALLOW_WITH_DUTIES


@pytest.mark.parametrize(
    ("licence", "tag", "refused"),
    [
        ("deepseek-1.0", "military", True),
        ("tencent-hunyuan-3d-2.0", "military", True),
        ("bigscience-rail-1.0", "military", False),
        ("bigscience-rail-1.0", "law_enforcement", True),
        ("bigcode-openrail-m-1", "law_enforcement", False),
        ("bigcode-openrail-m-1", "automated_justice", True),
        ("bigcode-openrail-m-1", "malware", True),
        ("creativeml-openrail++-m", "malware", False),
        ("seer", "emotion_recognition", True),
        ("opt-175b", "emotion_recognition", False),
        ("fair-ai-public-1.0-sd", "medical", True),
        ("fair-ai-public-1.0", "medical", False),
    ],
)
def test_t24_lists_of_restricted_uses_differ(licence: str, tag: str, refused: bool) -> None:
    found = ask(licence, "run", "research", use_tags=[tag]).verdict
    assert (found is Verdict.DENY) is refused


def test_t25_taking_the_guardrails_out_ends_nvidias_licence() -> None:
    """An "uncensored" fine-tune loses the right to the model it was made from."""
    parent: Parent = ("p", ("nvidia-open-model-2025-04-28",), Relation.FINETUNE)
    label = "nvidia-open-model-2025-04-28"
    removed = publish(label, parent, told={"use_tags": ["guardrail_removed"]})
    assert removed.verdict is Verdict.DENY
    assert any("2.1" in r.clause for r in removed.reasons)
    assert publish(label, parent).verdict.passes
    assert ask(label, "finetune", use_tags=["guardrail_removed"]).verdict is Verdict.DENY


def test_t26_a_copyright_suit_ends_openmdw_1_1_and_not_1_0() -> None:
    for licence, ends in (("OpenMDW-1.0", False), ("openmdw-1.1", True)):
        assert (ask(licence, copyright_suit_over_work=True).verdict is Verdict.DENY) is ends
        assert ask(licence, patent_suit_over_work=True).verdict is Verdict.DENY
        assert ask(licence).verdict.passes


@pytest.mark.parametrize(
    ("licence", "ends"),
    [
        ("Apache-2.0", False),
        ("falcon-2-tii-1.0", False),
        ("mgb-1.0", False),
        ("bigcode-openrail-m-1", True),
        ("nvidia-open-model-2025-04-28", True),
        ("hyperclova-x-seed-2025", True),
        ("openatom-model-1.0", True),
        ("mg-by-2.0", True),
        ("soml-1.0", True),
    ],
)
def test_t27_what_a_patent_suit_costs(licence: str, ends: bool) -> None:
    """A company that sues over a patent loses a patent licence here, its whole product there."""
    kind = "code" if KB.entry(licence).governs == ("code",) else "weights"
    found = judge(KB, family((licence,), kind=kind), use(told={"patent_suit_over_work": True})).verdict
    assert (found is Verdict.DENY) is ends


def test_t28_software_of_the_stack_can_oblige_to_publish_the_model() -> None:
    """Nobody looks for a duty on the weights in the licence of a server."""
    nodes = {
        "me/x": Node("me/x", instruments=("Apache-2.0",)),
        "server": Node("server", None, ("soml-1.0",), kind="code"),
    }
    stack = Family("me/x", nodes, (Edge("me/x", "server", Relation.COMPONENT_OF),))
    for mode in ("run", "serve_api", "finetune"):
        found = judge(KB, stack, use(mode))
        assert found.verdict is Verdict.ALLOW_WITH_DUTIES, mode
        assert [d.clause for d in found.duties if d.duty == "disclose_source"] == ["3"]
    assert "disclose_source" not in duties(judge(KB, family(("Apache-2.0",)), use("run")))
    published = judge(KB, stack, use("publish_weights", declared_licence="Apache-2.0"))
    assert published.verdict is Verdict.ALLOW  # the weights are published without the server


TOLD = BELOW | {
    "account.tier": "paid",
    "target_model": "same_family",
    "target.distributed": False,
    "files": ["LICENSE"],
}
SECONDARY = sorted(e.id for e in KB.entries.values() if e.status.authority == "secondary" and e.kind != "policy")


@pytest.mark.parametrize("licence", SECONDARY)
def test_t40_what_was_not_read_never_allows(licence: str) -> None:
    """A summary on somebody's page is no licence: under every use and choice the answer stays short of yes."""
    positions = {name: spec["values"][-1] for name, spec in KB.positions.items()}
    kind = "api" if KB.entry(licence).kind == "api_terms" else "weights"
    for mode in Mode:
        for purpose in Purpose:
            asked = Use(mode=mode, purpose=purpose, variables=TOLD)
            for chosen in ({}, positions):
                found = judge(KB, family((licence,), kind=kind), asked, chosen)
                assert not found.verdict.passes, (mode, purpose)
                assert all(r.authority == "secondary" for r in found.reasons if r.entry == licence)
