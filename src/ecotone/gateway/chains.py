"""Which chain of the ledger a gateway worker writes.

Each place among the workers has chains of its own: `gw1a`, and, while one worker follows another, `gw1b` beside it. A
worker takes the first that is free, and settles, as estimates, what workers that are gone left open in them.
"""

import logging
import re
from pathlib import Path

from ecotone.ledger import Ledger, LedgerBusy, LedgerWriter, settle_open
from ecotone.ledger.settling import settle_free
from ecotone.settings import Settings

log = logging.getLogger("ecotone.gateway")

_LETTERS = "abcdefghijklmnop"
_NAME = re.compile(r"(gw[0-9a-f]{8}x|gw)(\d+)([a-p])")

MACHINE = "gateway-machine"
"""The secret by which a machine is told from others that have a ledger of their own."""


def prefix(machine: bytes | None) -> str:
    """How the names of a machine's chains begin.

    Args:
        machine: a secret of a machine that has its own ledger, as request ids of several machines may meet.
    """
    return f"gw{machine[:4].hex()}x" if machine is not None else "gw"


def sums_folder(settings: Settings) -> Path:
    """Where the sums of whole segments of the ledger are kept, and what they leave open."""
    return settings.folder("gateway") / "sums"


def open_chain(settings: Settings, begin: str, place: int) -> LedgerWriter:
    """The first free chain of a place, held, with nothing left open in it.

    Raises:
        LedgerBusy: when workers hold all of them.
    """
    folder, spill = settings.folder("ledger"), settings.spill
    for letter in _LETTERS:
        try:
            writer = LedgerWriter(
                folder,
                f"{begin}{place}{letter}",
                segment_bytes=settings.ledger_segment_bytes,
                wait=0.0,
                spill=spill,
                spilling=settings.ledger_full == "spill",
            )
        except LedgerBusy:
            continue
        settled = settle_open(Ledger(folder, spill=spill), writer, kept=sums_folder(settings))
        if settled:
            log.warning("settled %d requests that a worker left open in %s", settled, writer.writer)
        return writer
    raise LedgerBusy(f"Earlier workers hold all chains of place {place}; let them end, then start again.")


def settle_left(settings: Settings, begin: str, place: int, workers: int) -> int:
    """Settle what is left open in chains that nobody holds: those of this place, and, for the first place, those of
    places that there are no more. Returns how many."""
    settled = 0
    for chain in Ledger(settings.folder("ledger")).chains():
        parts = _NAME.fullmatch(chain.name)
        if parts is None or parts[1] != begin:
            continue
        if int(parts[2]) != place and not (place == 1 and int(parts[2]) > workers):
            continue
        settled += settle_free(settings, chain.name, sums_folder(settings))
    return settled


def close_settled(writer: LedgerWriter) -> None:
    """Close a chain in which nothing is open; a record says so, and the next start need not look for it."""
    try:
        writer.append("started", {"settled": 0}, flush=True)
    except Exception:
        log.exception("the end of the chain %s could not be marked", writer.writer)
    writer.close()
