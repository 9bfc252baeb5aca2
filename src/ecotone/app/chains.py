"""Which chain of the ledger a server process writes, and the settling of what earlier ones left open.

The server's chains are `server`, `server2`, ...: one is enough while one process is alive. Over a graceful restart two
are, and each holds its own (a lock on its folder); the next restart takes the first that is free.
"""

import itertools
import logging
from collections.abc import Mapping

from ecotone.gateway.chains import sums_folder
from ecotone.ledger import Head, Ledger, LedgerBusy, LedgerWriter
from ecotone.ledger.settling import settle_free
from ecotone.settings import Settings

log = logging.getLogger("ecotone.app")

WRITER = "server"
_WAIT_SECONDS = 20.0


def open_chain(settings: Settings, known: Mapping[str, Head], *, others: bool) -> LedgerWriter:
    """The chain to go on with, held.

    A chain that lacks what the database knows of it was cut or replaced: it stays as it is, for `verify` to name, and
    another is gone on with.

    Args:
        known: heads that the database knows.
        others: whether another process may hold chains; else one that is held is waited for, as its holder is dying.

    Raises:
        LedgerBusy: when its holder goes on.
    """
    folder, spill = settings.folder("ledger"), settings.spill
    ledger = Ledger(folder, spill=spill)
    for number in itertools.count(1):
        name = WRITER if number == 1 else f"{WRITER}{number}"
        if not _is_whole(ledger, name, known):
            log.error("the ledger's chain %s was cut or replaced; `ecotone ledger verify` names the place", name)
            continue
        try:
            return LedgerWriter(
                folder,
                name,
                segment_bytes=settings.ledger_segment_bytes,
                wait=0.0 if others else _WAIT_SECONDS,
                spill=spill,
                spilling=settings.ledger_full == "spill",
            )
        except LedgerBusy:
            if not others:
                raise
    raise AssertionError


def settle_left(settings: Settings, known: Mapping[str, Head], own: LedgerWriter) -> int:
    """Settle, as estimates, what processes that are gone left open in their chains, be they servers or gateways;
    returns how many.

    Chains that a living process holds, and those that were cut or replaced, are left alone.
    """
    ledger = Ledger(settings.folder("ledger"), spill=settings.spill)
    settled = 0
    for chain in ledger.chains():
        if chain.name == own.writer or not _is_whole(ledger, chain.name, known):
            continue
        settled += settle_free(settings, chain.name, sums_folder(settings))
    return settled


def _is_whole(ledger: Ledger, name: str, known: Mapping[str, Head]) -> bool:
    return name not in known or ledger.holds(name, known[name])
