"""The digest that follows its writer is that of the bytes, however they come, and leaves no thread at a closed file."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from ecotone.lineage.arriving import Printing
from ecotone.storage import following
from ecotone.storage.following import FollowingDigest

MIB = 1024 * 1024


@pytest.mark.parametrize("pieces", [[], [1], [3 * MIB] * 7, [16 * MIB, 1, 5 * MIB], [MIB] * 4])
def test_it_is_the_sha256_of_what_was_written(tmp_path: Path, pieces: list[int]) -> None:
    whole = hashlib.sha256()
    with open(tmp_path / "grows", "w+b", buffering=0) as file:
        digest = FollowingDigest(file.fileno())
        for count in pieces:
            data = os.urandom(count)
            file.write(data)
            whole.update(data)
            digest.grew(count)
        assert digest.hexdigest() == whole.hexdigest()
        digest.stop()


def test_a_file_cut_behind_its_writer_is_told(tmp_path: Path) -> None:
    with open(tmp_path / "cut", "w+b", buffering=0) as file:
        digest = FollowingDigest(file.fileno())
        file.write(bytes(9 * MIB))
        file.truncate(MIB)
        digest.grew(9 * MIB)
        with pytest.raises(OSError, match="shorter"):
            digest.hexdigest()


def test_no_thread_reads_the_file_once_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on, reads = threading.Event(), threading.Event(), []
    plain = os.preadv

    def slow(*args: object) -> int:
        reads.append(args)
        reading.set()
        assert go_on.wait(60)
        return plain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(following.os, "preadv", slow)
    with open(tmp_path / "left", "w+b", buffering=0) as file:
        file.write(bytes(8 * MIB))
        digest = FollowingDigest(file.fileno())
        digest.grew(8 * MIB)
        assert reading.wait(60)
        threading.Timer(0.2, go_on.set).start()
        digest.stop()
    assert len(reads) == 1


def test_what_was_wrong_is_known_before_it_is_told_that_nothing_is_going() -> None:
    """Whoever sees that no more is wanted asks for the finding at once, while the other thread may still be at it."""
    seen: list[str] = []

    class Watched(Printing):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "_over" and value:
                seen.append(self._broken)
            super().__setattr__(name, value)

    printing = Watched(1000)
    printing.feed((900).to_bytes(8, "little") + b"{" + b"x" * 991)
    found = printing.finish()
    assert found is not None and seen == [found.broken] and found.broken
