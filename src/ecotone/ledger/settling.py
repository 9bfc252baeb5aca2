"""Settling what a crash left open: the reservation stands for what was used, as an estimate."""

from collections import Counter
from datetime import datetime
from typing import Any

from ecotone.ledger.reading import Ledger
from ecotone.ledger.writing import LedgerWriter

LONGEST_SECONDS = 6 * 3600.0
"""No request runs longer; what was opened earlier than this before a chain's end was settled."""
_KEPT = ("request_id", "project", "key", "user", "tags", "route", "model", "backend", "face")


def settle_open(ledger: Ledger, writer: LedgerWriter) -> int:
    """Settle what a crash left open in this writer's chain, as estimates of what had been reserved; returns how many.

    Each `opened` record is closed by one `failed` or `settled` record of its request. Other chains are left alone:
    their writers may be alive. A record `started` marks how far this was done, so that the next start reads no further
    back.
    """
    left = open_requests(ledger, writer.writer)
    for record in left:
        writer.append("settled", estimated(record))
    writer.append("started", {"settled": len(left)}, flush=True)
    return len(left)


def open_requests(ledger: Ledger, writer: str) -> list[dict[str, Any]]:
    """The `opened` records of a chain that nothing closes, oldest first."""
    closed: Counter[str] = Counter()
    found: dict[str, dict[str, Any]] = {}
    end: datetime | None = None
    for record in ledger.records("opened", "settled", "failed", "started", newest_first=True, writer=writer):
        if record["kind"] == "started":
            break
        at = _moment(record.get("at"))
        end = end or at
        if end is not None and at is not None and (end - at).total_seconds() > LONGEST_SECONDS:
            break
        request_id = str(record.get("request_id", ""))
        if record["kind"] != "opened":
            closed[request_id] += 1
        elif closed[request_id] > 1:
            closed[request_id] -= 1
        elif closed.pop(request_id, 0) == 0:
            found.setdefault(request_id, record)
    return list(reversed(found.values()))


def estimated(opened: dict[str, Any]) -> dict[str, Any]:
    """The `settled` record of a request whose end nobody saw."""
    told = {name: opened[name] for name in _KEPT if name in opened}
    told |= {
        "status": "interrupted",
        "prompt_tokens": opened.get("reserved_prompt_tokens") or 0,
        "completion_tokens": opened.get("reserved_completion_tokens") or 0,
        "estimate": True,
        "error": "the server ended before the answer was complete",
    }
    if "reserved_cost" in opened:
        told["cost"] = opened["reserved_cost"]
    else:
        told["cost"] = 0 if opened.get("location") == "local" else None
    return told


def _moment(at: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(at)
    except (TypeError, ValueError):
        return None
