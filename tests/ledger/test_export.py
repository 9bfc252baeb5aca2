"""Exports: an auditor without the server finds any change, and others' records do not leave with a project's."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.ledger import Head, Ledger, LedgerWriter, Rulings, public_key
from ecotone.ledger.exported import verify_export
from ecotone.ledger.exporting import Export
from ecotone.ledger.records import packed
from ecotone.ledger.retiring import closed, retire

SEED = bytes(range(32))
KEY = public_key(SEED)


def filled(folder: Path, count: int = 30) -> dict[str, Head]:
    heads: dict[str, Head] = {}
    for name in ("gw1a", "server"):
        writer = LedgerWriter(folder, name, segment_bytes=3000)
        rulings = Rulings(writer)
        for number in range(count):
            project = "shop" if number % 3 else "clinic"
            ruling, item = rulings.record(b'{"verdict":"allow"}')
            named = {"request_id": f"req-{name}-{number}", "project": project}
            batch = [("opened", packed({**named, "ruling": ruling})), ("settled", packed({**named, "model": "m"}))]
            writer.append_all([*([item] if item else []), *batch])
        heads = writer.checkpoint(SEED)
        writer.close()
    return heads


def exported(folder: Path, to: Path, **how: Any) -> Export:
    made = Export(Ledger(folder), SEED, **how)
    to.write_bytes(b"".join(made))
    return made


def moment_of(folder: Path, chain: str, place: int) -> str:
    lines = b"".join(f.read_bytes() for f in sorted((folder / chain).glob("*.jsonl"))).splitlines()
    at: str = json.loads(lines[place])["at"]
    return at


def test_a_whole_export_holds_the_records_as_they_are_and_leads_to_a_signed_checkpoint(tmp_path: Path) -> None:
    filled(tmp_path / "ledger")
    made = exported(tmp_path / "ledger", tmp_path / "x.jsonl")
    report = verify_export(tmp_path / "x.jsonl", KEY)
    assert report.ok, report.problems
    assert (report.chains, report.key) == (2, KEY.hex())
    assert report.sha256 == made.sha256
    lines = (tmp_path / "x.jsonl").read_bytes().splitlines(keepends=True)
    kept = b"".join(line for line in lines if line.startswith(b'{"n":'))
    chains = b"".join(
        f.read_bytes() for name in ("gw1a", "server") for f in sorted((tmp_path / "ledger" / name).glob("*.jsonl"))
    )
    assert chains.startswith(kept[: len(kept) // 2]), "byte for byte"
    assert ("gw1a", 1) in made.whole


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_byte_of_an_export_can_be_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("export")
    filled(folder / "ledger", 4)
    project = data.draw(st.sampled_from([None, "shop"]))
    exported(folder / "ledger", folder / "x.jsonl", project=project)
    whole = bytearray((folder / "x.jsonl").read_bytes())
    at = data.draw(st.integers(0, len(whole) - 2))  # the last line end alone says nothing
    whole[at] ^= data.draw(st.integers(1, 255))
    (folder / "x.jsonl").write_bytes(whole)
    assert not verify_export(folder / "x.jsonl", KEY).ok


def test_a_signature_is_held_to_its_letters(tmp_path: Path) -> None:
    """Hexadecimal digits are read in capitals too, and the signature's are covered by no sum."""
    filled(tmp_path / "ledger", 4)
    exported(tmp_path / "ledger", tmp_path / "x.jsonl")
    whole = (tmp_path / "x.jsonl").read_bytes()
    head, name, signature = whole.rpartition(b'"signature":"')
    for changed in (signature.upper(), b" " + signature):
        (tmp_path / "x.jsonl").write_bytes(head + name + changed)
        assert not verify_export(tmp_path / "x.jsonl", KEY).ok, changed


