"""Decisions by reference: who asks why gets the whole decision, from any segment, and a forged one is none."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecotone.ledger import Ledger, LedgerFull, LedgerWriter, Rulings, explain, request_id
from ecotone.ledger.records import packed

RULING = msgspec.json.encode(
    {
        "verdict": "allow",
        "message": "\x01 may be called",
        "reasons": [{"node": "\x01", "entry": "Apache-2.0", "clause": "2", "means": "granted"}],
        "knowledge_base": "2026.11.24",
    }
)


def opened(writer: LedgerWriter, rulings: Rulings, model: str = "demo/local") -> str:
    ruling, item = rulings.record(RULING)
    named = request_id(writer.writer)
    fields: dict[str, Any] = {"request_id": named, "project": "shop", "model": model, "ruling": ruling}
    writer.append_all([*([item] if item else []), ("opened", packed(fields))])
    return named


def test_why_tells_the_whole_decision_about_the_model_that_was_called(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "gw1a")
    rulings = Rulings(writer)
    opened(writer, rulings, "demo/other")
    named = opened(writer, rulings)
    writer.close()
    told = explain(Ledger(tmp_path), named)
    assert told is not None
    assert told["decision"]["message"] == "demo/local may be called"
    assert told["decision"]["reasons"][0] == {
        "node": "demo/local",
        "entry": "Apache-2.0",
        "clause": "2",
        "means": "granted",
    }
    assert Ledger(tmp_path).verify().ok


def test_a_decision_stands_once_in_each_segment_so_that_each_can_be_read_alone(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server", segment_bytes=4000)
    rulings = Rulings(writer)
    for _ in range(40):
        opened(writer, rulings)
    writer.close()
    for segment in sorted((tmp_path / "server").glob("*.jsonl")):
        kinds = [msgspec.json.decode(line)["kind"] for line in segment.read_bytes().splitlines()]
        if "opened" in kinds:
            assert kinds.count("ruling") == 1
            assert kinds.index("ruling") < kinds.index("opened")
    assert len(list((tmp_path / "server").glob("*.jsonl"))) > 3


def test_a_decision_that_could_not_be_written_is_written_with_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LedgerWriter(tmp_path, "server")
    rulings = Rulings(writer)

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ecotone.ledger.writing.os.write", full)
        with pytest.raises(LedgerFull):
            opened(writer, rulings)
    named = opened(writer, rulings)
    writer.close()
    told = explain(Ledger(tmp_path), named)
    assert told is not None
    assert told["decision"]["verdict"] == "allow"


def test_another_content_under_an_id_is_not_taken_for_the_decision(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")
    ruling, _ = Rulings(writer).record(RULING)
    writer.append_all([("ruling", b'{"id":"%b","ruling":{"verdict":"deny"}}' % ruling.encode())])
    assert Ledger(tmp_path).ruling(ruling) is None
    named = opened(writer, Rulings(writer))
    told = explain(Ledger(tmp_path), named)
    assert told is not None
    assert told["decision"]["verdict"] == "allow"
    writer.close()


def test_records_of_earlier_versions_still_tell_their_decision(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, "server")
    writer.append("opened", {"request_id": "req-server-1", "model": "m", "decision": {"verdict": "allow"}})
    writer.append("settled", {"request_id": "req-server-1", "model": "m", "cost_usd": 0.25})
    told = explain(Ledger(tmp_path), "req-server-1")
    assert told is not None
    assert (told["decision"], told["cost_usd"]) == ({"verdict": "allow"}, 0.25)
    writer.close()
