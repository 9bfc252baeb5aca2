"""The organisation's rules: what each kind does, of what it may speak, when it is in force. Pure.

Four eyes: a waiver, a concluded licence and an agreement can open what a licence closes, so each ends on a day and is
in force only once an administrator other than its author has approved it.
"""

import re
from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import Any

import msgspec

from ecotone.vocabulary import Invalid, Verdict


class Action(StrEnum):
    PUBLISH = "publish"
    SERVE = "serve"
    TUNE = "tune"
    AUDIT = "audit"
    CALL = "call"


class RuleKind(StrEnum):
    """`pass_unknown`: unknown passes for a subject. `hold_back`: unknown and ask_licence refuse publishing too.
    `warn`, `block`: what falls under the subject passes with a warning, or not at all; `value` narrows that to verdicts
    and actions. `waiver`: the decision passes whatever the verdict, which stays as it is. `position`: the
    organisation's choice where law is disputed (subject is the position's name, value its choice). `no_private`: a
    project (subject `project:NAME`) may not call private models. `concluded`: the licence (value) that a person found a
    model to carry, with evidence. `agreement`: a contract takes the place of an entry (value) for a model."""

    PASS_UNKNOWN = "pass_unknown"
    HOLD_BACK = "hold_back"
    WARN = "warn"
    BLOCK = "block"
    WAIVER = "waiver"
    POSITION = "position"
    NO_PRIVATE = "no_private"
    CONCLUDED = "concluded"
    AGREEMENT = "agreement"


FOUR_EYES = frozenset({RuleKind.WAIVER, RuleKind.CONCLUDED, RuleKind.AGREEMENT})
_OF_TEXTS = frozenset({RuleKind.WARN, RuleKind.BLOCK, RuleKind.HOLD_BACK})
_OF_MODELS = frozenset({RuleKind.CONCLUDED, RuleKind.AGREEMENT})
_WITH_VALUE = frozenset({RuleKind.POSITION, RuleKind.WARN, RuleKind.BLOCK, *_OF_MODELS})
_PART = r"[A-Za-z0-9_\-.]{1,96}"
_MODEL = re.compile(rf"{_PART}/(?:{_PART}|\*)")
NAMED = ("licence", "kind", "backend", "project")
OF_WEIGHTS = "lineage:contradiction"
"""An upload whose weights say otherwise than its card."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule. `subject` is a model id, `namespace/*`, `licence:ENTRY`, `kind:KIND`, `backend:NAME`, `project:NAME`,
    `lineage:contradiction` (publishing alone), the name of a position, or `*`. A rule of four eyes has no effect while
    `approved_by` is empty."""

    id: str
    kind: RuleKind
    subject: str
    reason: str
    by: str
    created: str
    value: str | None = None
    expires: date | None = None
    evidence: str | None = None
    approved_by: str | None = None
    approved: str | None = None

    @property
    def waits(self) -> bool:
        """Whether a second person must approve it first."""
        return self.kind in FOUR_EYES and not self.approved_by

    def in_force(self, today: date) -> bool:
        return not self.waits and (self.expires is None or today < self.expires)

    def speaks_of(self, subjects: Iterable[str]) -> bool:
        """Whether the subject is among these names; ids differ by more than case."""
        wanted = self.subject.casefold()
        return self.subject == "*" or any(wanted == name.casefold() for name in subjects)

    def applies(self, subjects: Iterable[str], today: date) -> bool:
        return self.in_force(today) and self.speaks_of(subjects)

    def concerns(self, verdict: Verdict, action: Action) -> bool:
        """Whether `value` names this verdict and this action; where it names none of a sort, all of that sort."""
        named = _words(self.value)
        verdicts, actions = named & set(Verdict), named & set(Action)
        return (not verdicts or verdict in verdicts) and (not actions or action in actions)

    def state(self, today: date) -> str:
        """In one word, for people: waiting, ended or in force."""
        if self.expires is not None and today >= self.expires:
            return "ended"
        return "waiting for approval" if self.waits else "in force"

    @property
    def told(self) -> str:
        """The reason with who made the rule, who approved it, and how long it holds."""
        made = "proposed by" if self.kind in FOUR_EYES else "by"
        parts = [f"{made} {self.by}, {self.created[:10]}"]
        if self.approved_by:
            parts.append(f"approved by {self.approved_by}, {(self.approved or '')[:10]}")
        if self.evidence:
            parts.append(f"on the ground of {self.evidence}")
        if self.expires:
            parts.append(f"until {self.expires}")
        return f"{self.reason} ({'; '.join(parts)})"

    def as_reason(self, node: str | None = None) -> dict[str, Any]:
        """The rule as a reason of the decision on `node`."""
        return {
            "node": node or self.subject,
            "entry": "organisation",
            "fact": self.kind.value,
            "clause": f"rule {self.id}",
            "means": self.told,
            "evaluation": "false" if self.kind in (RuleKind.BLOCK, RuleKind.HOLD_BACK) else "true",
            "authority": "organisation",
            "path": [],
            "position": None,
        }


