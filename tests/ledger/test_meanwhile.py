"""Readers while records are moved from the second folder, or segments are removed after their export: at each of the
reader's steps the other is let in, and nothing is lost, told twice or refused."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ecotone.ledger import Ledger, LedgerWriter, public_key
from ecotone.ledger.answers import Answers
from ecotone.ledger.exported import verify_export
from ecotone.ledger.exporting import Export
from ecotone.ledger.kept_sums import KeptSums, leave
from ecotone.ledger.recent import newest
from ecotone.ledger.retiring import closed, retire
from ecotone.ledger.settling import open_requests
from ecotone.ledger.spilling import Spill
from ecotone.ledger.tail import Tail
from ecotone.ledger.usage import usage

SEED = bytes(range(32))
KEY = public_key(SEED)
MOST_STEPS = 400
PATIENCE = 90.0
NUMBER = 12
IDS = [f"req-server-{n}" for n in range(NUMBER)]

Reading = Callable[[Ledger, Path], Any]


class Meanwhile:
    """Something else that happens once, before or after a step of the reader: one question to the disk each."""

    def __init__(self, patching: pytest.MonkeyPatch) -> None:
        self._at = -1
        self._act: Callable[[], None] = lambda: None
        self._reader = threading.get_ident()
        self.happened = False
        for name in ("is_file", "open", "read_bytes", "stat"):
            patching.setattr(Path, name, self._late(getattr(Path, name)))

    @contextlib.contextmanager
    def at(self, step: int, act: Callable[[], None]) -> Iterator[None]:
        """Let this happen around the step of a number, if there are so many."""
        self._at, self._act, self.happened = step, act, False
        yield
        self._at = -1

    def _late(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def late(path: Path, *how: Any, **more: Any) -> Any:
            self._step()
            answer = ask(path, *how, **more)
            self._step()
            return answer

        return late

    def _step(self) -> None:
        if threading.get_ident() != self._reader:
            return
        if self._at == 0:
            self.happened = True
            self._at = -1
            self._act()
        elif self._at > 0:
            self._at -= 1


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    return Meanwhile(monkeypatch)


class FullOnce(LedgerWriter):
    """A writer whose first folder has no room for a while."""

    room = True

    def _into_segment(self, block: bytes) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "no room")
        super()._into_segment(block)

    def has_room(self) -> None:
        self.room = True
        self._chain_again()


def call(writer: LedgerWriter, request_id: str) -> None:
    told = {"project": "shop", "model": "m", "status": "done", "cost": 7, "prompt_tokens": 1, "completion_tokens": 1}
    writer.append("opened", {"request_id": request_id, "project": "shop"})
    writer.append("settled", {"request_id": request_id, **told})


def _ids(records: Any) -> list[str]:
    return [r["request_id"] for r in records if r["kind"] == "settled"]


def _costs(ledger: Ledger, folder: Path) -> int:
    sums = KeptSums(ledger, folder / "sums")
    return sum(each.cost for segment in sums.newest_first("server") for _, each in segment)


def _exported(ledger: Ledger, folder: Path) -> Any:
    (folder / "export").write_bytes(b"".join(Export(ledger, SEED)))
    return verify_export(folder / "export", KEY).problems


def _answered(ledger: Ledger, _folder: Path) -> Any:
    answers = Answers(ledger, lambda _: True)
    return [a.request_id for a in answers], answers.damaged, answers.places["server"].record


READINGS: dict[str, tuple[Reading, Any]] = {
    "records": (lambda ledger, _: _ids(ledger.records()), IDS),
    "records, newest first": (lambda ledger, _: _ids(ledger.records(newest_first=True)), IDS[::-1]),
    "one request": (lambda ledger, _: [r["kind"] for r in ledger.find(IDS[-1])], ["opened", "settled"]),
    "heads": (lambda ledger, _: ledger.heads()["server"].records, 2 * NUMBER),
    "usage": (lambda ledger, _: [line.requests for line in usage(ledger)], [NUMBER]),
    "sums": (_costs, 7 * NUMBER),
    "open requests": (lambda ledger, _: open_requests(ledger, "server"), []),
    "answers": (_answered, (IDS, 0, 2 * NUMBER)),
    "export": (_exported, []),
}


@pytest.mark.parametrize("reading", READINGS)
def test_what_is_moved_while_it_is_read_is_read_once(reading: str, tmp_path: Path, meanwhile: Meanwhile) -> None:
    read, expected = READINGS[reading]
    for step in range(MOST_STEPS):
        folder = tmp_path / str(step)
        writer = FullOnce(folder / "ledger", "server", segment_bytes=900, spill=folder / "spill")
        ledger = Ledger(folder / "ledger", spill=folder / "spill")
        for request_id in IDS[: NUMBER // 2]:
            call(writer, request_id)
        writer.room = False
        for request_id in IDS[NUMBER // 2 :]:
            call(writer, request_id)
        assert writer.spilling
        head = ledger.heads()["server"]
        if reading == "export":
            signing = LedgerWriter(folder / "ledger", "other", spill=folder / "spill")
            signing.checkpoint(SEED)
            signing.close()
        with meanwhile.at(step, writer.has_room):
            found = read(ledger, folder)
            assert reading != "heads" or ledger.holds("server", head)
        writer.close()
        assert found == expected, f"moved at step {step}"
        if not meanwhile.happened:
            break
    else:
        raise AssertionError("the reading has no end")
    assert step > 1


REMAINING: dict[str, Reading] = {
    "records": lambda ledger, _: _ids(ledger.records()),
    "records, newest first": lambda ledger, _: _ids(ledger.records(newest_first=True))[::-1],
    "one request": lambda ledger, _: [r["request_id"] for r in ledger.find(IDS[-1]) if r["kind"] == "settled"],
    "of another": lambda ledger, _: ledger.ruling("none") or IDS[-1:],
    "usage": lambda ledger, _: IDS[-line.requests :] if (line := usage(ledger)[0]) else [],
    "newest": lambda ledger, _: [line.request_id for line in newest(ledger, lambda _: True, most=100)][::-1],
    "answers": lambda ledger, folder: _answered(ledger, folder)[0],
    "tail": lambda ledger, _: (
        [i for line in Tail(ledger.folder, {}).lines() for i in IDS if f'"{i}"' in line.decode()] and IDS[-1:]
    ),
}


@pytest.mark.parametrize("reading", [*REMAINING, "sums", "export"])
def test_what_is_removed_while_it_is_read_is_passed_over(reading: str, tmp_path: Path, meanwhile: Meanwhile) -> None:
    for step in range(MOST_STEPS):
        folder = tmp_path / str(step)
        writer = LedgerWriter(folder / "ledger", "server", segment_bytes=900)
        for request_id in IDS:
            call(writer, request_id)
        writer.checkpoint(SEED)
        chain = folder / "ledger" / "server"
        leaving = closed(chain)[:-1]
        ledger = Ledger(folder / "ledger")

        def remove(chain: Path = chain, leaving: list[Path] = leaving) -> None:
            for segment in leaving:
                leave(segment)
            retire(chain, leaving, SEED)

        with meanwhile.at(step, remove):
            try:
                if reading == "sums":
                    assert _costs(ledger, folder) == 7 * NUMBER, f"removed at step {step}"
                elif reading == "export":
                    assert _exported(ledger, folder) == [], f"removed at step {step}"
                else:
                    found = REMAINING[reading](ledger, folder)
                    assert found == [i for i in IDS if i in found] and found[-1] == IDS[-1], f"removed at step {step}"
            except FileNotFoundError:  # one that was half sent breaks off
                if reading != "export":
                    raise
        writer.close()
        if not meanwhile.happened:
            break
    else:
        raise AssertionError("the reading has no end")
    assert step > 1


def test_closing_while_the_second_folder_is_emptied_moves_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes longer for the move than closing waits for the thread that does it."""
    monkeypatch.setattr("ecotone.ledger.writing._MOVED_BYTES", 1000)
    monkeypatch.setattr("ecotone.ledger.writing._FLUSH_SECONDS", 0.01)
    begun, other, wrote = threading.Event(), threading.Event(), threading.Event()

    class Slow(FullOnce):
        def _into_segment(self, block: bytes) -> None:
            flusher = threading.current_thread().name == "ledger-flush"
            if self.room and flusher and not begun.is_set():
                begun.set()
                other.wait(1.0)  # whoever closes would come in here
                super()._into_segment(block)
                wrote.set()
                return
            if not flusher and begun.is_set():
                other.set()
                wrote.wait(PATIENCE)
            super()._into_segment(block)

    writer = Slow(tmp_path / "ledger", "server", spill=tmp_path / "spill")
    monkeypatch.setattr(writer._flusher, "join", lambda _seconds: None)
    writer.room = False
    for request_id in IDS:
        call(writer, request_id)
    writer.room = True
    assert begun.wait(PATIENCE)
    writer.close()
    assert Ledger(tmp_path / "ledger").verify().ok
    assert _ids(Ledger(tmp_path / "ledger").records()) == IDS


