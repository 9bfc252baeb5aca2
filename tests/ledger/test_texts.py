"""Kept prompts and answers: whoever takes the disk reads nothing, and what is erased is gone from copies too."""

import shutil
import threading
from datetime import date, timedelta
from pathlib import Path

import pytest

from ecotone.ledger.text_index import TextIndex
from ecotone.ledger.texts import Texts, Unreadable

SECRET = bytes(range(32))
TEXT = b'{"prompt":"The patient Erika Mustermann","answer":"is well"}'


def texts(folder: Path, secret: bytes = SECRET) -> Texts:
    return Texts(folder / "texts", folder / "secrets", secret)


def kept(folder: Path, project: str = "clinic", request_id: str = "req-server-1") -> None:
    found = texts(folder)
    assert found.keep(project, request_id, TEXT)
    found.close()


def test_a_text_is_read_by_its_request_and_nothing_of_it_lies_in_clear(tmp_path: Path) -> None:
    kept(tmp_path)
    kept(tmp_path, request_id="req-server-2")
    (found,) = texts(tmp_path).read("req-server-1")
    assert (found["project"], found["text"]["answer"]) == ("clinic", "is well")
    written = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    for word in (b"Erika M", b"Mustermann", b"is well", b"RXJpa2", b"prompt"):  # no short one, which base64 may hold
        assert word not in written
    assert texts(tmp_path).read("req-server") == []


def test_another_installations_secret_and_another_projects_key_open_nothing(tmp_path: Path) -> None:
    kept(tmp_path)
    with pytest.raises(Unreadable):
        texts(tmp_path, bytes(32)).read("req-server-1")
    kept(tmp_path, "shop", "req-server-9")
    day = next((tmp_path / "texts" / "clinic").iterdir())
    shutil.copy(day, tmp_path / "texts" / "shop" / day.name)
    with pytest.raises(Unreadable):
        texts(tmp_path).read("req-server-1", "shop")


def test_a_text_cannot_be_passed_off_as_another_requests(tmp_path: Path) -> None:
    kept(tmp_path)
    day = next((tmp_path / "texts" / "clinic").iterdir())
    day.write_bytes(day.read_bytes().replace(b"req-server-1", b"req-server-7"))
    with pytest.raises(Unreadable):
        texts(tmp_path).read("req-server-7")


def test_a_destroyed_key_erases_copies_too(tmp_path: Path) -> None:
    kept(tmp_path)
    shutil.copytree(tmp_path / "texts", tmp_path / "backup")
    assert texts(tmp_path).destroy("clinic") == 1
    assert texts(tmp_path).read("req-server-1") == []
    shutil.rmtree(tmp_path / "texts")
    shutil.move(tmp_path / "backup", tmp_path / "texts")
    with pytest.raises(Unreadable):
        texts(tmp_path).read("req-server-1")
    kept(tmp_path, request_id="req-server-3")  # the project goes on with a new key
    assert texts(tmp_path).read("req-server-3")


def test_a_writer_goes_on_with_the_new_key_after_another_process_destroyed_the_old_one(tmp_path: Path) -> None:
    writing = texts(tmp_path)
    writing.keep("clinic", "req-server-1", TEXT)
    writing.close()
    texts(tmp_path).destroy("clinic")
    writing.keep("clinic", "req-server-2", TEXT)
    writing.close()
    assert texts(tmp_path).read("req-server-2")


def test_texts_go_after_their_projects_days_and_those_of_projects_that_stopped_at_once(tmp_path: Path) -> None:
    kept(tmp_path)
    kept(tmp_path, "shop", "req-server-2")
    today = date.fromisoformat(min(day.name for day in (tmp_path / "texts").glob("*/*")))  # midnight may have passed
    assert texts(tmp_path).expire({"clinic": 30, "shop": 30}, today=today + timedelta(days=30)) == {}
    assert texts(tmp_path).expire({"clinic": 30}, today=today) == {"shop": 1}
    assert texts(tmp_path).expire({"clinic": 30}, today=today + timedelta(days=31)) == {"clinic": 1}
    assert texts(tmp_path).read("req-server-1") == []


def test_a_text_that_a_crash_tore_costs_no_other(tmp_path: Path) -> None:
    kept(tmp_path)
    day = next((tmp_path / "texts" / "clinic").iterdir())
    with day.open("ab") as file:
        file.write(b"\nreq-server-2 AAAA")
    kept(tmp_path, request_id="req-server-3")
    assert texts(tmp_path).read("req-server-3")


def test_what_there_is_no_room_for_is_dropped_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Texts(tmp_path / "texts", tmp_path / "secrets", SECRET, most=1000)
    held = threading.Event()
    real = Texts._write
    monkeypatch.setattr(Texts, "_write", lambda self, *what: held.wait(60) and real(self, *what))
    assert [found.keep("clinic", f"req-server-{n}", TEXT) for n in range(5)].count(False) == found.dropped > 0
    held.set()
    found.close()
    assert found.read("req-server-0")
    assert found.read("req-server-4") == []


def test_a_name_that_is_no_project_reaches_no_other_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no name"):
        texts(tmp_path).read("req-server-1", "../secrets")


def test_texts_whose_days_end_while_they_are_looked_through_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path)
    found, real = texts(tmp_path), texts(tmp_path)._days

    def expired_behind(project: str) -> list[Path]:
        days = real(project)
        texts(tmp_path).expire({})
        return days

    monkeypatch.setattr(found, "_days", expired_behind)
    assert found.read("req-server-1") == []
    kept(tmp_path)
    TextIndex(found, "clinic", tmp_path / "index").close()
