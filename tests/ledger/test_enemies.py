"""Who rewrites the ledger, tears it, fills its disk or starts a second server: none of it passes unseen."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ecotone.ledger import (
    Head,
    Ledger,
    LedgerBusy,
    LedgerFull,
    LedgerWriter,
    explain,
    public_key,
    settle_open,
    verifying,
)
from ecotone.ledger import records as form
from ecotone.ledger.lines import encode_all
from ecotone.ledger.retiring import closed, retire

SEED = bytes(range(32))
KEY = public_key(SEED)


def written(folder: Path, count: int, writer: str = "server", segment_bytes: int = 2000) -> dict[str, Head]:
    made = LedgerWriter(folder, writer, segment_bytes=segment_bytes)
    for i in range(count):
        made.append("settled", {"request_id": f"req-{writer}-{i}", "prompt_tokens": i})
    heads = made.heads()
    made.close()
    return heads


def forge(chain: Path, change: Any) -> None:
    """Rewrite a whole chain with right hashes, as an enemy can who has no key."""
    prev, number = form.GENESIS, 0
    for segment in sorted(chain.glob("*.jsonl")):
        lines = []
        for line in segment.read_bytes().splitlines():
            record = json.loads(line)
            own = {k: v for k, v in change(record).items() if k not in ("n", "at", "kind", "prev", "hash")}
            number += 1
            made, prev = encode_all(number, prev, [(record["kind"], form.packed(own))])
            lines.append(made)
        segment.write_bytes(b"".join(lines))


def test_a_chain_made_anew_with_right_hashes_breaks_the_promise_of_its_checkpoints(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")
    for i in range(5):
        writer.append("settled", {"request_id": f"r{i}", "prompt_tokens": 1000})
    writer.checkpoint(SEED)
    writer.close()
    forge(tmp_path / "server", lambda r: {**r, "prompt_tokens": 1} if r["kind"] == "settled" else r)
    report = Ledger(tmp_path).verify({}, KEY)
    assert not report.ok
    assert report.problems[0].record == 5
    assert "checkpoint" in report.problems[0].what


def test_a_checkpoint_holds_the_chains_of_other_writers_too(tmp_path: Path) -> None:
    written(tmp_path, 9, "worker1", 10**6)
    server = LedgerWriter(tmp_path, "server")
    heads = server.checkpoint(SEED)
    server.close()
    assert set(heads) == {"server", "worker1"} or set(heads) == {"worker1", "server"}
    assert Ledger(tmp_path).verify(heads, KEY).ok
    segment = tmp_path / "worker1" / "000001.jsonl"
    whole = segment.read_bytes()
    segment.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    cut = Ledger(tmp_path).verify({}, KEY)
    assert [(p.segment_file, p.record, p.offset) for p in cut.problems] == [
        ("worker1/000001.jsonl", 8, segment.stat().st_size)
    ]
    segment.unlink()
    segment.parent.rmdir()
    gone = Ledger(tmp_path).verify({}, KEY)
    assert [p.segment_file for p in gone.problems] == ["worker1/000001.jsonl"]


def test_a_checkpoint_of_any_form_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")
    for odd in ({}, {"heads": 3}, {"heads": {"a": {}}, "root": "x", "signature": "zz"}):
        writer.append("checkpoint", odd)
    root = form.merkle_root({})
    writer.append("checkpoint", {"heads": {}, "root": root, "signature": "not hex"})
    writer.close()
    assert len(Ledger(tmp_path).verify({}, KEY).problems) == 4


def test_the_chain_whose_last_record_was_changed_goes_on_and_verify_names_the_place(tmp_path: Path) -> None:
    written(tmp_path, 4, segment_bytes=10**6)
    segment = tmp_path / "server" / "000001.jsonl"
    content = bytearray(segment.read_bytes())
    content[-90] ^= 1
    segment.write_bytes(content)
    written(tmp_path, 2, segment_bytes=10**6)
    report = Ledger(tmp_path).verify({}, KEY)
    assert [p.record for p in report.problems] == [4]


def test_two_processes_never_write_one_chain(tmp_path: Path) -> None:
    first = LedgerWriter(tmp_path, "server")
    with pytest.raises(LedgerBusy, match="other server"):
        LedgerWriter(tmp_path, "server", wait=0.1)
    first.close()
    LedgerWriter(tmp_path, "server", wait=0.1).close()


def test_what_cannot_be_a_record_fails_its_own_caller_and_nobody_else(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")

    async def turn() -> list[Any]:
        tries = [{"request_id": "a"}, {"request_id": object()}, {"hash": "forged"}, {"request_id": "b"}]
        return await asyncio.gather(*(writer.appended("settled", t) for t in tries), return_exceptions=True)

    a, no_json, reserved, b = asyncio.run(asyncio.wait_for(turn(), 60))
    assert (a.record, b.record) == (1, 2)
    assert isinstance(no_json, TypeError)
    assert isinstance(reserved, ValueError)
    writer.close()
    with pytest.raises(LedgerFull, match="closed"):
        writer.append("settled", {})


def test_a_next_segment_that_cannot_be_made_loses_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LedgerWriter(tmp_path, "server", segment_bytes=500)

    def full(_segment: Path) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ecotone.ledger.writing._append_to", full)
        for i in range(8):
            writer.append("settled", {"request_id": str(i)})
    writer.append("settled", {"request_id": "8"})
    writer.append("settled", {"request_id": "9"})
    writer.close()
    report = Ledger(tmp_path).verify(Ledger(tmp_path).heads(), KEY)
    assert (report.ok, report.records, report.segments) == (True, 10, 2)


def test_a_flush_stands_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LedgerWriter(tmp_path, "server")
    flushing, go_on = threading.Event(), threading.Event()

    def slow(_descriptor: int) -> None:
        flushing.set()
        go_on.wait(60)

    monkeypatch.setattr("ecotone.ledger.writing.os.fsync", slow)
    thread = threading.Thread(target=lambda: writer.append("admin", {"act": "x"}, flush=True))
    thread.start()
    assert flushing.wait(60)
    written = threading.Thread(target=lambda: writer.append("settled", {"request_id": "on the path"}))
    written.start()
    written.join(30)
    assert not written.is_alive()
    go_on.set()
    thread.join(60)
    writer.close()


def test_verify_and_find_while_the_writer_writes(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server", segment_bytes=20_000)
    stop = threading.Event()

    def write() -> None:
        i = 0
        while not stop.is_set() and i < 20_000:
            writer.append("settled", {"request_id": f"r{i}", "pad": "x" * random.randrange(300)})
            i += 1

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    ledger = Ledger(tmp_path)
    reports = []
    for _ in range(6):
        heads = writer.checkpoint(SEED)
        reports.append(ledger.verify(heads, KEY))
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert all(r.ok for r in reports), [r.problems for r in reports if not r.ok]
    assert ledger.verify(ledger.heads(), KEY).ok


@pytest.mark.parametrize("segment_bytes", [1, 300, 500, 700])
def test_verify_meets_a_writer_at_each_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    """Whatever is asked of the files, the writer writes behind the answer, most often into the next segment."""
    writer = LedgerWriter(tmp_path, "server", segment_bytes=segment_bytes)
    heads = writer.checkpoint(SEED)
    left = 60
    is_file, lines = Path.is_file, verifying._lines

    def goes_on() -> None:
        nonlocal left
        if left:
            left -= 1
            writer.append("settled", {"request_id": f"r{left}"})

    def asked(path: Path, **how: Any) -> bool:
        found = is_file(path, **how)
        goes_on()
        return found

    def read(segment: Path, offset: int = 0) -> Iterator[bytes]:
        yield from lines(segment, offset)
        goes_on()

    monkeypatch.setattr(Path, "is_file", asked)
    monkeypatch.setattr("ecotone.ledger.verifying._lines", read)
    while left:
        report = Ledger(tmp_path).verify(heads, KEY)
        assert report.ok, report.problems
        heads = writer.heads()
    writer.close()


def test_what_is_moved_or_removed_while_verify_reads_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_folder, spill = tmp_path / "ledger", tmp_path / "spill"
    writer = LedgerWriter(ledger_folder, "server", segment_bytes=500, spill=spill)
    for i in range(8):
        writer.append("settled", {"request_id": f"r{i}"})
    writer.checkpoint(SEED)
    into_segment = LedgerWriter._into_segment

    def full(_writer: LedgerWriter, _block: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LedgerWriter, "_into_segment", full)
    writer.append("settled", {"request_id": "spilled"})
    ledger = Ledger(ledger_folder, spill=spill)
    assert ledger.verify(writer.heads(), KEY).ok

    def retires(count: int) -> None:
        retire(ledger_folder / "server", closed(ledger_folder / "server")[:count], SEED)

    def has_room() -> None:
        monkeypatch.setattr(LedgerWriter, "_into_segment", into_segment)
        writer._chain_again()

    acts: list[Callable[[], None]] = [partial(retires, 1), has_room, partial(retires, 2)]
    checkpoints_of = verifying._Check.checkpoints_of

    def then_acts(check: Any, chain: Path) -> None:
        checkpoints_of(check, chain)
        if acts:
            acts.pop(0)()

    monkeypatch.setattr(verifying._Check, "checkpoints_of", then_acts)
    while acts:
        report = ledger.verify(writer.heads(), KEY)
        assert report.ok, report.problems
    writer.close()
    assert not (spill / "server" / "spilled.jsonl").exists()


CHILD = """
import asyncio, sys
from pathlib import Path
from ecotone.ledger import LedgerWriter
writer = LedgerWriter(Path(sys.argv[1]), "server", segment_bytes=30000)
async def caller(name):
    for i in range(10**9):
        await writer.appended("opened", {"request_id": f"{name}-{i}", "pad": "x" * (i % 300)})
        await writer.appended("settled", {"request_id": f"{name}-{i}"})
        print(f"{name}-{i}", flush=True)
