"""Whole files: what was announced and nothing else; a broken upload leaves nothing and can be tried again."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotone.database import utc_now
from ecotone.storage import HashMismatch, ObjectMissing, Storage, UploadTooLarge, models
from ecotone.storage.content import Content, blob_id
from ecotone.storage.errors import ContentNotFound, StorageFull
from ecotone.storage.files import Draft, new_file, sweep
from ecotone.storage.models import LfsObjectRow
from tests.stores import on_disk

DATA = bytes(range(256)) * 9000
NAME = hashlib.sha256(DATA).hexdigest()


def send(
    storage: Storage, data: bytes = DATA, *, tenant: str = "demo", name: str = NAME, size: int = len(DATA)
) -> None:
    with storage.lfs.receiving(tenant, name, size) as upload:
        upload.write_all(data[i : i + 100_000] for i in range(0, len(data), 100_000))
        upload.finish()


def test_an_object_comes_back(storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    send(storage)
    content = storage.verify_large("demo", NAME)
    assert (content.kind, content.size, content.xet_hash) == ("lfs", len(DATA), None)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{NAME}\nsize {len(DATA)}\n".encode()
    assert (content.git_oid, content.pointer_size) == (blob_id(pointer), len(pointer))
    assert b"".join(storage.read(content)) == DATA
    assert not files_in("staging") and len(files_in("objects/lfs")) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(start=st.integers(0, len(DATA)), end=st.integers(0, len(DATA) + 9))
def test_any_range_equals_the_slice(start: int, end: int, storage: Storage) -> None:
    send(storage)
    regular = storage.put_regular(DATA)
    for content in (storage.verify_large("demo", NAME), regular):
        pieces = list(storage.read(content, start, end))
        assert b"".join(pieces) == DATA[start:end]
        assert all(0 < len(p) <= 1024 * 1024 for p in pieces)


@pytest.mark.parametrize(
    ("data", "refusal"),
    [(DATA[:-1], HashMismatch), (DATA + b"x", UploadTooLarge), (DATA[::-1], HashMismatch), (b"", HashMismatch)],
)
def test_other_bytes_are_refused(
    data: bytes, refusal: type[Exception], storage: Storage, files_in: Callable[[str], list[str]]
) -> None:
    with pytest.raises(refusal):
        send(storage, data)
    assert storage.large("demo", NAME) is None
    with pytest.raises(ObjectMissing):
        storage.verify_large("demo", NAME)
    assert not files_in("staging") and not files_in("objects/lfs")
    send(storage)
    assert storage.large("demo", NAME) is not None


def test_an_upload_that_ends_in_the_middle(storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    with pytest.raises(ConnectionError), storage.lfs.receiving("demo", NAME, len(DATA)) as upload:
        upload.write(DATA[:1000])
        raise ConnectionError
    assert not files_in("staging") and storage.large("demo", NAME) is None


def test_namespaces_do_not_see_each_other(storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    send(storage)
    assert storage.large("other", NAME) is None
    send(storage, tenant="other")
    assert storage.large("other", NAME) is not None and len(files_in("objects/lfs")) == 1


def test_an_empty_file(storage: Storage) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    send(storage, b"", name=empty, size=0)
    assert b"".join(storage.read(storage.verify_large("demo", empty))) == b""


def test_an_import(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(DATA)
    assert storage.import_file("demo", tmp_path / "model.bin") == storage.verify_large("demo", NAME)
    assert storage.import_file("demo", tmp_path / "model.bin").sha256 == NAME


def test_an_object_that_is_gone_is_said_to_be(storage: Storage) -> None:
    for content in (
        Content(5, "0" * 40, "0" * 64, None, "lfs", 130),
        Content(5, "0" * 40, "0" * 64, "0" * 64, "xet", 130),
        Content(5, "0" * 40, None, None, "git", None),
    ):
        with pytest.raises(ContentNotFound):
            list(storage.read(content))


# -- parts -----------------------------------------------------------------------------------------------------------
def send_parts(storage: Storage, *numbers: int, size: int = 1_000_000) -> None:
    for number in numbers:
        with storage.lfs.receiving_part("up", number, size) as part:
            part.write(DATA[(number - 1) * size : number * size])
            assert len(part.finish()) == 32


def test_parts_in_any_order_twice_and_late(storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    send_parts(storage, 3, 1, 1)
    with pytest.raises(ObjectMissing, match="Part 2"):
        storage.lfs.complete("demo", NAME, len(DATA), "up", 3)
    send_parts(storage, 2)
    for _ in range(2):
        storage.lfs.complete("demo", NAME, len(DATA), "up", 3)
    assert b"".join(storage.read(storage.verify_large("demo", NAME))) == DATA
    assert not files_in("staging")


def test_a_part_that_breaks_off_is_not_there(storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    with pytest.raises(ConnectionError), storage.lfs.receiving_part("up", 1, 1000) as part:
        part.write(b"abc")
        raise ConnectionError
    with pytest.raises(UploadTooLarge), storage.lfs.receiving_part("up", 1, 1000) as part:
        part.write(bytes(1001))
    assert not files_in("staging")


def test_parts_that_are_another_file(storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    send_parts(storage, 1, 2)
    with storage.lfs.receiving_part("up", 3, 1_000_000) as part:
        part.write(bytes(len(DATA) - 2_000_000))
        part.finish()
    with pytest.raises(HashMismatch):
        storage.lfs.complete("demo", NAME, len(DATA), "up", 3)
    assert storage.large("demo", NAME) is None and not files_in("staging")


# -- faults ----------------------------------------------------------------------------------------------------------
def test_a_full_disk(storage: Storage, files_in: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A nearly full disk first takes a part of a write without an error."""
    write, room = os.write, 150_000

    def small(descriptor: int, data: Any) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(descriptor, memoryview(data)[: min(room, 60_000)])
        room -= taken
        return taken

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", small)
        with pytest.raises(StorageFull, match="disk is full"):
            send(storage)
        assert storage.large("demo", NAME) is None and not files_in("staging") and not files_in("objects/lfs")
        room = 10**9
        send(storage)
    assert b"".join(storage.read(storage.verify_large("demo", NAME))) == DATA


