"""`decide`: from a licence verdict and the organisation's rules to what happens. Pure; knows no database and no HTTP.

What each verdict does (design, section 4): at publishing deny refuses, unknown and ask_licence are accepted with a
warning; serving asks whether any project may call; tuning and audits are refused by deny and ask_licence and warned by
unknown; a call passes on allow and allow_with_duties alone, unless a rule lets unknown pass. A rule of kind block stops
what it speaks of, at each of these; only a waiver, which two people have signed, passes it.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

import msgspec

from ecotone.policy.asking import MONTHLY
from ecotone.policy.rules import Action, Rule, RuleKind
from ecotone.vocabulary import Verdict


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What happens and why. `reasons` and `would_allow` are the Decision's, with rules added."""

    allowed: bool
    action: Action
    verdict: Verdict
    message: str
    warning: str | None = None
    reasons: tuple[dict[str, Any], ...] = ()
    would_allow: tuple[dict[str, Any], ...] = ()
    rules: tuple[str, ...] = ()
    knowledge_base: str = ""
    decision: dict[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


_PASSES = {
    Action.PUBLISH: {Verdict.ALLOW, Verdict.ALLOW_WITH_DUTIES, Verdict.UNKNOWN, Verdict.ASK_LICENCE},
    Action.TUNE: {Verdict.ALLOW, Verdict.ALLOW_WITH_DUTIES, Verdict.UNKNOWN},
    Action.AUDIT: {Verdict.ALLOW, Verdict.ALLOW_WITH_DUTIES, Verdict.UNKNOWN},
    Action.SERVE: {Verdict.ALLOW, Verdict.ALLOW_WITH_DUTIES},
    Action.CALL: {Verdict.ALLOW, Verdict.ALLOW_WITH_DUTIES},
}
_HELD_BACK = {Verdict.UNKNOWN, Verdict.ASK_LICENCE}


def decide(
    decision: dict[str, Any], action: Action, rules: Iterable[Rule] = (), *, subjects: tuple[str, ...] = (), today: date
) -> Outcome:
    """Join a verdict with the rules.

    Args:
        decision: the licence engine's Decision in its JSON form.
        action: what is about to happen.
        rules: all rules of the organisation.
        subjects: names under which rules may speak of the thing decided: model id, `backend:NAME`.
        today: the day on which rules must be in force.
    """
    verdict = Verdict(decision["verdict"])
    applying = [rule for rule in rules if rule.applies(subjects, today)]
    used = _stopping(applying, action, verdict)
    allowed = verdict in _PASSES[action] and not used
    if not allowed:
        opening = [
            rule
            for rule in applying
            if rule.kind is RuleKind.WAIVER
            or (rule.kind is RuleKind.PASS_UNKNOWN and verdict is Verdict.UNKNOWN and not used)
        ]
        if opening:
            allowed, used = True, opening
    about = decision.get("subject", {}).get("model")
    warning = [r for r in applying if r.kind is RuleKind.WARN and r.concerns(verdict, action)] if allowed else []
    return Outcome(
        allowed=allowed,
        action=action,
        verdict=verdict,
        message=_message(decision, action, verdict, allowed, used),
        warning=_warning(decision, verdict, allowed, warning),
        reasons=(*decision.get("reasons", ()), *(rule.as_reason(about) for rule in (*used, *warning))),
        would_allow=tuple(decision.get("would_allow", ())),
        rules=tuple(rule.id for rule in (*used, *warning)),
        knowledge_base=decision.get("knowledge_base", ""),
        decision=decision,
    )


def may_call_private(project: str, granted: bool, rules: Iterable[Rule], today: date) -> bool:
    """Whether a project may call private models: granted when it was made, until a rule says otherwise."""
    against = (r for r in rules if r.kind is RuleKind.NO_PRIVATE and r.applies((f"project:{project}",), today))
    return granted and not any(against)


def best(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The outcome that goes furthest: allowed before refused, then the better verdict; None of nothing."""
    return max(outcomes, key=lambda o: (o.allowed, o.verdict.rank), default=None)


def _stopping(applying: list[Rule], action: Action, verdict: Verdict) -> list[Rule]:
    """Rules that stop the action: those that hold unclear revisions back, and those that block."""
    held_back = action is Action.PUBLISH and verdict in _HELD_BACK
    return [
        rule
        for rule in applying
        if (rule.kind is RuleKind.HOLD_BACK and held_back)
        or (rule.kind is RuleKind.BLOCK and rule.concerns(verdict, action))
    ]


_ACTION_WORDS = {
    Action.PUBLISH: "published",
    Action.SERVE: "served",
    Action.TUNE: "tuned",
    Action.AUDIT: "audited",
    Action.CALL: "called",
}


def deciding(decision: dict[str, Any]) -> list[dict[str, Any]]:
    """The reasons that made the verdict what it is: those of the entries that refuse, else what is not known."""
    reasons: list[dict[str, Any]] = decision.get("reasons", [])
    against = [r for r in reasons if r.get("evaluation") in ("false", "deny", "ask_licence", "unknown")]
    return against or reasons


def _message(decision: dict[str, Any], action: Action, verdict: Verdict, allowed: bool, used: list[Rule]) -> str:
    subject = decision.get("subject", {}).get("model") or "this model"
    use = decision.get("use", {})
    what = f"{subject} may {'' if allowed else 'not '}be {_ACTION_WORDS[action]}"
    purpose = (
        f" for {use.get('mode')}, {use.get('purpose')}" if use.get("mode") and action is not Action.PUBLISH else ""
    )
    if allowed and not used:
        return f"{what}{purpose} ({verdict})."
    ruled = [f"{rule.told.rstrip('.')}, rule {rule.id}" for rule in used]
    if used and (allowed or verdict in _PASSES[action]):
        return f"{what}{purpose}: {'; '.join(ruled)}."
    why = [f"{r.get('entry')} clause {r.get('clause')}: {r.get('means')}" for r in deciding(decision)[:2]]
    missing = [_missing(m) for m in decision.get("missing", [])]
    if verdict is Verdict.UNKNOWN and missing:
        why = [f"not known: {', '.join(missing[:4])}", *why[:1]]
    way_out = [str(w.get("change")) for w in decision.get("would_allow", [])[:1]]
    tail = f" What would make it yes: {way_out[0]}." if way_out else ""
    return f"{what}{purpose} ({verdict}): {'; '.join([*(why or ['no licence grants it']), *ruled])}.{tail}"


def _missing(item: Any) -> str:
    what = str(item.get("variable") or item.get("what") or item) if isinstance(item, dict) else str(item)
    month = what.removeprefix(MONTHLY)
    if month == what:
        return what
    return f"monthly users of your organisation in {month} ({what}; `ecotone profile set --mau {month}=N`)"


def _warning(decision: dict[str, Any], verdict: Verdict, allowed: bool, rules: list[Rule]) -> str | None:
    if not allowed:
        return None
    said = [f"{rule.reason.rstrip('.')} (rule {rule.id})." for rule in rules]
    if verdict is Verdict.ASK_LICENCE:
        said.insert(0, "The licence asks for a permission that its owner must give first.")
    elif not verdict.passes:
        missing = ", ".join(_missing(m) for m in decision.get("missing", [])[:3])
        said.insert(0, "The licence does not answer for this use" + (f"; not known: {missing}." if missing else "."))
    return " ".join(said) or None
