"""`decide`: what each verdict does at each action, and how rules change the decision but never the verdict."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.policy import Action, Outcome, Rule, RuleKind, best, decide, may_call_private
from ecotone.vocabulary import Verdict

TODAY = date(2026, 11, 24)


def decision(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.value,
        "subject": {"model": "demo/nc"},
        "use": {"mode": "serve_api", "purpose": "commercial"},
        "reasons": [
            {"entry": "CC-BY-NC-4.0", "clause": "2(a)(1)", "means": "no commercial use", "evaluation": "false"}
        ],
        "missing": ["org.mau"] if verdict is Verdict.UNKNOWN else [],
        "would_allow": [{"change": "purpose research", "verdict": "allow"}],
        "knowledge_base": "2026.11.24",
    }


def rule(kind: RuleKind, subject: str = "demo/nc", expires: date | None = None, **more: Any) -> Rule:
    told = {"id": "r1", "reason": "legal said so", "by": "carla", "created": "2026-11-01T08:00:00+00:00", **more}
    return Rule(kind=kind, subject=subject, expires=expires, **told)


def signed(kind: RuleKind = RuleKind.WAIVER, subject: str = "demo/nc", expires: date = date(2027, 1, 1)) -> Rule:
    return rule(kind, subject, expires, approved_by="dora", approved="2026-11-02T09:00:00+00:00")


TABLE = {
    Action.PUBLISH: {"deny": False, "ask_licence": True, "unknown": True},
    Action.SERVE: {"deny": False, "ask_licence": False, "unknown": False},
    Action.TUNE: {"deny": False, "ask_licence": False, "unknown": True},
    Action.AUDIT: {"deny": False, "ask_licence": False, "unknown": True},
    Action.CALL: {"deny": False, "ask_licence": False, "unknown": False},
}


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("verdict", Verdict)
def test_what_each_verdict_does(action: Action, verdict: Verdict) -> None:
    outcome = decide(decision(verdict), action, subjects=("demo/nc",), today=TODAY)
    assert outcome.allowed is TABLE[action].get(verdict.value, True)
    assert outcome.verdict is verdict
    assert bool(outcome.warning) is (outcome.allowed and not verdict.passes)


def test_a_refusal_names_model_clause_and_way_out() -> None:
    message = decide(decision(Verdict.DENY), Action.CALL, subjects=("demo/nc",), today=TODAY).message
    assert "demo/nc" in message
    assert "CC-BY-NC-4.0 clause 2(a)(1)" in message
    assert "purpose research" in message


def test_a_rule_lets_unknown_pass_but_not_deny() -> None:
    rules = [rule(RuleKind.PASS_UNKNOWN)]
    passed = decide(decision(Verdict.UNKNOWN), Action.CALL, rules, subjects=("demo/nc",), today=TODAY)
    assert (passed.allowed, passed.verdict, passed.rules) == (True, Verdict.UNKNOWN, ("r1",))
    assert passed.reasons[-1]["clause"] == "rule r1"
    assert not decide(decision(Verdict.DENY), Action.CALL, rules, subjects=("demo/nc",), today=TODAY).allowed


def test_a_waiver_changes_the_decision_and_never_the_verdict() -> None:
    outcome = decide(decision(Verdict.DENY), Action.CALL, [signed()], subjects=("demo/nc",), today=TODAY)
    assert (outcome.allowed, outcome.verdict) == (True, Verdict.DENY)
    for told in (outcome.message, outcome.reasons[-1]["means"]):
        for part in ("carla", "2026-11-01", "dora", "2026-11-02", "2027-01-01", "legal said so"):
            assert part in told


def test_a_waiver_that_one_person_made_opens_nothing() -> None:
    lonely = rule(RuleKind.WAIVER, expires=date(2027, 1, 1))
    assert lonely.waits and lonely.state(TODAY) == "waiting for approval"
    assert not decide(decision(Verdict.DENY), Action.CALL, [lonely], subjects=("demo/nc",), today=TODAY).allowed


def test_an_expired_rule_or_one_for_another_model_does_nothing() -> None:
    for other in (signed(expires=TODAY), signed(subject="demo/other")):
        assert not decide(decision(Verdict.DENY), Action.CALL, [other], subjects=("demo/nc",), today=TODAY).allowed


SUBJECTS = ("demo/nc", "demo/*", "licence:CC-BY-NC-4.0", "kind:cc")


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("subject", ["demo/nc", "DEMO/NC", "demo/*", "licence:cc-by-nc-4.0", "kind:cc", "*"])
def test_a_block_stops_what_the_licence_allows_wherever_it_is_asked(action: Action, subject: str) -> None:
    outcome = decide(decision(Verdict.ALLOW), action, [rule(RuleKind.BLOCK, subject)], subjects=SUBJECTS, today=TODAY)
    assert (outcome.allowed, outcome.verdict, outcome.rules) == (False, Verdict.ALLOW, ("r1",))
    assert "legal said so" in outcome.message
    assert outcome.reasons[-1]["evaluation"] == "false"
    other = decide(decision(Verdict.ALLOW), action, [rule(RuleKind.BLOCK, "kind:rail")], subjects=SUBJECTS, today=TODAY)
    assert other.allowed


def test_a_block_may_name_the_verdicts_and_actions_that_it_means() -> None:
    narrow = [rule(RuleKind.BLOCK, "*", value="allow_with_duties, serve")]
    stopped = decide(decision(Verdict.ALLOW_WITH_DUTIES), Action.SERVE, narrow, subjects=SUBJECTS, today=TODAY)
    assert not stopped.allowed
    for verdict, action in ((Verdict.ALLOW, Action.SERVE), (Verdict.ALLOW_WITH_DUTIES, Action.CALL)):
        assert decide(decision(verdict), action, narrow, subjects=SUBJECTS, today=TODAY).allowed


def test_only_a_waiver_passes_a_block() -> None:
    block = rule(RuleKind.BLOCK, "kind:cc", id="r0")
    lenient = rule(RuleKind.PASS_UNKNOWN)
    unknown = decision(Verdict.UNKNOWN)
    assert not decide(unknown, Action.CALL, [block, lenient], subjects=SUBJECTS, today=TODAY).allowed
    waived = decide(unknown, Action.CALL, [block, signed()], subjects=SUBJECTS, today=TODAY)
    assert (waived.allowed, waived.rules) == (True, ("r1",))


def test_a_block_beside_a_refusal_hides_no_clause() -> None:
    outcome = decide(decision(Verdict.DENY), Action.CALL, [rule(RuleKind.BLOCK)], subjects=SUBJECTS, today=TODAY)
    assert "CC-BY-NC-4.0 clause 2(a)(1)" in outcome.message and "legal said so" in outcome.message


def test_a_warning_is_given_and_stops_nothing() -> None:
    warned = decide(
        decision(Verdict.ALLOW), Action.CALL, [rule(RuleKind.WARN, "kind:cc")], subjects=SUBJECTS, today=TODAY
    )
    assert warned.allowed and warned.warning and "legal said so" in warned.warning and warned.rules == ("r1",)
    refused = decide(decision(Verdict.DENY), Action.CALL, [rule(RuleKind.WARN)], subjects=SUBJECTS, today=TODAY)
    assert not refused.allowed and refused.warning is None


def test_an_organisation_may_hold_unknown_back_from_publishing() -> None:
    held = decide(
        decision(Verdict.UNKNOWN), Action.PUBLISH, [rule(RuleKind.HOLD_BACK, "*")], subjects=("demo/nc",), today=TODAY
    )
    assert not held.allowed


def test_a_rule_closes_private_models_to_one_project_or_to_all() -> None:
    closed = [rule(RuleKind.NO_PRIVATE, "project:shop")]
    assert not may_call_private("shop", True, closed, TODAY)
    assert may_call_private("lab", True, closed, TODAY)
    assert not may_call_private("lab", False, closed, TODAY)
    assert not may_call_private("lab", True, [rule(RuleKind.NO_PRIVATE, "*")], TODAY)
    assert may_call_private("shop", True, [rule(RuleKind.NO_PRIVATE, "*", expires=TODAY)], TODAY)


@given(st.lists(st.tuples(st.sampled_from(Verdict), st.sampled_from(Action)), min_size=1))
def test_the_best_outcome_is_none_that_another_beats(pairs: list[tuple[Verdict, Action]]) -> None:
    outcomes: list[Outcome] = [decide(decision(v), a, subjects=(), today=TODAY) for v, a in pairs]
    found = best(outcomes)
    assert found is not None
    assert all((o.allowed, o.verdict.rank) <= (found.allowed, found.verdict.rank) for o in outcomes)
