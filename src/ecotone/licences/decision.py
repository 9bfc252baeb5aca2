"""The answer: a verdict with reasons, duties, what is missing and what would make it yes."""

import datetime
import hashlib
from typing import Any

import msgspec

from ecotone.vocabulary import Verdict

NOTICE = "not legal advice"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that the verdict rests on. `evaluation`: true grants, false refuses, ask_licence, unknown."""

    node: str
    path: tuple[str, ...]
    entry: str
    fact: str
    clause: str
    means: str
    evaluation: str
    authority: str
    position: str | None = None


class Duty(msgspec.Struct, frozen=True, kw_only=True):
    duty: str
    text: str | None
    where: tuple[str, ...]
    entry: str
    clause: str
    means: str
    variables: tuple[str, ...] = ()
    status: str = "open"


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A variable or text that nobody told; for `entry`, what it would decide."""

    what: str
    entry: str
    clause: str = ""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A change that would make it yes, and the verdict it would lead to. `kind`: change (of the use or the work),
    substitute (another model), obtain (a permission or a fact that somebody else has to give)."""

    change: str
    verdict: Verdict
    kind: str = "change"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The licence engine's answer to (revision, use)."""

    verdict: Verdict
    subject: dict[str, Any]
    use: dict[str, Any]
    reasons: tuple[Reason, ...] = ()
    duties: tuple[Duty, ...] = ()
    possible_duties: tuple[Duty, ...] = ()
    missing: tuple[Missing, ...] = ()
    positions: dict[str, str] = {}
    conflicts: tuple[dict[str, Any], ...] = ()
    would_allow: tuple[Way, ...] = ()
    secondary_facts: tuple[str, ...] = ()
    disputed: tuple[dict[str, Any], ...] = ()
    assumptions: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    knowledge_base: str = ""
    text_sha256: dict[str, str | None] = {}
    trace_id: str = ""
    notice: str = NOTICE

    def to_json(self) -> dict[str, Any]:
        """The JSON form; a missing variable is its name."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["missing"] = [m.what for m in self.missing]
        return found


def traced(decision: Decision, digest: str) -> Decision:
    """The decision with an id of what it shows and of the knowledge base: equal answers have equal ids, and what is
    not shown cannot be guessed from one."""
    shown = msgspec.json.encode(msgspec.structs.replace(decision, trace_id=digest))
    return msgspec.structs.replace(decision, trace_id=hashlib.sha256(shown).hexdigest()[:16])


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
