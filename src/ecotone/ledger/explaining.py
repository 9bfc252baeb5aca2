"""The replay of one request from its records."""

from decimal import Decimal
from typing import Any

from ecotone.ledger.reading import Ledger
from ecotone.ledger.records import writer_of
from ecotone.ledger.rulings import about
from ecotone.ledger.usage import USD

_HIDDEN = ("n", "prev", "hash", "kind", "at")
_TIMES = {"opened": "opened_at", "refused": "refused_at", "settled": "settled_at"}


def explain(ledger: Ledger, request_id: str) -> dict[str, Any] | None:
    """The replay of one request: inputs (not the prompt), decision with clauses, backend, revision, tokens, cost.

    Candidates that failed before the one that answered stand under `failed`, in order; the record of each step under
    `records`, with the place and hash that `verify` proves. A decision that is named by its id is read from its own
    record.
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
        if isinstance(ruling := record.get("ruling"), str):
            content = ledger.ruling(ruling, writer=writer_of(request_id))
            if content is not None:
                told["decision"] = about(content, str(record.get("model", "")))
        if record["kind"] in _TIMES:
            told[_TIMES[record["kind"]]] = record["at"]
    if "cost" in told and "cost_usd" not in told:
        told["cost_usd"] = None if told["cost"] is None else _usd(told["cost"])
    told["failed"] = failed
    told["records"] = [{"kind": r["kind"], "record": r["n"], "hash": r["hash"]} for r in records]
    return told


def _usd(cost: int) -> str:
    """10^-12 USD as an exact figure in USD: floats turn small ones into 9.75e-05."""
    text = f"{Decimal(cost) / USD:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
