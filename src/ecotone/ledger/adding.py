"""Adds up what a ledger's closed segments hold, and finds what they leave open, given two folders:
`python -m ecotone.ledger.adding LEDGER SUMS`.

A process of its own that takes what nobody else wants of the processor. What it keeps spares the next start that time.
"""

import contextlib
import os
import sys
from pathlib import Path

from ecotone.ledger.kept_sums import KeptSums
from ecotone.ledger.reading import Ledger


def main() -> None:
    os.nice(19)
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):  # a system may forbid the question; it was nice
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    sums = KeptSums(Ledger(Path(sys.argv[1])), Path(sys.argv[2]))
    sums.tidy()
    for segment in sums.missing():
        sums.keep(segment)


if __name__ == "__main__":
    main()
