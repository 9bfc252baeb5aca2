"""What is kept of files read a moment ago: bounded, and never for long."""

import pytest

from ecotone.storage import recent
from ecotone.storage.reconstruction import StoredTerm, XetFile, file_of


def made(name: str, terms: int) -> XetFile:
    return file_of("demo", name, "", tuple(StoredTerm("x", 0, 1, 1) for _ in range(terms)))


def test_a_crowd_of_large_files_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MOST_TERMS", 100)
    kept = recent.RecentFiles()
    for number in range(50):
        kept.put(("demo", str(number)), made(str(number), 20))
    there = [n for n in range(50) if kept.get(("demo", str(n)))]
    assert there == [46, 47, 48, 49]
    kept.put(("demo", "huge"), made("huge", 1000))
    assert kept.get(("demo", "huge")) is None and kept.get(("demo", "49")) is None


def test_a_file_is_asked_of_the_database_again_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = recent.RecentFiles()
    kept.put(("demo", "a"), made("a", 1))
    assert kept.get(("demo", "a")) and kept.get(("other", "a")) is None
    monkeypatch.setattr(recent, "SECONDS", -1.0)
    kept.put(("demo", "a"), made("a", 1))
    assert kept.get(("demo", "a")) is None
