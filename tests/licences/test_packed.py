"""The compiled knowledge base is what the YAML says, or it is not used."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ecotone.licences import KnowledgeBase, entries, packed

MIT = "mit.yaml"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the entries as the program's own, and an empty cache."""
    folder = tmp_path / "entries"
    folder.mkdir()
    for name in (MIT, "unknown.yaml", "none.yaml", packed.POSITIONS):
        (folder / name).write_bytes((entries.FOLDER / name).read_bytes())
    monkeypatch.setattr(entries, "FOLDER", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def load(folder: Path) -> KnowledgeBase:
    entries._load.cache_clear()
    return KnowledgeBase.load(folder)


def cache(folder: Path) -> Path:
    found = packed.cached(folder)
    assert found is not None
    return found


def test_the_second_start_reads_no_yaml(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(home)
    assert cache(home).is_file()
    monkeypatch.setattr(packed, "parse", lambda *_: pytest.fail("the YAML was parsed again"))
    second = load(home)
    assert dict(second.entries) == dict(first.entries)
    assert (second.version, second.digest, second.positions) == (first.version, first.digest, first.positions)


def test_an_edited_entry_counts_at_once_even_with_the_old_time_and_size(home: Path) -> None:
    before = load(home)
    file = home / MIT
    status = file.stat()
    text = file.read_text()
    file.write_text(text.replace("title: MIT License", "title: TIM License"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load(home)
    assert file.stat().st_size == status.st_size
    assert (before.entry("MIT").title, after.entry("MIT").title) == ("MIT License", "TIM License")
    assert load(home).entry("MIT").title == "TIM License"


@pytest.mark.parametrize("damage", [b"", b"ECK\x01", b"x" * 500])
def test_a_broken_cache_is_made_anew(home: Path, damage: bytes) -> None:
    whole = load(home)
    good = cache(home).read_bytes()
    for content in (damage, good[:-7], good[:140] + bytes([good[140] ^ 1]) + good[141:]):
        cache(home).write_bytes(content)
        assert dict(load(home).entries) == dict(whole.entries)
        assert cache(home).read_bytes() == good


def test_a_cache_of_another_form_of_entries_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(home)
    old = cache(home).read_bytes()
    monkeypatch.setattr(entries, "form", lambda: b"f" * 32)
    assert load(home).entry("MIT").title == "MIT License"
    assert cache(home).read_bytes() != old


def test_where_nothing_can_be_written_it_loads_all_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (home / MIT / "no-folder", Path("/proc/nothing"), Path("relative")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        assert load(home).entry("MIT").title == "MIT License"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    assert load(home).entry("MIT").title == "MIT License"


def test_a_cache_that_others_can_write_is_not_trusted(home: Path) -> None:
    load(home)
    cache(home).parent.chmod(0o777)
    assert packed.cached(home) is None
    assert load(home).entry("MIT").title == "MIT License"


def test_the_file_of_the_wheel_is_used_where_it_fits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    home.with_name(packed.SHIPPED).write_bytes(entries.compiled(home)[1])
    parse = packed.parse
    monkeypatch.setattr(packed, "parse", lambda *_: pytest.fail("the YAML was parsed"))
    assert load(home).entry("MIT").title == "MIT License"
    monkeypatch.setattr(packed, "parse", parse)
    (home / MIT).write_text((home / MIT).read_text().replace("MIT License", "Another"))
    assert load(home).entry("MIT").title == "Another"


def test_readers_and_writers_at_once_see_whole_files(home: Path) -> None:
    raw = [entries.compiled(home)[1], b"y" * 300_000]
    file = cache(home)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for content in raw:
                packed.write(file, content)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in writers:
        thread.start()
    try:
        for _ in range(200):
            assert packed.read_file(file) in (None, *raw)
    finally:
        stop.set()
        for thread in writers:
            thread.join()
    assert [f for f in file.parent.iterdir() if f != file] == []


def test_processes_that_start_together_on_an_empty_cache_all_load(tmp_path: Path) -> None:
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    code = "from ecotone.licences import KnowledgeBase as K; print(K.load().digest)"
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    told = {process.communicate(timeout=120)[0].strip() for process in started}
    assert told == {KnowledgeBase.load().digest}
    assert len(list((tmp_path / "ecotone").iterdir())) == 1
