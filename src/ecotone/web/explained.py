"""The replay of one request as a page tells it: who asked, what was decided and why, who was tried, what it cost.

Words only; `services.explain` has the facts. A field that records of an earlier version lack is left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ecotone.gateway.budgets import usd as exact
from ecotone.vocabulary import Verdict
from ecotone.web.licensing import VERDICT_MARKS, VERDICT_WORDS
from ecotone.web.refused import BY, budget_rows, code_of
from ecotone.web.rendering import words
from ecotone.web.traffic import seconds, usd

_PICO = 10**12
_WHO = {
    "project": "Project",
    "key": "Key",
    "face": "Face",
    "task": "Task",
    "asked": "Asked for",
    "route": "Route",
    "caller_id": "Caller's id",
    "stream": "Streamed",
}
_TEXT = {"data_class": "Data class", "kinds": "Found in it", "pseudonymised": "Sent with placeholders"}
_USED = {
    "prompt_tokens": "Tokens in",
    "cached_tokens": "of them from the cache",
    "completion_tokens": "Tokens out",
    "reasoning_tokens": "of them reasoning",
}
_TIMES = {"opened_at": "Came", "refused_at": "Refused", "settled_at": "Ended"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One backend that was called, in order; `outcome` is how it ended."""

    model: str
    backend: str
    outcome: str
    took: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """A request in the parts of its page; every list may be empty."""

    outcome: str
    failed: bool
    message: str
    who: list[tuple[str, str]]
    verdict: str
    verdict_word: str
    verdict_mark: str
    budget: list[tuple[str, str]]
    decision: list[tuple[str, str]]
    reasons: list[dict[str, Any]]
    duties: list[str]
    would_allow: list[str]
    text: list[tuple[str, str]]
    passed_over: list[str]
    attempts: list[Attempt]
    used: list[tuple[str, str]]
    times: list[tuple[str, str]]
    records: list[dict[str, Any]] = field(default_factory=list)
    whole: str = ""


def explained(told: Mapping[str, Any]) -> Explained:
    """The page's parts of what `explain` told."""
    decision = told.get("decision") if isinstance(told.get("decision"), dict) else {}
    assert isinstance(decision, dict)
    verdict = str(decision.get("verdict") or "")
    known = verdict in {v.value for v in Verdict}
    refused_by = BY.get(code_of(told), "") if "refused_at" in told and not known else ""
    outcome, failed = _outcome(told)
    return Explained(
        outcome=outcome,
        failed=failed,
        message=str(told.get("message") or decision.get("message") or ""),
        who=_facts(told, _WHO),
        verdict=str(Verdict.DENY) if refused_by else verdict,
        verdict_word=refused_by or (VERDICT_WORDS[Verdict(verdict)] if known else words(verdict)),
        verdict_mark=VERDICT_MARKS[Verdict.DENY if refused_by else Verdict(verdict)] if refused_by or known else "",
        budget=budget_rows(told),
        decision=_decision(told, decision),
        reasons=_dicts(told.get("reasons") or decision.get("reasons")),
        duties=[_said(duty) for duty in decision.get("duties") or []],
        would_allow=[_said(way) for way in told.get("would_allow") or decision.get("would_allow") or []],
        text=_facts(told, _TEXT),
        passed_over=_passed_over(told),
        attempts=_attempts(told, outcome, failed=failed),
        used=_used(told),
        times=_times(told),
        records=_dicts(told.get("records")),
        whole=json.dumps(told, indent=2, ensure_ascii=False, default=str),
    )


def _outcome(told: Mapping[str, Any]) -> tuple[str, bool]:
    status = told.get("status")
    if "refused_at" in told or isinstance(status, int):
        return f"refused ({told.get('code') or status})", True
    if status is None:
        error = told.get("error")
        return (str(error), True) if error else ("not ended yet", False)
    if status in ("done", "cached"):
        return {"done": "answered", "cached": "answered from the cache"}[status], False
    if status == "client_gone":
        return "the client left", False
    error = told.get("error")
    return words(status) + (f" ({error})" if error and error != status else ""), True


def _decision(told: Mapping[str, Any], decision: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = {
        "Model": told.get("model"),
        "Revision": told.get("revision"),
        "Legal class": told.get("legal_class"),
        "Allowed by rule": ", ".join(map(str, decision.get("rules") or [])),
        "Knowledge base": decision.get("knowledge_base") or told.get("knowledge_base"),
    }
    return [(name, str(value)) for name, value in found.items() if value]


def _passed_over(told: Mapping[str, Any]) -> list[str]:
    """Candidates that were not called, and why: as a list, or within the sentence that the answer's header told."""
    listed = told.get("passed_over")
    if isinstance(listed, list):
        return [_said(item) for item in listed]
    why = told.get("why")
    return [why] if isinstance(why, str) and why else []


def _attempts(told: Mapping[str, Any], outcome: str, *, failed: bool) -> list[Attempt]:
    found = [
        Attempt(str(a.get("model", "")), str(a.get("backend", "")), words(a.get("error")), _took(a), failed=True)
        for a in _dicts(told.get("failed"))
    ]
    if told.get("backend") and "refused_at" not in told:
        found.append(Attempt(str(told.get("model", "")), str(told["backend"]), outcome, _took(told), failed=failed))
    return found


def _used(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(name, f"{told[f]:,}") for f, name in _USED.items() if isinstance(told.get(f), int) and told[f]]
    if told.get("estimate"):
        found.append(("Counted", "here, as an estimate: the backend told no figure"))
    if "settled_at" in told:
        found.append(("Cost", _cost(told)))
    if told.get("price"):
        found.append(("Price", str(told["price"])))
    return found


def _cost(told: Mapping[str, Any]) -> str:
    cost, in_usd = told.get("cost"), told.get("cost_usd")
    if isinstance(cost, int):
        return f"{exact(cost)} USD"
    return f"{usd(round(in_usd * _PICO))} USD" if isinstance(in_usd, int | float) else "not known"


def _times(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(name, _moment(told[f])) for f, name in _TIMES.items() if told.get(f)]
    if isinstance(told.get("first"), int | float) and told["first"]:
        found.append(("First byte after", seconds(told["first"])))
    if isinstance(told.get("seconds"), int | float):
        found.append(("Last byte after", seconds(told["seconds"])))
    return found


def _facts(told: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(title, _said(told[name])) for name, title in names.items() if told.get(name) not in (None, "", {}, [])]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        if isinstance(value.get("change") or value.get("text") or value.get("means"), str):
            return str(value.get("change") or value.get("text") or value.get("means"))
        return ", ".join(f"{words(name)}: {item}" for name, item in value.items())
    return str(value)


def _took(told: Mapping[str, Any]) -> str:
    took = told.get("seconds")
    return seconds(took) if isinstance(took, int | float) else ""


def _moment(text: Any) -> str:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return str(text)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