def test_what_was_moved_is_on_disk_before_the_second_folder_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another thread goes on in the next segment meanwhile."""
    writer = FullOnce(tmp_path / "ledger", "server", segment_bytes=1500, spill=tmp_path / "spill")
    writer.room = False
    for request_id in IDS:
        call(writer, request_id)
    moved_to = writer._segment.stat().st_ino
    flushed: list[int] = []
    fsync, leave_it = os.fsync, Spill.close

    class Lock:
        """The writer's lock, behind which another thread appends as soon as it is free."""

        def __init__(self, lock: threading.Lock) -> None:
            self._lock = lock
            self.goes_on = True

        def __enter__(self) -> None:
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()
            if self.goes_on and not writer.spilling:
                self.goes_on = False
                call(writer, "next")

    def noted(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def left(spill: Spill, *, remove: bool) -> None:
        assert moved_to in flushed
        leave_it(spill, remove=remove)

    writer._lock = Lock(writer._lock)  # type: ignore[assignment]
    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Spill, "close", left)
    writer.has_room()
    assert writer._segment.stat().st_ino != moved_to
    writer.close()
    assert not list((tmp_path / "spill").rglob("spilled.jsonl"))


def test_a_request_is_found_whole_however_many_others_end_meanwhile(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server", segment_bytes=300)
    for kind in ("opened", "failed", "opened"):
        writer.append(kind, {"request_id": "req-server-long"})
    for request_id in IDS:
        call(writer, request_id)
    writer.append("settled", {"request_id": "req-server-long"})
    found = Ledger(tmp_path).find("req-server-long")
    writer.close()
    assert [record["kind"] for record in found] == ["opened", "failed", "opened", "settled"]


def test_a_line_that_is_being_written_is_waited_for_by_whoever_was_stopped_himself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", {"request_id": "r1"})
    writer.close()
    segment = tmp_path / "server" / "000001.jsonl"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-40])
    clock = time.monotonic

    def stopped() -> float:
        """Whoever asks for the time is stopped for a minute, in which the writer goes on."""
        segment.write_bytes(whole)
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 60)
        return clock()

    monkeypatch.setattr(time, "monotonic", stopped)
    monkeypatch.setattr(time, "sleep", lambda _: segment.write_bytes(whole))
    assert Ledger(tmp_path).verify().ok
