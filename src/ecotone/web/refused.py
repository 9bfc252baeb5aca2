"""What refused a request when it was not the licence: a budget, an unknown price, what the text holds. In words."""

from collections.abc import Mapping
from typing import Any

from ecotone.gateway.refusals import named

BY = {
    "budget_exceeded": "Refused by a budget",
    "insufficient_quota": "Refused by a budget",
    "price_unknown": "Refused: its price is not known, and a budget stands",
    "privacy_denied": "Refused for what the text holds",
    "personal_data": "Refused for what the text holds",
}
"""By the code of a record; those of earlier versions stay, as ledgers do."""
_MONEY = frozenset({"budget_exceeded", "insufficient_quota", "price_unknown"})
_SPANS = {7: "month", 8: "week", 10: "day", 13: "hour"}
"""By the length of a window's label: 2026-11, 2026-W48, 2026-11-28, 2026-11-28T08."""


def code_of(told: Mapping[str, Any]) -> str:
    """The code with which a request was refused, or with which its stream was cut."""
    return str(told.get("code") or told.get("error") or "")


def budget_rows(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The budget that refused: whose it is, what it holds, when it opens again, who can change it. Empty for others."""
    code = code_of(told)
    if code not in _MONEY:
        return []
    found = told.get("budget")
    budget: dict[str, Any] = found if isinstance(found, dict) else {}
    scope = str(budget.get("scope") or "")
    rows = []
    if scope:
        rows.append(("Budget of", named(scope)))
    if budget.get("value"):
        rows.append(("It holds", f"{budget['value']} {_span(str(budget.get('window') or ''))}".strip()))
    if code == "price_unknown":
        model = told.get("model") or "BACKEND/MODEL"
        rows.append(
            ("Who can change it", f"an administrator, with `ecotone price set {model} --input USD --output USD`")
        )
        return rows
    if budget:
        opens = str(budget.get("opens") or "")
        rows.append(("Opens again", opens.replace("T", " ").replace("Z", " UTC") if opens else "not by itself"))
    rows.append(("Who can change it", f"an administrator{_how(scope)}; a smaller max_tokens may pass"))
    return rows


def holder_of(told: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and name of what the budget that refused belongs to: `project`, `key`, `backend`, `organisation` or none."""
    found = told.get("budget")
    scope = str(found.get("scope") or "") if isinstance(found, dict) else ""
    kind, _, name = scope.partition(":")
    return kind, name.partition("/")[0]


def _how(scope: str) -> str:
    kind, _, name = scope.partition(":")
    if not scope:
        return ""
    if kind == "project" and "/" not in name:
        return f", with `ecotone project set {name} --budget 50USD/month`"
    return f", with `ecotone limit set {scope}`"


def _span(label: str) -> str:
    if label == "total":
        return "in total"
    span = _SPANS.get(len(label))
    return f"for the {span} {label.replace('T', ' at ')}" if span else label
