"""Evidence of a lineage edge as it is kept: words, or results of checks as JSON. Pure; reads whatever is there.

An edge of the catalogue has words; checks of weights are kept with the child's weights and joined to it when shown.
"""

from typing import Any

import msgspec

_MOST_CHECKS = 30
_MOST_TEXT = 2000


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One check of weights: a figure held against a threshold. `passed` is None where nothing was decided."""

    name: str
    figure: float | None = None
    threshold: float | None = None
    passed: bool | None = None
    means: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Words, and checks where there are any."""

    text: str = ""
    checks: tuple[CheckResult, ...] = ()


def evidence_of(kept: str) -> Evidence:
    """What a kept evidence says.

    Args:
        kept: plain words; or JSON: a list of checks, or an object with them under `checks` or `evidence` and words
            under `text`.
    """
    if kept.lstrip()[:1] not in ("[", "{"):
        return Evidence(text=kept[:_MOST_TEXT])
    try:
        found: Any = msgspec.json.decode(kept.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return Evidence(text=kept[:_MOST_TEXT])
    text = ""
    if isinstance(found, dict):
        text = str(found.get("text") or "")
        found = found.get("checks", found.get("evidence", []))
    checks = checks_in(found)
    return Evidence(text=(text or ("" if checks else kept))[:_MOST_TEXT], checks=checks)


def checks_in(kept: Any) -> tuple[CheckResult, ...]:
    """The checks in a list of them as it is kept; what is none is passed over."""
    listed = kept if isinstance(kept, list) else []
    return tuple(c for c in map(_check, listed[:_MOST_CHECKS]) if c is not None)


def _check(told: Any) -> CheckResult | None:
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        return None
    passed = told.get("passed")
    return CheckResult(
        name=told["name"][:80],
        figure=_number(told.get("figure")),
        threshold=_number(told.get("threshold")),
        passed=passed if isinstance(passed, bool) else None,
        means=str(told.get("means") or "")[:300],
    )


def _number(told: Any) -> float | None:
    return float(told) if isinstance(told, (int, float)) and not isinstance(told, bool) else None