@pytest.mark.parametrize("step", [pytest.param("fsync", marks=on_disk), pytest.param("link", marks=on_disk), "row"])
def test_a_failure_between_the_steps(step: str, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "power")

    with monkeypatch.context() as patched:
        if step == "row":
            patched.setattr("ecotone.storage.placing.remember", fails)
        else:
            patched.setattr(os, step, fails)
        if step == "link":  # an error of the link alone is a file system without links
            patched.setattr(Path, "rename", fails)
        with pytest.raises(OSError, match="power"):
            send(storage)
    assert storage.large("demo", NAME) is None
    send(storage)
    assert b"".join(storage.read(storage.verify_large("demo", NAME))) == DATA


def test_a_disk_without_links(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", fails)
    for tenant in ("demo", "other"):
        send(storage, tenant=tenant)
    assert b"".join(storage.read(storage.verify_large("other", NAME))) == DATA


def test_many_at_once(storage: Storage, files_in: Callable[[str], list[str]]) -> None:
    problems: list[Exception] = []

    def one(tenant: str) -> None:
        try:
            send(storage, tenant=tenant)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=one, args=(f"t{n % 3}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and len(files_in("objects/lfs")) == 1
    assert b"".join(storage.read(storage.verify_large("t0", NAME))) == DATA


def test_a_killed_server_leaves_nothing_behind(
    open_storage: Callable[..., Storage], tmp_path: Path, files_in: Callable[[str], list[str]]
) -> None:
    """What a dead process was writing goes at the next start; what a living one writes stays."""
    code = (
        "import sys, time, pathlib\nfrom ecotone.storage.files import Draft\n"
        "d = Draft(pathlib.Path(sys.argv[1]), 'lfs'); d.write(b'half'); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "staging"], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    storage = open_storage()
    storage.sweep()
    assert len(files_in("staging")) == 1
    child.kill()
    child.wait()
    with storage.lfs.receiving("demo", NAME, len(DATA)) as upload:
        open_storage().sweep()
        assert len(files_in("staging")) == 1
        upload.write(DATA)
        upload.finish()
    assert not files_in("staging") and storage.large("demo", NAME) is not None


def test_parts_of_last_month_are_dropped(
    storage: Storage, open_storage: Callable[..., Storage], tmp_path: Path, files_in: Callable[[str], list[str]]
) -> None:
    send_parts(storage, 1)
    open_storage().sweep()
    assert len(files_in("staging")) == 1
    old = time.time() - 30 * 86400
    os.utime(tmp_path / "staging" / "parts-up", (old, old))
    open_storage().sweep()
    assert not files_in("staging")


def test_files_appear_whole_or_not(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_file(tmp_path / "a" / "b") as file:
        file.write(b"half")
        raise RuntimeError
    assert list((tmp_path / "a").iterdir()) == []
    with Draft(tmp_path, "x") as draft:
        draft.write(b"first")
        draft.cut(2)
        draft.write(b"n")
        draft.place(tmp_path / "a" / "b")
        assert sweep(tmp_path) == 0
    assert (tmp_path / "a" / "b").read_bytes() == b"fin"
    with Draft(tmp_path, "x") as draft:
        draft.write(b"second")
        draft.place(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").read_bytes() == b"fin"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_rows_are_added_in_one_order_whoever_names_them(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who add the same rows in different orders would wait for each other, and one of them would fail."""
    added: list[str] = []
    add = models._add

    def noted(session: Any, rows: dict[tuple[Any, ...], Any]) -> int:
        added.extend(sha256 for _, sha256 in rows)
        return add(session, rows)

    monkeypatch.setattr(models, "_add", noted)
    monkeypatch.setattr(models, "_BATCH", 2)
    names = [c * 64 for c in "cadb"]
    rows = [LfsObjectRow(tenant="demo", sha256=name, size=1, created=utc_now()) for name in names]
    assert models.remember(storage._database, rows) == 4
    assert added == sorted(names)
