"""Sums of the ledger's closed segments, made while the gateway runs: its next start has only the last ones to read."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

from ecotone.gateway.chains import sums_folder
from ecotone.ledger import Ledger
from ecotone.ledger.kept_sums import KeptSums
from ecotone.settings import Settings

log = logging.getLogger("ecotone.gateway")


class Adder:
    """Looks now and then, in a thread of the supervisor, and lets `ecotone.ledger.adding` add up what was closed.

    Args:
        seconds: from one look to the next.
    """

    def __init__(self, settings: Settings, seconds: float = 30.0) -> None:
        self._folders = settings.folder("ledger"), sums_folder(settings)
        self._sums = KeptSums(Ledger(self._folders[0]), self._folders[1])
        self._seconds = seconds
        self._tried: set[Path] = set()
        self._over = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sums", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, whatever is half done: the next start adds it up."""
        with self._turn:
            self._over.set()
            if self._child is not None:
                self._child.kill()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self._look()
            except Exception:  # the next look tries again
                log.exception("sums of the ledger's segments were not kept")

    def _look(self) -> None:
        """Each segment is tried once: what cannot be kept is added up at the next start."""
        missing = set(self._sums.missing())
        if missing <= self._tried:
            return
        with self._turn:
            if self._over.is_set():
                return
            command = [sys.executable, "-m", "ecotone.ledger.adding", *map(str, self._folders)]
            # no part of the group that a terminal interrupts
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        self._child.wait()
        self._tried = missing
