"""Settling what a crash left open: the reservation stands for what was used, as an estimate."""

import re
from datetime import datetime, timedelta
from typing import Any, Final

from ecotone.ledger.reading import Ledger
from ecotone.ledger.records import decoded
from ecotone.ledger.writing import LedgerWriter

LONGEST_SECONDS = 6 * 3600.0
"""No request runs longer; what was opened earlier than this before a chain's end was settled."""
_KEPT = ("request_id", "project", "key", "user", "tags", "route", "model", "backend", "face")
_FORM: Final = re.compile(
    rb'\{"n":\d+,"at":"([^"]*)","kind":"(opened|settled|failed|started)","prev":"[0-9a-f]{64}"'
    rb'(?:,"request_id":"([^"\\]*)")?'
)
"""How a record begins that opens or closes a request: moment, kind and, where that comes first, the request's id."""


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
    """The `opened` records of a chain that nothing closes, oldest first.

    A start waits for it, so a line is decoded only where it is told.
    """
    closed: dict[bytes, int] = {}
    found: dict[bytes, dict[str, Any]] = {}
    earliest = b""
    for line in ledger.lines(newest_first=True, writer=writer):
        parts = _FORM.match(line)
        if parts is None:
            continue
        at, kind, request_id = parts.groups()
        if kind == b"started":
            break
        earliest = earliest or _before(at)
        if at < earliest:
            break
        if request_id is None:
            request_id = str((decoded(line) or {}).get("request_id", "")).encode()
        ends = closed.pop(request_id, 0)
        if kind != b"opened":
            closed[request_id] = ends + 1
        elif ends > 1:
            closed[request_id] = ends - 1
        elif not ends and request_id not in found and (record := decoded(line)) is not None:
            found[request_id] = record
    return list(reversed(found.values()))


def _before(at: bytes) -> bytes:
    """A moment as long before another one as no request lasts; empty when it is none."""
    try:
        moment = datetime.fromisoformat(at.decode()) - timedelta(seconds=LONGEST_SECONDS)
    except ValueError:
        return b""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


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
