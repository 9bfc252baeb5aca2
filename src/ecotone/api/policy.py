"""The organisation's rules and profile over REST."""

from datetime import date
from typing import Any

import msgspec

from ecotone.accounts import KeptProfile, Profile
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.database import utc_now
from ecotone.licences import KnowledgeBase
from ecotone.policy import Rule, RuleKind, asked_months


class NewRule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    kind: RuleKind
    subject: str
    reason: str
    value: str | None = None
    expires: date | None = None
    evidence: str | None = None


@endpoint("POST", "/rules", need=Need.ADMIN, body=NewRule, status=201, summary="Record or propose a rule")
def create_rule(call: Call) -> Any:
    new: NewRule = call.body
    rule = call.services.policy.add_rule(
        new.kind,
        new.subject,
        new.reason,
        actor=call.actor,
        value=new.value,
        expires=new.expires,
        evidence=new.evidence,
    )
    call.services.note("rule.proposed" if rule.waits else "rule.created", call.actor, rule=msgspec.to_builtins(rule))
    return _rule(rule)


@endpoint("GET", "/rules", need=Need.USER, summary="The organisation's rules")
def list_rules(call: Call) -> Any:
    return [_rule(r) for r in call.services.policy.rules()]


@endpoint("GET", "/rules/{id}", need=Need.USER, summary="One rule")
def show_rule(call: Call) -> Any:
    return _rule(call.services.policy.rule(call.path["id"]))


@endpoint("POST", "/rules/{id}/approve", need=Need.ADMIN, summary="Approve a rule that another administrator proposed")
def approve_rule(call: Call) -> Any:
    rule = call.services.policy.approve_rule(call.path["id"], actor=call.actor)
    call.services.note("rule.approved", call.actor, rule=msgspec.to_builtins(rule))
    return _rule(rule)


@endpoint("DELETE", "/rules/{id}", need=Need.ADMIN, summary="Remove a rule")
def remove_rule(call: Call) -> Any:
    rule = call.services.policy.remove_rule(call.path["id"])
    call.services.note("rule.removed", call.actor, rule=msgspec.to_builtins(rule))
    return {"removed": rule.id}


@endpoint("GET", "/profile", need=Need.USER, summary="The organisation's profile, and what licences ask of it")
def show_profile(call: Call) -> Any:
    return _profile(call.services.accounts.profile(), call.services.knowledge)


@endpoint("PUT", "/profile", need=Need.ADMIN, body=Profile, summary="Tell the organisation's profile, whole")
def set_profile(call: Call) -> Any:
    kept = call.services.policy.set_profile(call.body, actor=call.actor)
    call.services.note("profile.set", call.actor, profile=msgspec.to_builtins(kept.profile))
    return _profile(kept, call.services.knowledge)


def _rule(rule: Rule) -> dict[str, Any]:
    return {**msgspec.to_builtins(rule), "state": rule.state(utc_now().date())}


def _profile(kept: KeptProfile, knowledge: KnowledgeBase) -> dict[str, Any]:
    return {
        "profile": msgspec.to_builtins(kept.profile),
        "told": kept.told,
        "updated": kept.updated,
        "updated_by": kept.updated_by,
        "variables": kept.profile.variables(),
        "asked_months": {month: list(entries) for month, entries in asked_months(knowledge).items()},
    }
