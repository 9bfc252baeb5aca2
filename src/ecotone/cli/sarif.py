"""Decisions as SARIF 2.1.0 (OASIS, 2020), the form in which pipelines show what a check found. Pure.

A result is one reason that keeps a use from being allowed; its rule is the fact of the text, `ENTRY#FACT`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"deny": "error", "ask_licence": "error", "unknown": "warning"}
_AGAINST = ("false", "deny", "ask_licence", "unknown")
_PASSES = ("allow", "allow_with_duties")


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer to one use. `place` is the file and line that a viewer points at."""

    name: str
    answer: dict[str, Any]
    place: tuple[str, int]

    @property
    def waivers(self) -> list[dict[str, Any]]:
        """Waivers of the organisation by which the use passes all the same."""
        policy = self.answer.get("policy") or {}
        return [r for r in policy.get("rules", ()) if r.get("fact") == "waiver"] if policy.get("allowed") else []

    @property
    def blocked(self) -> list[dict[str, Any]]:
        """Rules of the organisation that stop the use, whatever the licence says."""
        policy = self.answer.get("policy") or {}
        return [] if policy.get("allowed", True) else [r for r in policy["rules"] if r.get("evaluation") == "false"]


def document(model: str, checked: Iterable[Checked], version: str) -> dict[str, Any]:
    """The SARIF log of one check."""
    rules: dict[str, dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    answers = {}
    for one in checked:
        answers[one.name] = {k: one.answer.get(k) for k in ("verdict", "secondary_facts", "disputed", "trace_id")}
        for reason in _against(one):
            rules.setdefault(_rule_id(reason), _rule(reason))
            results.append(_result(model, one, reason, list(rules).index(_rule_id(reason))))
        knowledge = one.answer.get("knowledge_base")
    driver = {
        "name": "Ecotone",
        "semanticVersion": version,
        "shortDescription": {"text": "May we use this model for that? With clauses. Not legal advice."},
        "rules": list(rules.values()),
        "properties": {"knowledgeBase": knowledge if answers else None, "notice": "not legal advice"},
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True}],
        "results": results,
        "properties": {"model": model, "uses": answers},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _against(one: Checked) -> list[dict[str, Any]]:
    """What keeps the use from being allowed: reasons, else what is not known; and rules that block it."""
    answer, found = one.answer, []
    if answer["verdict"] not in _PASSES:
        found = [r for r in answer.get("reasons", ()) if str(r.get("evaluation")) in _AGAINST]
        found = found or [
            {
                "entry": "ecotone",
                "fact": "missing",
                "clause": "",
                "means": f"not known: {what}",
                "evaluation": "unknown",
            }
            for what in answer.get("missing") or ("what the licence says",)
        ]
    return [*found, *one.blocked]


def _rule_id(reason: dict[str, Any]) -> str:
    return f"{reason.get('entry')}#{reason.get('fact')}"


def _rule(reason: dict[str, Any]) -> dict[str, Any]:
    clause = f", clause {reason['clause']}" if reason.get("clause") else ""
    return {
        "id": _rule_id(reason),
        "name": str(reason.get("fact")),
        "shortDescription": {"text": f"{reason.get('entry')}{clause}"},
        "fullDescription": {"text": _sentence(str(reason.get("means")))},
        "help": {"text": f"`ecotone licence show {reason.get('entry')}` shows every fact of the text with its clause."},
        "properties": {"authority": reason.get("authority"), "position": reason.get("position")},
    }


def _result(model: str, one: Checked, reason: dict[str, Any], index: int) -> dict[str, Any]:
    use = one.answer.get("use", {})
    clause = f" clause {reason['clause']}" if reason.get("clause") else ""
    source = f" (from {reason['node']})" if reason.get("node") not in (None, model) else ""
    ways = [w.get("change") for w in one.answer.get("would_allow", ())[:1]]
    text = (
        f"{model} for {one.name} ({use.get('mode')}, {use.get('purpose')}): {reason.get('entry')}{clause}{source}: "
        f"{_sentence(str(reason.get('means')))}" + (f" What would make it yes: {ways[0]}." if ways else "")
    )
    file, line = one.place
    blocked = reason.get("authority") == "organisation"
    evaluation = {"false": "deny"}.get(str(reason.get("evaluation")), str(reason.get("evaluation")))
    found: dict[str, Any] = {
        "ruleId": _rule_id(reason),
        "ruleIndex": index,
        "level": "error" if blocked else _LEVELS.get(evaluation, "warning"),
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": line}},
                "logicalLocations": [{"fullyQualifiedName": model, "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"use/v1": f"{model}|{one.name}|{_rule_id(reason)}|{reason.get('node')}"},
        "properties": {"use": one.name, "verdict": one.answer["verdict"], "clause": reason.get("clause")},
    }
    if one.waivers:
        found["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": str(w["means"])} for w in one.waivers
        ]
    return found


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."
