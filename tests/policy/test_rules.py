"""Rules as administrators make them: four eyes, days, subjects; and what they do to models that are here."""

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import Accounts, Actor, Profile
from ecotone.database import utc_now
from ecotone.licences import Use
from ecotone.policy import Action, OwnApproval, Policy, Rule, RuleKind
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Mode, Purpose, Refused, Role, Verdict

ANN, BOB = (Actor("user", name, Role.ADMIN) for name in ("ann", "bob"))
SOON = utc_now().date() + timedelta(days=30)
CALL = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)


def card(licence: str, *bases: str) -> dict[str, bytes]:
    named = "".join(f"\n- {base}" for base in bases)
    return {"README.md": f"---\nlicense: {licence}\nbase_model:{named or ' []'}\n---\n# M\n".encode()}


def add(house: Any, kind: RuleKind, subject: str, **more: Any) -> Rule:
    found: Rule = house.policy.add_rule(kind, subject, "because", actor=more.pop("actor", ANN), **more)
    return found


def called(house: Any, model: str, use: Use = CALL) -> Any:
    stance = house.policy.stance()
    family = house.policy.family(model, "main")
    return stance.outcome(stance.judge_family(family, use), Action.CALL, family)


@pytest.fixture
def noncommercial(house: SimpleNamespace) -> SimpleNamespace:
    house.catalog.create("team/nc", private=False, actor=ANN)
    house.publish("team/nc", card("cc-by-nc-4.0"))
    return house


# -- four eyes ---------------------------------------------------------------------------------------------------------
def test_a_waiver_holds_once_another_administrator_approved_it(noncommercial: SimpleNamespace) -> None:
    rule = add(noncommercial, RuleKind.WAIVER, "team/nc", expires=SOON)
    assert not called(noncommercial, "team/nc").allowed
    approved = noncommercial.policy.approve_rule(rule.id, actor=BOB)
    assert (approved.by, approved.approved_by, approved.state(utc_now().date())) == ("ann", "bob", "in force")
    outcome = called(noncommercial, "team/nc")
    assert (outcome.allowed, outcome.verdict) == (True, Verdict.DENY)
    assert "ann" in outcome.message and "bob" in outcome.message and str(SOON) in outcome.message


@pytest.mark.parametrize("name", ["ann", "ANN", "Ann"])
def test_nobody_approves_their_own_waiver_whatever_the_case_of_their_name(
    noncommercial: SimpleNamespace, name: str
) -> None:
    rule = add(noncommercial, RuleKind.WAIVER, "team/nc", expires=SOON)
    with pytest.raises(OwnApproval, match="another administrator"):
        noncommercial.policy.approve_rule(rule.id, actor=Actor("user", name, Role.ADMIN))
    assert not called(noncommercial, "team/nc").allowed


@pytest.mark.parametrize("actor", [Actor("user", "bob", Role.WRITE), Actor("user", "bob", Role.READ)])
def test_who_is_no_administrator_approves_nothing(noncommercial: SimpleNamespace, actor: Actor) -> None:
    rule = add(noncommercial, RuleKind.WAIVER, "team/nc", expires=SOON)
    with pytest.raises(Forbidden):
        noncommercial.policy.approve_rule(rule.id, actor=actor)


def test_what_needs_no_approval_says_so(noncommercial: SimpleNamespace) -> None:
    block = add(noncommercial, RuleKind.BLOCK, "team/nc")
    waiver = add(noncommercial, RuleKind.WAIVER, "team/nc", expires=SOON)
    noncommercial.policy.approve_rule(waiver.id, actor=BOB)
    for rule in (block, waiver):
        with pytest.raises(Conflict):
            noncommercial.policy.approve_rule(rule.id, actor=BOB)


@pytest.mark.parametrize("kind", [RuleKind.WAIVER, RuleKind.CONCLUDED, RuleKind.AGREEMENT])
@pytest.mark.parametrize("expires", [None, utc_now().date(), date(2020, 1, 1)])
def test_what_opens_a_licence_ends_on_a_day_to_come(house: SimpleNamespace, kind: RuleKind, expires: Any) -> None:
    with pytest.raises(Invalid) as refused:
        add(house, kind, "team/nc", expires=expires, value=None, evidence="contract 7")
    assert refused.value.param == "expires"


def test_a_house_with_one_administrator_may_choose_two_eyes_and_take_it_back(noncommercial: SimpleNamespace) -> None:
    house = noncommercial
    accounts = Accounts(house.database, house.settings)
    alone = Policy(house.database, house.catalog, house.knowledge, accounts, four_eyes=False)
    rule = alone.add_rule(RuleKind.WAIVER, "team/nc", "because", actor=ANN, expires=SOON)
    assert rule.approved_by == "ann"
    assert called(SimpleNamespace(policy=alone), "team/nc").allowed
    assert house.policy.rule(rule.id).waits, "what one person signed counts no more"
    assert not called(house, "team/nc").allowed
    house.policy.approve_rule(rule.id, actor=BOB)
    assert called(house, "team/nc").allowed


