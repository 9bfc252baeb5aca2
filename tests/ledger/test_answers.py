"""What a user would lose: the answers that a ledger knows, each once, whatever became of its files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecotone.ledger import Ledger, LedgerWriter
from ecotone.ledger.answers import Answer, Answers, Place
from ecotone.ledger.segments import segments


def opened(number: int, **more: Any) -> dict[str, Any]:
    told = {"project": "shop", "model": "far/gpt", "terms": "T", "ruling": "r" * 32, "data_class": "public"}
    return {"request_id": f"req-{number}", **told, **more}


def settled(number: int, **more: Any) -> dict[str, Any]:
    told = {"project": "shop", "model": "far/gpt", "status": "done", "face": "chat", "prompt_tokens": number}
    return {"request_id": f"req-{number}", **told, **more}


def read(folder: Path, after: dict[str, Place] | None = None) -> tuple[list[Answer], Answers]:
    reading = Answers(Ledger(folder), lambda _: True, after=after)
    return list(reading), reading


def test_an_end_takes_what_its_last_beginning_knew_and_what_failed_is_no_answer(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "w")
    writer.append("opened", opened(1, model="far/first", terms="OLD"))
    writer.append("failed", {"request_id": "req-1", "model": "far/first"})
    writer.append("opened", opened(1, pseudonymised=True))
    writer.append("opened", opened(2))
    writer.append("settled", settled(2, status="client_gone"))
    writer.append("settled", settled(1))
    writer.close()
    found, _ = read(tmp_path)
    assert [(a.request_id, a.terms, a.pseudonymised, a.ruling) for a in found] == [("req-1", "T", True, "r" * 32)]


def test_reading_goes_on_where_it_ended_also_for_what_was_under_way(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "w", segment_bytes=2000)
    for number in range(20):
        writer.append("opened", opened(number))
        writer.append("settled", settled(number))
    writer.append("opened", opened(20, terms="LATE"))
    first, reading = read(tmp_path)
    assert len(first) == 20
    writer.append("settled", settled(20))
    writer.close()
    more, again = read(tmp_path, reading.places)
    assert [(a.request_id, a.terms) for a in more] == [("req-20", "LATE")]
    assert read(tmp_path, again.places)[0] == []
    later = {"w": Place(again.places["w"].record, datetime(2100, 1, 1, tzinfo=UTC))}
    assert len(segments(tmp_path / "w")) > 3
    assert read(tmp_path, later)[0] == []


def test_a_torn_or_changed_record_is_left_out_and_counted(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "w")
    for number in range(3):
        writer.append("opened", opened(number))
        writer.append("settled", settled(number))
    writer.close()
    (segment,) = segments(tmp_path / "w")
    raw = segment.read_bytes().replace(b'"prompt_tokens":1,', b'"prompt_tokens":9,', 1)
    segment.write_bytes(raw[:-20])
    found, reading = read(tmp_path)
    assert [a.request_id for a in found] == ["req-0"]
    assert reading.damaged == 1
