"""What budgets have spent, added up from the ledger: where limits go on after a start, what a dead worker leaves."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ecotone.gateway.meters import template
from ecotone.gateway.snapshot import Limit
from ecotone.gateway.windows import window_of
from ecotone.ledger import Ledger
from ecotone.ledger.kept_sums import KeptSums
from ecotone.ledger.settling import estimated, open_requests
from ecotone.ledger.usage import Who, summed

Totals = dict[str, dict[str, tuple[str, int]]]
"""By writer and budget id: the window's label and the sum in 10^-12 USD."""

_TRIES = 3
_ORDER = ("total", "month", "week", "day", "hour")


def scopes_of(who: Who) -> tuple[str, ...]:
    """The scopes that a call was counted in."""
    found = [f"key:{who.key}", f"project:{who.project}", "organisation", f"backend:{who.backend}"]
    if who.user:
        found.append(f"project:{who.project}/user:{who.user}")
    found += [f"project:{who.project}/tag:{tag}" for tag in who.tags.split(",") if tag]
    return tuple(found)


def spent(costs: Iterable[tuple[Who, int]], limits: Mapping[str, Limit], at: float) -> dict[str, tuple[str, int]]:
    """What each budget spent in the window that holds a moment.

    Args:
        costs: who and when (by the hour), and 10^-12 USD.
        limits: by scope, as the snapshot has them.
        at: `time.time()`.

    Returns:
        by a budget's id (`ID:SCOPE` for a user's or tag's own): the window's label and the sum.
    """
    windows = {kind: window_of(kind, at).label for kind in _ORDER}
    hours: dict[str, dict[str, str]] = {}
    found: dict[str, tuple[str, int]] = {}
    for who, cost in costs:
        labels = hours.get(who.hour)
        if labels is None:
            labels = hours[who.hour] = _labels(who.hour)
        for scope in scopes_of(who):
            limit, own = limits.get(scope), ""
            if limit is None and (general := template(scope)) is not None:
                limit, own = limits.get(general), f":{scope}"
            for budget in limit.budgets if limit is not None else ():
                window = windows[budget.window]
                if labels.get(budget.window) == window:
                    name = budget.id + own
                    found[name] = (window, found.get(name, (window, 0))[1] + cost)
    return found


def totals(
    ledger: Ledger,
    limits: Mapping[str, Limit],
    at: float,
    chains: Iterable[str] | None = None,
    *,
    kept: Path | None = None,
) -> Totals:
    """What each chain spent and holds, by budget: its settled requests, and its open ones with what they reserved.

    Reads back to where the longest window of any budget began: all of it where there is a budget without windows.

    Args:
        limits: by scope, as the snapshot has them.
        at: `time.time()`.
        chains: names of the chains to read; None for all.
        kept: folder that keeps the sums of whole segments, and what they leave open.
    """
    kinds = {budget.window for limit in limits.values() for budget in limit.budgets}
    longest = next((kind for kind in _ORDER if kind in kinds), None)
    if longest is None:
        return {}
    label = window_of(longest, at).label
    sums = KeptSums(ledger, kept)
    found = {}
    for name in [chain.name for chain in ledger.chains()] if chains is None else chains:
        for _ in range(_TRIES):
            held = open_requests(ledger, name, kept=kept)
            costs = list(_settled(sums, name, longest, label))
            if not held or held == open_requests(ledger, name, kept=kept):
                break  # else some of it may be settled since: counted twice, but never not at all
        costs.extend(_cost({**estimated(record), "at": record.get("at")}) for record in held)
        found[name] = spent(costs, limits, at)
    return found


def _settled(sums: KeptSums, writer: str, longest: str, label: str) -> Iterator[tuple[Who, int]]:
    for segment in sums.newest_first(writer):
        yield from ((who, each.cost) for who, each in segment)
        labels = [told for who, _ in segment if (told := _labels(who.hour).get(longest)) is not None]
        if labels and max(labels) < label:
            return


def _cost(record: Mapping[str, Any]) -> tuple[Who, int]:
    who, sums = next(iter(summed([msgspec.json.encode({**record, "kind": "settled"})]).items()))
    return who, sums.cost


def _labels(hour: str) -> dict[str, str]:
    """The windows that hold an hour (`2026-11-28T07`); none for what is no hour."""
    try:
        at = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return {"total": "total"}
    return {kind: window_of(kind, at).label for kind in _ORDER}