# -- subjects ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "subject", "value", "says"),
    [
        (RuleKind.BLOCK, "llama", None, "licence:ENTRY"),
        (RuleKind.BLOCK, "licence:no-such", None, "no entry"),
        (RuleKind.BLOCK, "kind:no-such", None, "permissive"),
        (RuleKind.BLOCK, "*", "denied", "neither a verdict"),
        (RuleKind.WAIVER, "licence:llama-2", None, "no subject"),
        (RuleKind.WAIVER, "team/nc", "deny", "takes no value"),
        (RuleKind.PASS_UNKNOWN, "kind:cc", None, "no subject"),
        (RuleKind.POSITION, "no_such_question", "deny", "nc_internal"),
        (RuleKind.POSITION, "nc_internal", "maybe", "deny or allow"),
        (RuleKind.NO_PRIVATE, "shop", None, "project:NAME"),
        (RuleKind.CONCLUDED, "team/*", "mit", "a model id"),
    ],
)
def test_a_rule_that_could_never_mean_what_its_author_wants_is_refused(
    house: SimpleNamespace, kind: RuleKind, subject: str, value: str | None, says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        add(house, kind, subject, value=value, expires=SOON, evidence="contract 7")
    assert house.policy.rules() == []


def test_an_inherited_licence_is_blocked_under_any_name(house: SimpleNamespace) -> None:
    for name, files in (
        ("team/base", card("openrail")), ("team/nc", card("cc-by-nc-4.0")),
        ("team/child", card("cc-by-nc-4.0", "team/nc")), ("team/free", card("apache-2.0")),
    ):  # fmt: skip
        house.catalog.create(name, private=False, actor=ANN)
        house.publish(name, files)
    add(house, RuleKind.BLOCK, "licence:CC-BY-NC-4.0")
    research = Use(mode=Mode.RUN, purpose=Purpose.RESEARCH)
    assert not called(house, "team/child", research).allowed
    assert not called(house, "team/nc", research).allowed
    assert called(house, "team/free", research).allowed


def test_publishing_asks_the_rules_too_and_names_them(house: SimpleNamespace) -> None:
    house.catalog.create("team/gpl", private=False, actor=ANN)
    rule = add(house, RuleKind.BLOCK, "kind:strong_copyleft", value="publish")
    with pytest.raises(Refused, match="because") as refused:
        house.publish("team/gpl", card("gpl-3.0"))
    assert rule.id in str(refused.value.decision["rules"])
    house.policy.remove_rule(rule.id)
    add(house, RuleKind.WARN, "team/*")
    assert any("because" in w for w in house.publish("team/gpl", card("gpl-3.0")).warnings)


# -- overrides ---------------------------------------------------------------------------------------------------------
def test_a_concluded_licence_stands_in_the_place_of_the_declared_one(house: SimpleNamespace) -> None:
    house.catalog.create("team/odd", private=False, actor=ANN)
    house.publish("team/odd", card("other"))
    with pytest.raises(Invalid, match="evidence"):
        add(house, RuleKind.CONCLUDED, "team/odd", value="mit", expires=SOON)
    with pytest.raises(Invalid, match="no licence"):
        add(house, RuleKind.CONCLUDED, "team/odd", value="no-such", expires=SOON, evidence="LICENSE in the repository")
    rule = add(house, RuleKind.CONCLUDED, "team/odd", value="mit", expires=SOON, evidence="LICENSE in the repository")
    assert called(house, "team/odd").verdict is Verdict.UNKNOWN
    house.policy.approve_rule(rule.id, actor=BOB)
    assert called(house, "team/odd").verdict.passes
    assert "licence:MIT" in house.policy.stance().subjects(house.policy.family("team/odd", "main"))


def test_an_agreement_takes_the_place_of_an_entry_for_the_models_it_names(noncommercial: SimpleNamespace) -> None:
    house = noncommercial
    house.catalog.create("team/child", private=False, actor=ANN)
    house.publish("team/child", card("cc-by-nc-4.0", "team/nc"))
    wanted = {"value": "CC-BY-NC-4.0=run,serve_api", "expires": SOON, "evidence": "contract 2026-17, secret sum"}
    with pytest.raises(Invalid, match="no entry"):
        add(house, RuleKind.AGREEMENT, "team/*", **{**wanted, "value": "no-such"})
    with pytest.raises(Invalid, match="no action"):
        add(house, RuleKind.AGREEMENT, "team/*", **{**wanted, "value": "CC-BY-NC-4.0=serve"})
    rule = add(house, RuleKind.AGREEMENT, "team/*", **wanted)
    assert called(house, "team/child").verdict is Verdict.DENY
    house.policy.approve_rule(rule.id, actor=BOB)
    decision = house.policy.judge("team/child", "main", CALL)
    assert decision.verdict.passes, decision.reasons
    assert any(r.clause == f"rule {rule.id}" and str(SOON) in r.means for r in decision.reasons)
    assert "contract" not in str(decision.to_json()), "what the contract is, users read in the rule"
    assert not house.policy.judge("team/nc", "main", Use(mode=Mode.MERGE, purpose=Purpose.COMMERCIAL)).verdict.passes
    house.policy.remove_rule(rule.id)
    assert called(house, "team/child").verdict is Verdict.DENY


def test_a_contract_with_a_provider_takes_the_place_of_its_public_terms(house: SimpleNamespace) -> None:
    family = house.policy.api_family("openai", ["openai-services-agreement-2026-01-01"])
    train = Use(mode=Mode.TRAIN_ON_OUTPUTS, purpose=Purpose.COMMERCIAL, variables={"target_model": "other_llm"})
    assert not house.policy.judge_family(family, train).verdict.passes
    value = "openai-services-agreement-2026-01-01"
    rule = add(house, RuleKind.AGREEMENT, "backend:openai", value=value, expires=SOON, evidence="contract 8")
    house.policy.approve_rule(rule.id, actor=BOB)
    assert house.policy.judge_family(family, train).verdict.passes
    elsewhere = house.policy.api_family("azure", ["openai-services-agreement-2026-01-01"])
    assert not house.policy.judge_family(elsewhere, train).verdict.passes


# -- the organisation's profile ----------------------------------------------------------------------------------------
def test_a_llama_answer_is_not_unknown_for_want_of_a_number(house: SimpleNamespace) -> None:
    model = "meta-llama/Llama-3.1-8B"
    assert called(house, model).verdict is Verdict.UNKNOWN
    house.policy.set_profile(Profile(users=1000, mau_at={"2024-06": 800}), actor=ANN)
    decision = house.policy.judge(model, "main", CALL)
    assert decision.verdict is Verdict.ALLOW_WITH_DUTIES
    assert "org.mau_at.2024-06" in decision.use["from_profile"] and "800" not in str(decision.use)
    house.policy.set_profile(Profile(mau_at={"2024-06": 700_000_001}), actor=ANN)
    assert called(house, model).verdict is Verdict.ASK_LICENCE


def test_todays_users_are_never_those_of_a_release_month(house: SimpleNamespace) -> None:
    house.policy.set_profile(Profile(users=10), actor=ANN)
    assert called(house, "meta-llama/Llama-3.1-8B").verdict is Verdict.UNKNOWN


def test_figures_without_affiliates_do_not_pass_a_limit_that_counts_them(house: SimpleNamespace) -> None:
    house.policy.set_profile(Profile(users=10, mau_at={"2024-06": 10}, affiliates=False), actor=ANN)
    assert called(house, "meta-llama/Llama-3.1-8B").verdict is Verdict.UNKNOWN


def test_what_a_use_tells_wins_over_the_profile(house: SimpleNamespace) -> None:
    house.policy.set_profile(Profile(mau_at={"2024-06": 10}), actor=ANN)
    crowd = Use(mode=CALL.mode, purpose=CALL.purpose, variables={"org.mau_at.2024-06": 800_000_000})
    decision = house.policy.judge("meta-llama/Llama-3.1-8B", "main", crowd)
    assert decision.verdict is Verdict.ASK_LICENCE
    assert decision.use["variables"] == crowd.variables


def test_an_organisation_may_assume_that_thresholds_are_not_reached(house: SimpleNamespace) -> None:
    house.policy.set_profile(Profile(assume_below_thresholds=True), actor=ANN)
    assert called(house, "meta-llama/Llama-3.1-8B").verdict is Verdict.ALLOW_WITH_DUTIES


def test_positions_of_the_profile_hold_until_a_rule_says_otherwise(noncommercial: SimpleNamespace) -> None:
    inside = Use(mode=Mode.RUN, purpose=Purpose.INTERNAL_COMMERCIAL)
    house = noncommercial
    assert called(house, "team/nc", inside).verdict is Verdict.DENY
    house.policy.set_profile(Profile(positions={"nc_internal": "allow"}), actor=ANN)
    assert called(house, "team/nc", inside).verdict.passes
    add(house, RuleKind.POSITION, "nc_internal", value="deny")
    assert called(house, "team/nc", inside).verdict is Verdict.DENY


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (Profile(users=-1), "users"),
        (Profile(mau_at={"June": 1}), "YYYY-MM"),
        (Profile(mau_at={"2024-13": 1}), "YYYY-MM"),
        (Profile(mau_at={"2024-06": -1}), "2024-06"),
        (Profile(revenue=float("nan")), "Revenue"),
        (Profile(domicile="Germany"), "two capitals"),
        (Profile(positions={"no_such": "yes"}), "no_such"),
        (Profile(positions={"nc_internal": "perhaps"}), "deny or allow"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_and_the_one_before_stays(
    house: SimpleNamespace, profile: Profile, says: str
) -> None:
    house.policy.set_profile(Profile(users=5), actor=ANN)
    with pytest.raises(Invalid, match=says):
        house.policy.set_profile(profile, actor=ANN)
    kept = Accounts(house.database, house.settings).profile()
    assert (kept.profile.users, kept.updated_by) == (5, "ann")


def test_more_users_than_a_small_integer_holds_are_kept(house: SimpleNamespace) -> None:
    kept = house.policy.set_profile(Profile(users=3_000_000_000, domicile=" de "), actor=ANN)
    assert (kept.profile.users, kept.profile.domicile) == (3_000_000_000, "DE")
