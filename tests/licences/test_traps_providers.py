"""Traps of providers' terms: tiers, days, outputs, ages. Each test carries its number (T1 to T42)."""

import datetime
from typing import Any

import pytest

from ecotone.licences import Decision, Edge, Family, KnowledgeBase, Node, Use, judge
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict

KB = KnowledgeBase.load()
XAI = "xai-enterprise-2026-05-12"
META = "meta-model-api-2026-07-08"
GEMINI = "gemini-api-additional-2025-05-20"
MISTRAL = "mistral-la-plateforme-2025-02-06"
PARTNER = "mistral-partner-served-2025-05-27"
ANTHROPIC = "anthropic-commercial-2025-06-17"
OPENAI = "openai-services-agreement-2026-01-01"
OPENAI_2023 = "openai-tou-2023-03-14"


def call(terms: str, mode: str = "run", date: datetime.date | None = None, **told: Any) -> Decision:
    graph = Family("api", {"api": Node("api", instruments=(terms,), kind="api")})
    variables = {name.replace("__", "."): value for name, value in told.items()}
    return judge(KB, graph, Use(mode=Mode(mode), purpose=Purpose.COMMERCIAL, variables=variables, date=date))


def trained_on_data_of(terms: str, **told: Any) -> Decision:
    """A model of one's own, trained on a data set that somebody made with the provider's API."""
    nodes = {
        "me/x": Node("me/x", instruments=("MIT",)),
        "data": Node("data", instruments=("MIT",), kind="dataset"),
        "api": Node("api", instruments=(terms,), kind="api"),
    }
    edges = (Edge("me/x", "data", Relation.TRAINED_ON), Edge("data", "api", Relation.GENERATED_BY))
    variables = {name.replace("__", "."): value for name, value in told.items()}
    asked = Use(mode=Mode.RUN, purpose=Purpose.COMMERCIAL, variables=variables)
    return judge(KB, Family("me/x", nodes, edges), asked)


@pytest.mark.parametrize("terms", [GEMINI, MISTRAL, META])
@pytest.mark.parametrize("tag", ["confidential", "personal_data"])
def test_t29_secrets_do_not_go_to_a_tier_that_trains_on_them(terms: str, tag: str) -> None:
    assert call(terms, account__tier="free", use_tags=[tag]).verdict is Verdict.DENY
    assert call(terms, account__tier="paid", use_tags=[tag]).verdict.passes
    untold = call(terms, use_tags=[tag])
    assert untold.verdict is Verdict.UNKNOWN
    assert "account.tier" in untold.to_json()["missing"]


@pytest.mark.parametrize(
    ("terms", "classifier", "similar"),
    [
        (OPENAI, True, False),
        (OPENAI_2023, True, False),
        (META, True, False),
        (GEMINI, True, False),
        (ANTHROPIC, False, False),
        (XAI, False, False),
        ("google-tos-2026-07-30", False, False),
        ("deepseek-open-platform-2026-04-29", True, True),
    ],
)
def test_t30_what_a_providers_outputs_may_train(terms: str, classifier: bool, similar: bool) -> None:
    """Bought or found data brings the terms of the API that made it into the model."""
    inside = {"target_model": "classifier_internal", "target__distributed": False}
    assert trained_on_data_of(terms, **inside).verdict.passes is classifier
    assert trained_on_data_of(terms, target_model="similar", target__distributed=False).verdict.passes is similar


def test_t30_a_policy_that_is_incorporated_wins_where_it_is_stricter() -> None:
    found = call(ANTHROPIC, "train_on_outputs", target_model="classifier_internal", target__distributed=False)
    assert found.verdict is Verdict.DENY
    assert {"anthropic-usage-policy-2025-09-15"} <= {r.entry for r in found.reasons}
    assert call(ANTHROPIC, use_tags=["biometric"]).verdict is Verdict.DENY
    assert any("2025-09-15" in w for w in call(ANTHROPIC).warnings)


def test_t30_a_distributed_classifier_is_no_exception() -> None:
    found = trained_on_data_of(OPENAI, target_model="classifier_internal", target__distributed=True)
    assert found.verdict is Verdict.DENY


def test_t31_old_data_is_judged_by_the_terms_of_its_day_and_a_new_call_by_todays() -> None:
    """Terms that have ended still bind what was agreed under them; they allow nothing new."""
    later = trained_on_data_of(OPENAI_2023, target_model="similar")
    assert later.verdict is Verdict.DENY
    assert any(r.entry == OPENAI_2023 and r.clause == "2" for r in later.reasons)
    assert call(OPENAI_2023, date=datetime.date(2023, 6, 1)).verdict.passes
    today = call(OPENAI_2023, date=datetime.date(2026, 11, 1))
    assert today.verdict is Verdict.UNKNOWN
    assert any("that followed" in m for m in today.to_json()["missing"])
    palm = call("palm-api", date=datetime.date(2026, 11, 1))
    assert palm.verdict is Verdict.DENY
    assert trained_on_data_of("palm-api", target_model="similar").verdict is Verdict.DENY


@pytest.mark.parametrize("terms", [MISTRAL, PARTNER])
def test_t32_a_clause_that_is_not_there_is_not_a_permission(terms: str) -> None:
    found = call(terms, "train_on_outputs", target_model="similar", account__tier="paid")
    assert found.verdict is Verdict.UNKNOWN
    assert any("train_on_outputs" in m for m in found.to_json()["missing"])
    assert trained_on_data_of(terms, target_model="similar").verdict is Verdict.UNKNOWN


def test_t39_what_unknown_terms_say_of_outputs_is_not_known() -> None:
    found = trained_on_data_of("unknown", target_model="similar")
    assert found.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("mode", ["run", "serve_api", "embed_product"])
def test_t42_services_for_adults_refuse_products_for_minors(mode: str) -> None:
    for terms in (GEMINI, META):
        assert call(terms, mode, account__tier="paid", use_tags=["minors"]).verdict is Verdict.DENY
        assert call(terms, mode, account__tier="paid", territory=["US"]).verdict.passes
    assert call(GEMINI, mode, account__tier="paid", use_tags=["medical"]).verdict is Verdict.DENY
    assert call(META, mode, account__tier="paid", use_tags=["medical"]).verdict.passes


def test_a_competitor_of_the_provider_is_named_before_it_is_answered() -> None:
    """xAI bars products that compete: a gateway that answers yes to everybody breaks the terms for some."""
    untold = call(XAI, "serve_api")
    assert untold.to_json()["missing"] == ["product.competes_with"]
    assert untold.would_allow[0].change.startswith("declare product.competes_with outside what is excluded")
    assert call(XAI, "serve_api", product__competes_with=["xAI"]).verdict is Verdict.DENY
    assert call(XAI, "serve_api", product__competes_with=[]).verdict.passes
    assert call(XAI, "run").verdict.passes
