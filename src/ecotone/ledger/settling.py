"""Settling what a crash left open: the reservation stands for what was used, as an estimate."""

import logging
from pathlib import Path
from typing import Any

from ecotone.ledger.kept_sums import KeptSums
from ecotone.ledger.left_open import joined
from ecotone.ledger.reading import Ledger
from ecotone.ledger.writing import LedgerBusy, LedgerWriter
from ecotone.settings import Settings

log = logging.getLogger("ecotone.ledger")

_KEPT = ("request_id", "project", "key", "user", "tags", "route", "model", "backend", "face")


def settle_open(ledger: Ledger, writer: LedgerWriter, *, kept: Path | None = None) -> int:
    """Settle what a crash left open in this writer's chain, as estimates of what had been reserved; returns how many.

    Each `opened` record is closed by one `failed` or `settled` record of its request. Other chains are left alone:
    their writers may be alive. A record `started` marks how far this was done, so that the next start reads no further
    back.

    Args:
        kept: folder that keeps what whole segments leave open.
    """
    left = open_requests(ledger, writer.writer, kept=kept)
    for record in left:
        writer.append("settled", estimated(record))
    writer.append("started", {"settled": len(left)}, flush=True)
    return len(left)


def settle_free(settings: Settings, name: str, kept: Path) -> int:
    """Settle what is left open in a chain unless somebody holds it; returns how many.

    What fails is logged, and is done at the next start: it keeps no other chain from being settled.

    Args:
        kept: folder that keeps what whole segments leave open.
    """
    folder, spill = settings.folder("ledger"), settings.spill
    try:
        writer = LedgerWriter(folder, name, wait=0.0, spill=spill, spilling=settings.ledger_full == "spill")
        try:
            return settle_open(Ledger(folder, spill=spill), writer, kept=kept)
        finally:
            writer.close()
    except LedgerBusy:
        return 0
    except Exception:
        log.exception("what was left open in the ledger's chain %s could not be settled", name)
        return 0


def open_requests(ledger: Ledger, writer: str, *, kept: Path | None = None) -> list[dict[str, Any]]:
    """The `opened` records of a chain that nothing closes, oldest first.

    Args:
        kept: folder that keeps what whole segments leave open.
    """
    return joined(KeptSums(ledger, kept).left_open(writer))


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
