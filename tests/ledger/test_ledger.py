"""The ledger: what was acknowledged is there after a crash, and nobody changes it unseen."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.ledger import (
    Head,
    Ledger,
    LedgerFull,
    LedgerWriter,
    explain,
    public_key,
    request_id,
    settle_open,
    usage,
)
from ecotone.ledger.settling import open_requests

SEED = bytes(range(32))


def filled(folder: Path, count: int = 30, segment_bytes: int = 2000) -> dict[str, Head]:
    writer = LedgerWriter(folder, "server", segment_bytes=segment_bytes)
    for i in range(count):
        writer.append("settled", {"request_id": f"req-{i}", "project": "p", "model": "m", "prompt_tokens": i})
    heads = writer.checkpoint(SEED)
    writer.close()
    return heads


def test_a_whole_ledger_verifies_over_segments_and_restarts(tmp_path: Path) -> None:
    filled(tmp_path)
    heads = filled(tmp_path, 5)
    report = Ledger(tmp_path).verify(heads, public_key(SEED))
    assert report.ok, report.problems
    assert report.records == 37
    assert report.segments > 3
    assert report.checkpoints == 2


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found_and_placed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    heads = filled(folder, 8, 1500)
    segment = data.draw(st.sampled_from([f for f in sorted((folder / "server").iterdir()) if f.stat().st_size]))
    whole = segment.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    content = bytearray(whole)
    content[at] ^= data.draw(st.integers(1, 255))
    segment.write_bytes(content)
    report = Ledger(folder).verify(heads, public_key(SEED))
    assert not report.ok
    begin = whole.rfind(b"\n", 0, at) + 1
    problem = report.problems[0]
    assert (problem.segment_file, problem.offset) == (f"server/{segment.name}", begin)
    assert problem.record == json.loads(whole[begin:].split(b"\n")[0])["n"]


def test_a_cut_tail_a_missing_segment_and_a_missing_chain_are_found(tmp_path: Path) -> None:
    heads = filled(tmp_path)
    files = sorted((tmp_path / "server").iterdir())
    files = [f for f in files if f.stat().st_size]
    last = files[-1].read_bytes()
    files[-1].write_bytes(b"".join(last.splitlines(keepends=True)[:-1]))
    cut = Ledger(tmp_path).verify(heads, public_key(SEED))
    assert not cut.ok
    assert "cut" in cut.problems[0].what
    files[-1].write_bytes(last)
    assert Ledger(tmp_path).verify(heads, public_key(SEED)).ok
    kept = files[1].read_bytes()
    files[1].unlink()
    assert "missing" in Ledger(tmp_path).verify(heads).problems[0].what
    files[1].write_bytes(kept)
    for file in files:
        file.unlink()
    assert not Ledger(tmp_path).verify(heads).ok


def test_a_forger_without_the_key_cannot_sign_a_checkpoint(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", {"request_id": "a"})
    writer.checkpoint(bytes(32))
    writer.close()
    report = Ledger(tmp_path).verify({}, public_key(SEED))
    assert not report.ok
    assert "signed" in report.problems[0].what


def test_a_torn_last_record_is_cut_and_noted(tmp_path: Path) -> None:
    filled(tmp_path, 3, 10**6)
    segment = tmp_path / "server" / "000001.jsonl"
    with segment.open("ab") as file:
        file.write(b'{"n":5,"at":"2026')
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", {"request_id": "after"})
    writer.close()
    assert Ledger(tmp_path).verify().ok
    assert [r["bytes"] for r in Ledger(tmp_path).records("cut")] == [17]


CHILD = """
import sys
from pathlib import Path
from ecotone.ledger import LedgerWriter
writer = LedgerWriter(Path(sys.argv[1]), "server", segment_bytes=20000)
for i in range(10**9):
    writer.append("settled", {"request_id": f"req-{i}", "pad": "x" * (i % 200)})
    print(i, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(400)][-1]
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    LedgerWriter(tmp_path, "server").close()
    ledger = Ledger(tmp_path)
    assert ledger.verify().ok
    assert ledger.find(f"req-{acknowledged}")


def test_one_turn_of_the_loop_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LedgerWriter(tmp_path, "server")
    writes: list[int] = []
    real = os.write
    monkeypatch.setattr("ecotone.ledger.writing.os.write", lambda fd, data: writes.append(len(data)) or real(fd, data))

    async def turn() -> None:
        receipts = await asyncio.gather(*(writer.appended("settled", {"request_id": str(i)}) for i in range(50)))
        assert [r.record for r in receipts] == list(range(1, 51))

    asyncio.run(turn())
    writer.close()
    assert len(writes) == 1
    assert Ledger(tmp_path).verify().ok


def test_a_full_disk_refuses_and_leaves_the_chain_whole(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", {"request_id": "before"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
        with pytest.raises(LedgerFull, match="free space"):
            writer.append("settled", {"request_id": "x", "pad": "y" * 2000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    writer.append("settled", {"request_id": "after"})
    writer.close()
    assert Ledger(tmp_path).verify().ok
    assert [r["request_id"] for r in Ledger(tmp_path).records("settled")] == ["before", "after"]


def test_open_requests_are_settled_as_estimates_once(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")
    writer.append("opened", {"request_id": "a", "project": "p", "model": "m", "reserved_prompt_tokens": 12})
    writer.append("opened", {"request_id": "b", "project": "p", "model": "m"})
    writer.append("settled", {"request_id": "b", "project": "p", "model": "m", "prompt_tokens": 3, "cost_usd": 0.5})
    ledger = Ledger(tmp_path)
    assert settle_open(ledger, writer) == 1
    assert settle_open(ledger, writer) == 0
    (line,) = usage(ledger)
    assert (line.requests, line.prompt_tokens, line.cost_usd, line.estimates) == (2, 15, 0.5, 1)
    told = explain(ledger, "a")
    assert told is not None
    assert told["status"] == "interrupted"
    assert explain(ledger, "zz") is None
    writer.close()


def test_request_ids_name_their_writer_and_sort_by_time() -> None:
    ids = [request_id("server") for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(i.startswith("req-server-") for i in ids)


def test_records_are_plain_json_lines(tmp_path: Path) -> None:
    filled(tmp_path, 2, 10**6)
    for line in (tmp_path / "server" / "000001.jsonl").read_text().splitlines():
        assert {"n", "at", "kind", "prev", "hash"} <= set(json.loads(line))


def test_a_request_is_closed_whatever_its_id_and_wherever_that_stands(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server", segment_bytes=400)
    ids = ["r1", 'with "quotes"', "back\\slash", "é", ""]
    for name in ids:
        writer.append("opened", {"request_id": name})
        writer.append("opened", {"error": '"request_id":"r1"', "request_id": f"{name} left"})
    for name in ids:
        writer.append("settled", {"status": "done", "request_id": name})
    writer.append("refused", {"request_id": "never opened"})
    left = open_requests(Ledger(tmp_path), "server")
    writer.close()
    assert [record["request_id"] for record in left] == [f"{name} left" for name in ids]
