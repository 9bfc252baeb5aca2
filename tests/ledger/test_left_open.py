"""What a crash left open is found from what each closed segment leaves open, without reading them again."""

import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.gateway.chains import settle_left
from ecotone.ledger import Ledger, LedgerFull, LedgerWriter, kept_sums, settle_open, unwritten
from ecotone.ledger.adding import main as add_up
from ecotone.ledger.left_open import LeftOpen, joined, left_open
from ecotone.ledger.retiring import closed
from ecotone.ledger.settling import open_requests
from ecotone.settings import Settings

Event = tuple[str, str, float]
"""Kind, request, hours since the first."""
BEGIN = datetime(2026, 11, 28, tzinfo=UTC)
kinds = st.sampled_from(["opened", "opened", "settled", "failed", "refused", "started"])
events = st.lists(st.tuples(kinds, st.sampled_from("abcd"), st.sampled_from([0.0, 0.01, 1.0, 4.0])), max_size=24)


def lines_of(told: Sequence[Event]) -> list[bytes]:
    """Records, each so many hours after the one before."""
    found, at = [], BEGIN
    for number, (kind, request, hours) in enumerate(told, 1):
        at += timedelta(hours=hours)
        record: dict[str, Any] = {"n": number, "at": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", "kind": kind, "prev": "0" * 64}
        if kind != "started":
            record["request_id"] = request
        found.append(json.dumps(record, separators=(",", ":")).encode() + b"\n")
    return found


def read_in_one(told: Sequence[Event]) -> list[int]:
    """The numbers of the records that stay open, as one pair of eyes finds them, reading from the end."""
    at = BEGIN + timedelta(hours=sum(hours for _, _, hours in told))
    left: list[int] = []
    ends: dict[str, int] = {}
    seen: set[str] = set()
    last: datetime | None = None
    for number in range(len(told), 0, -1):
        kind, request, hours = told[number - 1]
        if kind == "started":
            break
        if kind != "refused":
            last = last or at
            if at < last - timedelta(hours=6):
                break
            if kind != "opened":
                ends[request] = ends.get(request, 0) + 1
            elif ends.get(request, 0):
                ends[request] -= 1
            elif request not in seen:
                seen.add(request)
                left.append(number)
        at -= timedelta(hours=hours)
    return left[::-1]


@given(events, st.lists(st.integers(0, 24), max_size=6))
def test_however_a_chain_is_cut_the_same_is_left_open(told: list[Event], cuts: list[int]) -> None:
    lines = lines_of(told)
    places = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    parts = [lines[begin:end] for begin, end in pairwise(places)]
    found = joined(left_open(reversed(part)) for part in reversed(parts))
    assert [record["n"] for record in found] == read_in_one(told)


def test_no_part_is_looked_at_before_the_last_start_or_earlier_than_a_request_can_last() -> None:
    def parts(*told: Sequence[Event]) -> Iterable[LeftOpen]:
        for part in told:
            yield left_open(reversed(lines_of(part)))
        raise AssertionError("a part was asked for that cannot matter")

    assert [r["request_id"] for r in joined(parts([("started", "", 0), ("opened", "a", 0)]))] == ["a"]
    assert [r["request_id"] for r in joined(parts([("opened", "old", 0), ("opened", "a", 7)]))] == ["a"]


def crashed(folder: Path, calls: int) -> LedgerWriter:
    """A chain of many segments, in each of which something was left open for good."""
    chain = LedgerWriter(folder, "w1", segment_bytes=4000)
    for number in range(calls):
        name = f"req-w1-{number}"
        chain.append("opened", {"request_id": name, "project": "shop", "reserved_cost": number})
        if number % 10:
            chain.append("settled", {"request_id": name, "project": "shop", "status": "done", "cost": 1}, flush=True)
    return chain


def test_a_start_after_a_crash_reads_what_was_not_kept_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "ledger", tmp_path / "sums"
    writer, ledger = crashed(folder, 200), Ledger(folder)
    whole = closed(folder / "w1")
    assert len(whole) > 8
    wanted = open_requests(ledger, "w1")
    assert [record["reserved_cost"] for record in wanted] == list(range(0, 200, 10))
    monkeypatch.setattr("sys.argv", ["adding", str(folder), str(kept)])
    monkeypatch.setattr("os.nice", lambda _: 0)  # this process goes on
    monkeypatch.delattr("os.sched_setscheduler")
    add_up()
    read: list[list[bytes]] = []
    real = kept_sums.left_open

    def noted(lines: Iterable[bytes]) -> LeftOpen:
        read.append(list(lines))
        return real(read[-1])

    monkeypatch.setattr(kept_sums, "left_open", noted)
    assert open_requests(ledger, "w1", kept=kept) == wanted
    assert len(read) == 1, "only the segment that may still grow is read"
    assert settle_open(ledger, writer, kept=kept) == 20
    assert settle_open(ledger, writer, kept=kept) == 0
    writer.close()
    assert ledger.verify().ok


def test_what_is_kept_of_another_form_or_of_another_segment_is_not_taken(tmp_path: Path) -> None:
    folder, kept = tmp_path / "ledger", tmp_path / "sums"
    crashed(folder, 100).close()
    ledger = Ledger(folder)
    wanted = open_requests(ledger, "w1")
    assert open_requests(ledger, "w1", kept=kept) == wanted
    files = sorted(kept.iterdir())
    assert [f.name for f in files] == [f"w1-{segment.stem}" for segment in closed(folder / "w1")]
    files[0].write_bytes(b"\x93\x01\xa0\x90")  # as it was before what is left open was kept
    files[1].write_bytes(files[2].read_bytes())
    files[3].write_bytes(b"")
    assert open_requests(ledger, "w1", kept=kept) == wanted


def test_what_is_kept_of_segments_that_are_gone_goes_too(tmp_path: Path) -> None:
    folder, kept = tmp_path / "ledger", tmp_path / "sums"
    crashed(folder, 100).close()
    sums = kept_sums.KeptSums(Ledger(folder), kept)
    for segment in sums.missing():
        sums.keep(segment)
    names = {file.name for file in kept.iterdir()}
    first = closed(folder / "w1")[0]
    first.unlink()
    (kept / "w1-000002.77").write_bytes(b"begun")
    (kept / "w1-000003.78").write_bytes(b"begun long ago")
    hour = datetime.now().timestamp() - 7200
    os.utime(kept / "w1-000003.78", (hour, hour))
    sums.tidy()
    assert {file.name for file in kept.iterdir()} == (names - {f"w1-{first.stem}"}) | {"w1-000002.77"}


def test_a_chain_that_cannot_be_settled_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data=tmp_path)
    folder = settings.folder("ledger")
    for name in ("gw1a", "gw1b", "gw1c"):
        chain = LedgerWriter(folder, name)
        chain.append("opened", {"request_id": "r", "project": "shop"})
        chain.close()
    real = LedgerWriter.append

    def append(writer: LedgerWriter, *told: Any, **how: Any) -> Any:
        if writer.writer == "gw1a":
            raise LedgerFull("The ledger cannot be written (No space left on device).")
        return real(writer, *told, **how)

    with unwritten(folder / "gw1b"), monkeypatch.context() as patch:
        patch.setattr(LedgerWriter, "append", append)
        assert settle_left(settings, "gw", 1, 1) == 1
    assert "chain gw1a could not be settled" in caplog.text and "gw1b" not in caplog.text
    assert [record["request_id"] for record in open_requests(Ledger(folder), "gw1a")] == ["r"]
    assert settle_left(settings, "gw", 1, 1) == 2