def names_of(model_id: str) -> tuple[str, ...]:
    """The names under which rules may speak of a model by its id."""
    namespace, slash, _ = model_id.partition("/")
    return (model_id, f"{namespace}/*") if slash else (model_id,)


def check_rule(kind: RuleKind, subject: str, value: str | None, expires: date | None, today: date) -> None:
    """Raises Invalid where a rule could never have the effect that its author means."""
    _check_subject(kind, subject)
    if kind in (RuleKind.WARN, RuleKind.BLOCK):
        unknown = _words(value) - set(Verdict) - set(Action)
        if unknown:
            raise Invalid(
                f"{', '.join(sorted(unknown))} is neither a verdict ({', '.join(Verdict)}) nor an action "
                f"({', '.join(Action)}); write --value as a list of those with commas.",
                param="value",
            )
    elif value and kind not in _WITH_VALUE:
        raise Invalid(f"A rule of kind {kind} takes no value.", param="value")
    if expires is not None and expires <= today:
        raise Invalid(f"{expires} has come already; give a day after {today}.", param="expires")
    if kind in FOUR_EYES and expires is None:
        raise Invalid(f"A rule of kind {kind} must end on a day: give --expires YYYY-MM-DD.", param="expires")


def _check_subject(kind: RuleKind, subject: str) -> None:
    sort, colon, name = subject.partition(":")
    if kind is RuleKind.POSITION:
        return
    if kind is RuleKind.NO_PRIVATE:
        if subject != "*" and sort != "project":
            raise Invalid(f"{subject!r} is no project; write project:NAME, or * for all.", param="subject")
        return
    if kind is RuleKind.CONCLUDED:
        allowed, expected = bool(_MODEL.fullmatch(subject)) and not subject.endswith("/*"), "a model id"
    elif kind is RuleKind.AGREEMENT:
        allowed = bool(_MODEL.fullmatch(subject)) or bool(sort == "backend" and name)
        expected = "a model id, namespace/* or backend:NAME"
    else:
        of_texts = kind in _OF_TEXTS
        prefixes = ("licence", "kind", "backend") if of_texts else ("backend",)
        allowed = subject == "*" or bool(_MODEL.fullmatch(subject)) or bool(colon and name and sort in prefixes)
        allowed = allowed or (of_texts and subject == OF_WEIGHTS)
        texts = f", licence:ENTRY, kind:KIND, {OF_WEIGHTS}" if of_texts else ""
        expected = f"a model id, namespace/*, backend:NAME{texts} or *"
    if not allowed:
        raise Invalid(f"{subject!r} is no subject of a rule of kind {kind}; expected {expected}.", param="subject")


def _words(value: str | None) -> set[str]:
    return {word.strip() for word in (value or "").split(",") if word.strip()}
