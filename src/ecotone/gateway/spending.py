"""What each chain of the ledger spent and holds of each budget in its present window, read from the records.

The coordinator of leases asks it at its start and when a worker died, a worker for its own chain. A request counts for
the window in which it was opened: with what it cost, or, while that is not known, with what was reserved for it.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from ecotone.gateway.snapshot import Limit
from ecotone.gateway.windows import window_of
from ecotone.ledger import Ledger

Totals = dict[str, dict[str, tuple[str, int]]]
_HOUR = len("2026-11-28T08")


def totals(ledger: Ledger, limits: Mapping[str, Limit], at: float, chains: Iterable[str] | None = None) -> Totals:
    """By writer and budget id: the window's label and the sum in 10^-12 USD.

    Args:
        limits: the snapshot's, by scope.
        at: `time.time()`, which the windows hold.
        chains: names of the chains to read; None for all.
    """
    budgets = {scope: [(b.id, b.window) for b in limit.budgets] for scope, limit in limits.items() if limit.budgets}
    kinds = {kind for found in budgets.values() for _, kind in found}
    if not kinds:
        return {}
    labels = {kind: window_of(kind, at).label for kind in kinds}
    names = [c.name for c in ledger.chains()] if chains is None else list(chains)
    return {name: _of_chain(ledger, name, budgets, labels) for name in names}


def _of_chain(
    ledger: Ledger, name: str, budgets: dict[str, list[tuple[str, str]]], labels: dict[str, str]
) -> dict[str, tuple[str, int]]:
    begins = {kind: _begin(kind, label) for kind, label in labels.items()}
    earliest = min(begins.values())
    found: dict[str, tuple[str, int]] = {}
    ended: dict[str, list[int | None]] = {}
    for record in ledger.records("opened", "settled", "failed", newest_first=True, writer=name):
        hour, request = str(record.get("at", ""))[:_HOUR], str(record.get("request_id", ""))
        if hour < earliest:
            break
        if record["kind"] != "opened":
            ended.setdefault(request, []).append(0 if record["kind"] == "failed" else _amount(record.get("cost")))
            continue
        known = ended.get(request)
        cost = known.pop(0) if known else None
        if known == []:
            del ended[request]
        spent = cost if cost is not None else _amount(record.get("reserved_cost")) or 0
        for scope in _scopes(record):
            for budget, kind in budgets.get(scope, ()):
                if hour >= begins[kind]:
                    found[budget] = (labels[kind], found.get(budget, ("", 0))[1] + spent)
    return found


def _scopes(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"key:{record.get('key')}",
        f"project:{record.get('project')}",
        "organisation",
        f"backend:{record.get('backend')}",
    )


def _amount(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _begin(kind: str, label: str) -> str:
    """The first hour of a window, as records' times begin."""
    if kind == "total":
        return ""
    if kind == "week":
        year, _, week = label.partition("-W")
        return f"{date.fromisocalendar(int(year), int(week), 1)}T00"
    return label if kind == "hour" else f"{label}T00" if kind == "day" else f"{label}-01T00"
