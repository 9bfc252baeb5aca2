"""A full disk that is to cost nobody an answer: records go to a second one and come back into the chain unchanged."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecotone.ledger import Ledger, LedgerFull, LedgerWriter, public_key

SEED = bytes(range(32))


class Disk:
    """A real disk of a mebibyte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        room = os.statvfs(self.folder)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(argv, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(writer: LedgerWriter, most: int = 100) -> int:
    """Append until it is refused; how many went in."""
    for number in range(most):
        try:
            writer.append("settled", {"request_id": f"full-{number}", "pad": "x" * 1000})
        except LedgerFull:
            return number
    return most


def test_without_a_second_folder_nothing_is_answered_unmetered(disk: Disk) -> None:
    writer = LedgerWriter(disk.folder / "ledger", "server")
    writer.append("settled", {"request_id": "before"})
    disk.fill()
    assert fill_up(writer) < 100
    disk.free()
    writer.append("settled", {"request_id": "after"})
    writer.close()
    assert Ledger(disk.folder / "ledger").verify().ok


def test_spilled_records_are_found_at_once_and_chained_when_there_is_room(disk: Disk, tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    writer = LedgerWriter(disk.folder / "ledger", "server", spill=spill)
    ledger = Ledger(disk.folder / "ledger", spill=spill)
    disk.fill()
    assert fill_up(writer) == 100
    assert writer.spilling
    assert ledger.find("full-99"), "what lies in the second folder is found"
    assert len(list(ledger.records("settled"))) == 100
    heads = writer.checkpoint(SEED)
    assert ledger.verify(heads, public_key(SEED)).ok
    disk.free()
    end = time.monotonic() + 90
    while writer.spilling and time.monotonic() < end:
        time.sleep(0.05)
    assert not writer.spilling
    writer.append("settled", {"request_id": "after"})
    writer.close()
    alone = Ledger(disk.folder / "ledger")
    report = alone.verify(heads, public_key(SEED))
    assert report.ok, report.problems
    assert [r["request_id"] for r in alone.records("settled")] == [*(f"full-{n}" for n in range(100)), "after"]
    assert not list(spill.rglob("spilled.jsonl"))


def test_a_restart_while_the_disk_is_full_goes_on_where_the_second_folder_ends(disk: Disk, tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    folder = disk.folder / "ledger"
    writer = LedgerWriter(folder, "server", spill=spill)
    disk.fill()
    assert fill_up(writer) == 100
    writer.close()
    writer = LedgerWriter(folder, "server", spill=spill)
    assert (writer.records, writer.spilling) == (100, True)
    assert fill_up(writer, 5) == 5
    heads = writer.checkpoint(SEED)
    disk.free()
    writer.close()
    writer = LedgerWriter(folder, "server", spill=spill)
    assert not writer.spilling
    writer.close()
    report = Ledger(folder).verify(heads, public_key(SEED))
    assert report.ok, report.problems
    assert report.records == 106


def test_a_move_that_was_killed_half_way_repeats_nothing(disk: Disk, tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    folder = disk.folder / "ledger"
    writer = LedgerWriter(folder, "server", spill=spill)
    disk.fill()
    assert fill_up(writer) == 100
    writer.close()
    lines = (spill / "server" / "spilled.jsonl").read_bytes().splitlines(keepends=True)
    disk.free()
    with (folder / "server" / "000001.jsonl").open("ab") as file:  # as far as a killed move came
        file.write(b"".join(lines[:7]) + lines[7][:50])
    writer = LedgerWriter(folder, "server", spill=spill)
    writer.close()
    report = Ledger(folder).verify()
    assert report.ok, report.problems
    assert len(list(Ledger(folder).records("settled"))) == 100


def test_where_both_disks_are_full_it_is_refused(disk: Disk) -> None:
    writer = LedgerWriter(disk.folder / "ledger", "server", spill=disk.folder / "spill")
    disk.fill()
    assert fill_up(writer) < 100
    disk.free()
    writer.append("settled", {"request_id": "after"})
    writer.close()
    assert Ledger(disk.folder / "ledger", spill=disk.folder / "spill").verify().ok


def test_foreign_records_in_the_second_folder_do_not_enter_the_chain(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path / "a", "server")
    for number in range(3):
        writer.append("settled", {"request_id": f"other-{number}"})
    writer.close()
    spill = tmp_path / "spill" / "server"
    spill.mkdir(parents=True)
    (spill / "spilled.jsonl").write_bytes((tmp_path / "a" / "server" / "000001.jsonl").read_bytes())
    writer = LedgerWriter(tmp_path / "b", "server")
    writer.append("settled", {"request_id": "ours"})
    writer.close()
    writer = LedgerWriter(tmp_path / "b", "server", spill=tmp_path / "spill")
    writer.append("settled", {"request_id": "goes on"})
    writer.close()
    ledger = Ledger(tmp_path / "b")
    assert ledger.verify().ok
    assert [r["request_id"] for r in ledger.records("settled")] == ["ours", "goes on"]
    assert list(spill.glob("aside-*.jsonl")), "they are kept for somebody to look at"
