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


_HIDDEN = ("n", "prev", "hash", "kind", "at")
_TIMES = {"opened": "opened_at", "refused": "refused_at", "settled": "settled_at"}


def explain(ledger: Ledger, request_id: str) -> dict[str, Any] | None:
    """The replay of one request: inputs (not the prompt), decision with clauses, backend, revision, tokens, cost.

    Candidates that failed before the one that answered stand under `failed`, in order; the record of each step under
    `records`, with the place and hash that `verify` proves.
    """
    records = ledger.find(request_id)
    if not records:
        return None
    told: dict[str, Any] = {}
    failed: list[dict[str, Any]] = []
    for record in records:
        if record["kind"] == "failed":
            failed.append({k: record.get(k) for k in ("model", "backend", "error", "seconds")})
            continue
        told |= {k: v for k, v in record.items() if k not in _HIDDEN}
        if record["kind"] in _TIMES:
            told[_TIMES[record["kind"]]] = record["at"]
    told["failed"] = failed
    told["records"] = [{"kind": r["kind"], "record": r["n"], "hash": r["hash"]} for r in records]
    return told


def settle_open(ledger: Ledger, writer: LedgerWriter) -> int:
    """Settle what a crash left open in this writer's chain, as estimates of what had been reserved; returns how many.

    Other chains are left alone: their writers may be alive. A record `started` marks how far this was done, so that
    the next start reads no further back.
    """
    settled: set[str] = set()
    opened: dict[str, dict[str, Any]] = {}
    for record in ledger.records("opened", "settled", "started", newest_first=True, writer=writer.writer):
        if record["kind"] == "started":
            break
        request_id = record.get("request_id", "")
        if record["kind"] == "settled":
            settled.add(request_id)
        elif request_id not in settled:
            opened.setdefault(request_id, record)
    for request_id, record in reversed(opened.items()):
        writer.append(
            "settled",
            {
                "request_id": request_id,
                "project": record.get("project", ""),
                "model": record.get("model", ""),
                "backend": record.get("backend"),
                "status": "interrupted",
                "prompt_tokens": record.get("reserved_prompt_tokens", 0),
                "completion_tokens": record.get("reserved_completion_tokens", 0),
                "estimate": True,
                "cost_usd": 0.0 if record.get("location") == "local" else None,
                "error": "the server ended before the answer was complete",
            },
        )
    writer.append("started", {"settled": len(opened)}, flush=True)
    return len(opened)
