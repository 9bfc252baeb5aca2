"""What the records of requests add up to: the replay of one, the sums of all, and the settling of open ones."""

from typing import Any

import msgspec

from ecotone.ledger.reading import Ledger
from ecotone.ledger.writing import LedgerWriter


class UsageLine(msgspec.Struct, kw_only=True):
    """Usage of one model by one project. `estimates` counts requests whose tokens were estimated."""

    project: str
    model: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    estimates: int = 0


def usage(ledger: Ledger) -> list[UsageLine]:
    """Sums over all settled requests, by project and model; the same whenever they are computed anew."""
    found: dict[tuple[str, str], UsageLine] = {}
    for record in ledger.records("settled"):
        key = (record.get("project", ""), record.get("model", ""))
        line = found.setdefault(key, UsageLine(project=key[0], model=key[1]))
        line.requests += 1
        line.prompt_tokens += record.get("prompt_tokens") or 0
        line.completion_tokens += record.get("completion_tokens") or 0
        line.estimates += bool(record.get("estimate"))
        cost = record.get("cost_usd")
        line.cost_usd += cost or 0.0
        line.unpriced += cost is None
    return [found[key] for key in sorted(found)]


_HIDDEN = ("n", "prev", "hash", "kind")


def explain(ledger: Ledger, request_id: str) -> dict[str, Any] | None:
    """The replay of one request: inputs (not the prompt), decision with clauses, backend, revision, tokens, cost."""
    records = ledger.find(request_id)
    if not records:
        return None
    told: dict[str, Any] = {}
    for record in records:
        when = {"opened": "opened_at", "refused": "refused_at", "settled": "settled_at"}.get(record["kind"])
        told |= {k: v for k, v in record.items() if k not in (*_HIDDEN, "at")}
        if when:
            told[when] = record["at"]
    told["records"] = [{"kind": r["kind"], "record": r["n"], "hash": r["hash"]} for r in records]
    return told


def settle_open(ledger: Ledger, writer: LedgerWriter) -> int:
    """Settle what a crash left open, as estimates of what had been reserved; returns how many."""
    opened: dict[str, dict[str, Any]] = {}
    for record in ledger.records("opened", "settled"):
        if record["kind"] == "opened":
            opened[record["request_id"]] = record
        else:
            opened.pop(record.get("request_id", ""), None)
    for request_id, record in opened.items():
        writer.append(
            "settled",
            {
                "request_id": request_id,
                "project": record.get("project", ""),
                "model": record.get("model", ""),
                "status": "interrupted",
                "prompt_tokens": record.get("reserved_prompt_tokens", 0),
                "completion_tokens": 0,
                "estimate": True,
                "cost_usd": None,
                "error": "the server ended before the answer was complete",
            },
        )
    return len(opened)