async def main():
    await asyncio.gather(*(caller(n) for n in "abcdefgh"))
asyncio.run(main())
"""


def test_acknowledged_requests_survive_kill_9_under_load_and_open_ones_are_settled(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        acknowledged += [child.stdout.readline().strip() for _ in range(600)]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    writer = LedgerWriter(tmp_path, "server", segment_bytes=30000)
    ledger = Ledger(tmp_path)
    settle_open(ledger, writer)
    settled = {r["request_id"] for r in ledger.records("settled")}
    assert set(acknowledged) <= settled
    assert {r["request_id"] for r in ledger.records("opened")} <= settled
    assert ledger.verify(writer.heads(), KEY).ok
    writer.close()


def test_a_start_settles_its_own_chain_alone_and_reads_back_to_the_last_start(tmp_path: Path) -> None:
    worker = LedgerWriter(tmp_path, "worker1")
    worker.append("opened", {"request_id": "req-worker1-alive"})
    writer = LedgerWriter(tmp_path, "server")
    writer.append("opened", {"request_id": "req-server-a", "reserved_prompt_tokens": 5, "location": "local"})
    ledger = Ledger(tmp_path)
    assert settle_open(ledger, writer) == 1
    assert settle_open(ledger, writer) == 0
    assert [r["settled"] for r in ledger.records("started")] == [1, 0]
    assert len(ledger.find("req-worker1-alive")) == 1
    told = explain(ledger, "req-server-a")
    assert told is not None
    assert (told["status"], told["prompt_tokens"], told["cost_usd"]) == ("interrupted", 5, "0")
    writer.close()
    worker.close()


class Ledgers(RuleBasedStateMachine):
    """Any sequence of appending, rotating, crashing and restarting leaves a chain that verifies and holds all."""

    @initialize(segment_bytes=st.sampled_from([300, 1000, 10**6]))
    def begin(self, segment_bytes: int) -> None:

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.segment_bytes = segment_bytes
        self.writer = LedgerWriter(self.path, "server", segment_bytes=segment_bytes)
        self.acknowledged = 0
        self.known: dict[str, Head] = {}

    @rule(pad=st.integers(0, 400), flush=st.booleans())
    def append(self, pad: int, flush: bool) -> None:
        self.writer.append("settled", {"request_id": f"r{self.acknowledged}", "pad": "é" * pad}, flush=flush)
        self.acknowledged += 1

    @rule()
    def checkpoint(self) -> None:
        self.known = self.writer.checkpoint(SEED)

    @rule(torn=st.binary(max_size=60))
    def crash(self, torn: bytes) -> None:
        self.writer.close()  # the kernel has every acknowledged byte; what a crash adds is half a record
        last = max((self.path / "server").iterdir())
        with last.open("ab") as file:
            file.write(torn.replace(b"\n", b""))
        self.writer = LedgerWriter(self.path, "server", segment_bytes=self.segment_bytes)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "path"):
            return
        ledger = Ledger(self.path)
        report = ledger.verify(self.known | self.writer.heads(), KEY)
        assert report.ok, report.problems
        assert sum(1 for _ in ledger.records("settled")) == self.acknowledged

    def teardown(self) -> None:
        if hasattr(self, "path"):
            self.writer.close()
            self.folder.cleanup()


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
