"""The newest snapshot in a process that does not build it: read from the file that another process renames into place.

The file is looked at twice a second, so that a change is in force within two seconds of being made. Its time is that
of the last contact with who decides: what follows from an old one is the path's matter.
"""

import logging
import threading
from pathlib import Path

import msgspec

from ecotone.gateway.snapshot import Snapshot, checksum, load

log = logging.getLogger("ecotone.gateway")

_LOOK_SECONDS = 0.5


class FileSnapshots:
    """Keeps `current` up to date in a thread.

    Versions count the changes seen here: those of the file begin anew with each server. A file that is not whole, or of
    another version of this program, leaves the last snapshot in force until its age forbids it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._stamp: tuple[int, int] | None = None
        self._content = self._taken = b""
        self._version = 0
        self.current = Snapshot()
        self.look()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._follow, name="snapshot", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(5)

    def look(self) -> None:
        """Take in what the file holds now."""
        try:
            told = (self._folder / "snapshot").stat()
            stamp = told.st_ino, told.st_mtime_ns
            if stamp == self._stamp:
                return
            content = checksum(self._folder) + told.st_size.to_bytes(8, "big")
            if content != self._content:
                self._take(content, told.st_mtime)
            elif content == self._taken:
                self.current = msgspec.structs.replace(self.current, built=told.st_mtime)
        except OSError:
            return
        self._stamp = stamp

    def _take(self, content: bytes, at: float) -> None:
        try:
            found = load(self._folder)
        except ValueError as error:
            self._content = content
            log.error("the snapshot in %s cannot be used: %s", self._folder, error)
            return
        self._version += 1
        self.current = msgspec.structs.replace(found, version=self._version, built=at)
        self._content = self._taken = content

    def _follow(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # the last snapshot stays in force until its age forbids it
                log.exception("the snapshot could not be looked at")