def test_an_export_that_was_cut_or_lacks_a_record_does_not_hold(tmp_path: Path) -> None:
    filled(tmp_path / "ledger", 4)
    exported(tmp_path / "ledger", tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_bytes().splitlines(keepends=True)
    for left_out in range(len(lines)):
        (tmp_path / "x.jsonl").write_bytes(b"".join(lines[:left_out] + lines[left_out + 1 :]))
        assert not verify_export(tmp_path / "x.jsonl", KEY).ok, lines[left_out]


def test_a_forger_with_a_key_of_his_own_is_found_by_who_knows_ours(tmp_path: Path) -> None:
    filled(tmp_path / "ledger", 4)
    made = Export(Ledger(tmp_path / "ledger"), bytes(32))
    (tmp_path / "x.jsonl").write_bytes(b"".join(made))
    report = verify_export(tmp_path / "x.jsonl", KEY)
    assert not report.ok
    assert "another key" in report.problems[0]


def test_a_projects_export_holds_its_records_alone_and_the_decisions_they_name(tmp_path: Path) -> None:
    filled(tmp_path / "ledger")
    since = moment_of(tmp_path / "ledger", "server", 10)
    exported(tmp_path / "ledger", tmp_path / "x.jsonl", project="clinic", since=since)
    report = verify_export(tmp_path / "x.jsonl", KEY)
    assert report.ok, report.problems
    text = (tmp_path / "x.jsonl").read_text()
    assert "shop" not in text
    found = [json.loads(line) for line in text.splitlines()]
    assert {r["project"] for r in found if r.get("kind") == "settled"} == {"clinic"}
    assert len([r for r in found if "aside" in r]) == 1
    assert not [r for r in found if r.get("kind") == "ruling"]


def test_a_period_is_left_and_right_of_its_records_and_still_proves_itself(tmp_path: Path) -> None:
    filled(tmp_path / "ledger")
    since, until = (moment_of(tmp_path / "ledger", "gw1a", place) for place in (20, 40))
    made = exported(tmp_path / "ledger", tmp_path / "x.jsonl", since=since, until=until)
    report = verify_export(tmp_path / "x.jsonl", KEY)
    assert report.ok, report.problems
    found = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    proof = next(n for n, line in enumerate(found) if "proof" in line)
    times = [r["at"] for r in found[:proof] if "n" in r]
    assert times
    assert min(times) >= since
    assert max(times) < until
    assert ("gw1a", 1) not in made.whole


def test_segments_leave_after_their_export_and_the_chain_verifies_from_there_on(tmp_path: Path) -> None:
    heads = filled(tmp_path)
    gone = closed(tmp_path / "server")[:2]
    retire(tmp_path / "server", gone, SEED)
    ledger = Ledger(tmp_path)
    report = ledger.verify(heads, KEY)
    assert report.ok, report.problems
    writer = LedgerWriter(tmp_path, "server")
    writer.append("settled", {"request_id": "after"})
    writer.close()
    assert ledger.verify(heads, KEY).ok
    exported(tmp_path, tmp_path / "x.jsonl")
    assert verify_export(tmp_path / "x.jsonl", KEY).ok


def test_nobody_cuts_a_chains_beginning_without_the_key(tmp_path: Path) -> None:
    heads = filled(tmp_path)
    gone = closed(tmp_path / "server")[:2]
    retire(tmp_path / "server", gone, bytes(32))
    report = Ledger(tmp_path).verify(heads, KEY)
    assert not report.ok
    assert "signed" in report.problems[0].what
    (tmp_path / "server" / "retired.json").unlink()
    assert "missing" in Ledger(tmp_path).verify(heads, KEY).problems[0].what


def test_what_says_that_a_chains_beginning_was_removed_is_held_to_its_letters(tmp_path: Path) -> None:
    heads = filled(tmp_path)
    retire(tmp_path / "server", closed(tmp_path / "server")[:2], SEED)
    file = tmp_path / "server" / "retired.json"
    head, name, signature = file.read_bytes().rpartition(b'"signature":"')
    digits, end = signature[:128], signature[128:]
    for changed in (digits.upper(), b" " + digits):
        file.write_bytes(head + name + changed + end)
        report = Ledger(tmp_path).verify(heads, KEY)
        assert not report.ok and "not signed here" in report.problems[0].what, changed


def test_only_the_oldest_closed_segments_can_leave(tmp_path: Path) -> None:
    filled(tmp_path)
    files = closed(tmp_path / "server")
    with pytest.raises(ValueError, match="oldest"):
        retire(tmp_path / "server", files[1:2], SEED)
    last = sorted((tmp_path / "server").glob("*.jsonl"))[-1]
    with pytest.raises(ValueError, match="oldest"):
        retire(tmp_path / "server", [*files, last], SEED)
