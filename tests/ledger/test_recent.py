"""The newest requests, and reading on: from a ledger of several writers that are in the middle of their work."""

import itertools
import time
from pathlib import Path
from typing import Any

from ecotone.ledger import Ledger, LedgerWriter, request_id
from ecotone.ledger.recent import RequestLine, newest
from ecotone.ledger.tail import Position, Tail


def opened(writer: LedgerWriter, **more: Any) -> str:
    found = request_id(writer.writer)
    told = {"request_id": found, "project": "shop", "asked": "assistant", "route": "assistant", "model": "far/gpt"}
    writer.append("opened", told | {"backend": "far"} | more)
    return found


def settled(writer: LedgerWriter, found: str, **more: Any) -> None:
    told = {"request_id": found, "project": "shop", "model": "far/gpt", "backend": "far", "status": "done"}
    writer.append("settled", told | {"prompt_tokens": 3, "completion_tokens": 4, "seconds": 0.5} | more)


def every(line: RequestLine) -> bool:
    return True


def test_requests_of_all_writers_come_newest_first_with_how_they_ended(tmp_path: Path) -> None:
    one, two = (LedgerWriter(tmp_path, name) for name in ("one", "two"))
    ids = []
    for writer in (one, two, one, two):
        ids.append(opened(writer))
        time.sleep(0.002)
    settled(two, ids[1], status="failed", error="upstream_died", cost=None)
    settled(one, ids[0], cost=1234)
    opened_again = {"request_id": ids[3], "project": "shop", "asked": "assistant", "model": "near/gpt"}
    two.append("failed", {"request_id": ids[3], "model": "far/gpt", "backend": "far", "error": "x"})
    two.append("opened", opened_again)
    settled(two, ids[3], model="near/gpt", backend="near")
    one.append("refused", {"request_id": "req-one-x", "project": "shop", "status": 451, "code": "no"})
    found = newest(Ledger(tmp_path), every, most=9)
    assert [line.request_id for line in found][:1] == ["req-one-x"]
    assert {line.request_id for line in found} == {*ids, "req-one-x"} and len(found) == 5
    by = {line.request_id: line for line in found}
    assert by[ids[0]].status == "done" and by[ids[0]].cost == 1234 and by[ids[0]].route == "assistant"
    assert by[ids[1]].failed and by[ids[1]].error == "upstream_died"
    assert by[ids[2]].status == "open" and not by[ids[2]].failed
    assert by[ids[3]].model == "near/gpt" and by["req-one-x"].failed
    assert [line.request_id for line in newest(Ledger(tmp_path), lambda found: found.failed, most=1)] == ["req-one-x"]
    for writer in (one, two):
        writer.close()


def test_pages_go_back_through_closed_segments_without_a_request_twice(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "one", segment_bytes=20_000)
    ids = []
    for _ in range(300):
        ids.append(opened(writer))
        settled(writer, ids[-1])
    assert len(list((tmp_path / "one").glob("*.jsonl"))) > 5
    seen: list[str] = []
    before = None
    for _ in itertools.count():
        page = newest(Ledger(tmp_path), every, most=40, before=before)
        if not page:
            break
        seen += [line.request_id for line in page]
        before = page[-1].at
    assert seen == ids[::-1]
    writer.close()


def test_a_list_reads_no_more_than_it_may(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "one")
    for _ in range(3000):
        settled(writer, opened(writer))
    found = newest(Ledger(tmp_path), lambda _: False, most=10, most_bytes=300_000)
    assert found == []
    few = newest(Ledger(tmp_path), every, most=10_000, most_bytes=300_000)
    assert 200 < len(few) < 2000
    writer.close()


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "one")
    found = opened(writer)
    writer.close()
    with next((tmp_path / "one").glob("*.jsonl")).open("ab") as file:
        file.write(b'{"n":9,"at":"2026-01-01T00:00:00Z","kind":"settled","request_id":5}\nnonsense\n{"kind":"settled"')
    assert [line.request_id for line in newest(Ledger(tmp_path), every, most=5)] == [found]


def test_reading_on_gives_each_line_once_over_segments_new_writers_and_restarts(tmp_path: Path) -> None:
    one = LedgerWriter(tmp_path, "one", segment_bytes=4000)
    opened(one)
    tail = Tail(tmp_path)
    assert list(tail.lines()) == []
    wanted = [opened(one) for _ in range(60)]
    two = LedgerWriter(tmp_path, "two")
    wanted += [opened(two) for _ in range(5)]
    seen: list[bytes] = []
    while lines := list(tail.lines()):
        seen += lines
        tail = Tail(tmp_path, tail.positions)
    last = sorted((tmp_path / "two").glob("*.jsonl"))[-1]
    with last.open("ab") as file:
        file.write(b'{"half":')
        file.flush()
        assert list(tail.lines()) == []
        file.write(b"1}\n")
    seen += tail.lines()
    assert seen[-1] == b'{"half":1}'
    told = [next(name for name in wanted if name.encode() in line) for line in seen[:-1] if b'"opened"' in line]
    assert sorted(told) == sorted(wanted)
    one.close()
    two.close()


def test_a_segment_that_is_gone_or_shorter_does_not_stop_the_reading(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "one", segment_bytes=3000)
    for _ in range(40):
        opened(writer)
    files = sorted((tmp_path / "one").glob("*.jsonl"))
    tail = Tail(tmp_path, {"one": Position(files[0].name, 10**9)})
    files[1].unlink()
    count = sum(len(list(tail.lines())) for _ in range(len(files)))
    assert 20 < count < 40
    writer.close()
