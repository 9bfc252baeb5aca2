"""Records reach the disk within a second, for as long as the process lives."""

import errno
import os
import threading
from pathlib import Path

import pytest

from ecotone.ledger import LedgerFull, LedgerWriter
from ecotone.ledger.segments import segments
from tests.receiver import until


def test_a_moment_without_free_descriptors_does_not_end_the_flushing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut hours later would cost all that was written since, a full segment among it."""
    monkeypatch.setattr("ecotone.ledger.writing._FLUSH_SECONDS", 0.01)
    real, refused = os.dup, threading.Event()
    flushed: list[int] = []

    def dup(descriptor: int) -> int:
        if threading.current_thread().name == "ledger-flush" and not refused.is_set():
            refused.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(descriptor)

    def fsync(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr("ecotone.ledger.writing.os.dup", dup)
    monkeypatch.setattr("ecotone.ledger.writing.os.fsync", fsync)
    writer = LedgerWriter(tmp_path, "server", segment_bytes=100)
    writer.append("admin", {"text": "x" * 200})
    assert refused.wait(90)
    ours = {file.stat().st_ino for file in segments(tmp_path / "server")}
    assert len(ours) == 2
    until(lambda: ours <= set(flushed))
    writer.close()


def test_a_full_segment_that_the_disk_did_not_take_is_brought_there_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecotone.ledger.writing._FLUSH_SECONDS", 600)
    failing, flushed = True, set[int]()

    def fsync(descriptor: int) -> None:
        if failing:
            raise OSError(errno.EIO, "Input/output error")
        flushed.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr("ecotone.ledger.writing.os.fsync", fsync)
    monkeypatch.setattr("ecotone.ledger.writing.flush_folder", lambda folder: flushed.add(folder.stat().st_ino))
    writer = LedgerWriter(tmp_path, "server", segment_bytes=100)
    for _ in range(2):
        with pytest.raises(LedgerFull, match="Input/output error"):
            writer.append("admin", {"text": "x" * 200}, flush=True)
    failing = False
    flushed.clear()
    assert writer.heads()["server"].records == 2
    chain = tmp_path / "server"
    assert {file.stat().st_ino for file in (chain, *segments(chain))} <= flushed
    before = len(list(Path("/proc/self/fd").iterdir()))
    failing = True
    with pytest.raises(LedgerFull):
        writer.append("admin", {"text": "x" * 200}, flush=True)
    writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) < before, "a descriptor was left"
