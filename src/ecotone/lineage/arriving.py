"""The fingerprint of a file while its bytes come, when they are weights. What is broken, or no weights, never stops it:
the bytes are taken all the same, and what was wrong is kept beside them as a finding.
"""

import logging
from typing import Final

import msgspec

from ecotone.lineage.errors import BrokenWeights
from ecotone.lineage.fingerprint import Fingerprint
from ecotone.lineage.printing import Fingerprinter

log = logging.getLogger("ecotone.lineage")

_SNIFFED: Final = 9
_MOST_HEADER: Final = 100_000_000
_LONGEST_REASON: Final = 500


class Print(msgspec.Struct, frozen=True):
    """What is kept of one weight file: its fingerprint, or in a sentence why it has none."""

    fingerprint: Fingerprint | None
    broken: str = ""


def format_of(head: bytes) -> str | None:
    """The format that the first 9 bytes of a file are of; None when it is no weight file that is read here."""
    if head[:4] == b"GGUF":
        return "gguf"
    if len(head) >= _SNIFFED and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MOST_HEADER:
        return "safetensors"
    return None


class Printing:
    """Takes a file's bytes in order. Not thread-safe.

    Args:
        size: of the whole file in bytes, when it is known.
    """

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._head = b""
        self._running: Fingerprinter | None = None
        self._over = False
        self._broken = ""
        self.at = 0

    @property
    def going(self) -> bool:
        """Whether more bytes would tell more."""
        return not self._over

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        self.at += len(data)
        if self._over:
            return
        try:
            if self._running is None:
                self._head += bytes(data)
                if len(self._head) < _SNIFFED:
                    return
                data, self._head = self._head, b""
                form = format_of(data[:_SNIFFED])
                if form is None:
                    self._over = True
                    return
                self._running = Fingerprinter(self._size, form)
            self._running.feed(data)
        except BrokenWeights as error:
            self._end(error.message)
        except Exception:  # a fault of ours must not cost the upload
            log.exception("a fingerprint could not be taken")
            self._end("")

    def finish(self) -> Print | None:
        """What is to be kept; None for a file that is no weights."""
        if self._running is not None and not self._over:
            try:
                return Print(self._running.finish())
            except BrokenWeights as error:
                self._end(error.message)
            except Exception:
                log.exception("a fingerprint could not be taken")
                self._end("")
        return Print(None, self._broken) if self._broken else None

    def _end(self, reason: str) -> None:
        self._running, self._broken = None, reason[:_LONGEST_REASON]
        self._over = True  # last: another thread may ask for what was found as soon as nothing is going
