"""Folders of whole files for engines: complete or absent, never outside, never dropped while used."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecotone.storage import Content, Storage
from ecotone.storage.holding import Holdings
from ecotone.vocabulary import Invalid
from tests.stores import ENDPOINT


def large(storage: Storage, tmp_path: Path, data: bytes) -> Content:
    (tmp_path / "source").write_bytes(data)
    return storage.import_file("demo", tmp_path / "source")


def test_every_kind_of_content(storage: Storage, tmp_path: Path, forge: Any) -> None:
    chunks = [b"one" * 1000, bytes(5000)]
    xorb, body = forge.xorb(chunks, 2)
    storage.xet.put_xorb("demo", xorb, body)
    storage.xet.put_shard("demo", forge.whole(b"".join(chunks), chunks, xorb)[1])
    files = {
        "config.json": storage.put_regular(b"{}"),
        "onnx/deep/model.bin": large(storage, tmp_path, b"weights" * 1000),
        "model.safetensors": storage.verify_large("demo", hashlib.sha256(b"".join(chunks)).hexdigest()),
        "empty": storage.put_regular(b""),
    }
    with storage.materialise("m-1", files) as folder:
        assert folder == tmp_path / "materialised" / "m-1"
        for path, content in files.items():
            assert (folder / path).read_bytes() == b"".join(storage.read(content))
            assert (folder / path).stat().st_mode & 0o222 == 0
        if not ENDPOINT:
            assert (folder / "onnx/deep/model.bin").stat().st_nlink == 2  # no second copy on the disk
        with storage.materialise("m-1", files) as again:
            assert again == folder


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "", ".", "a/..", "a\0b"])
def test_paths_stay_inside(path: str, storage: Storage, tmp_path: Path, files_in: Callable[[str], list[str]]) -> None:
    with pytest.raises(Invalid, match="inside"), storage.materialise("m", {path: storage.put_regular(b"x")}):
        pass
    assert not files_in("materialised") and not (tmp_path / "evil").exists()


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/b", ".hidden", "a\0b"])
def test_keys_are_names(key: str, storage: Storage) -> None:
    with pytest.raises(Invalid, match="no name"), storage.materialise(key, {}):
        pass


def test_half_a_folder_is_none(storage: Storage, tmp_path: Path, files_in: Callable[[str], list[str]]) -> None:
    gone = Content(5, "0" * 40, "0" * 64, None, "lfs", 130)
    files = {"a": storage.put_regular(b"a"), "b": gone}
    for _ in range(2):
        with pytest.raises(Exception, match="no longer here"), storage.materialise("m", files):
            pass
        assert not files_in("materialised")
    with storage.materialise("m", {"a": files["a"]}) as folder:
        assert (folder / "a").read_bytes() == b"a"


def test_leftovers_go_at_the_start(open_storage: Callable[..., Storage], tmp_path: Path) -> None:
    left = tmp_path / "materialised" / ".m.1234"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"h")
    open_storage().sweep()
    assert not left.exists()


def test_the_bound_drops_the_longest_unused(open_storage: Callable[..., Storage], tmp_path: Path) -> None:
    storage = open_storage(materialised_bytes=2500)
    files = {n: {"f": storage.put_regular(n.encode() * 1000)} for n in "abcd"}

    def there() -> set[str]:
        return {p.name for p in (tmp_path / "materialised").iterdir()}

    with storage.materialise("a", files["a"]):
        for number, name in enumerate("bc"):
            with storage.materialise(name, files[name]) as folder:
                pass
            os.utime(folder, (number, number))
        assert there() == {"a", "c"}  # b was let go: a is in use, c is younger
        with storage.materialise("c", files["c"]), storage.materialise("d", files["d"]):
            assert there() == {"a", "c", "d"}
    assert len(there()) == 2


def test_eviction_never_leaves_half_a_folder(
    open_storage: Callable[..., Storage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the middle of dropping a folder must not leave one that looks complete."""
    storage = open_storage(materialised_bytes=100)
    monkeypatch.setattr("ecotone.storage.materialising.shutil.rmtree", lambda *_, **__: None)
    with storage.materialise("m", {"f": storage.put_regular(bytes(1000))}):
        pass
    assert not (tmp_path / "materialised" / "m").exists()
    monkeypatch.undo()
    open_storage().sweep()
    assert list((tmp_path / "materialised").iterdir()) == []


def test_many_users_one_folder(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    write = storage._materialised._write

    def counted(content: Content, place: Path) -> None:
        made.append(place.name)
        write(content, place)

    monkeypatch.setattr(storage._materialised, "_write", counted)
    files = {"f": storage.put_regular(b"x" * 1000)}
    found: list[bytes] = []

    def use() -> None:
        with storage.materialise("m", files) as folder:
            found.append((folder / "f").read_bytes())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"x" * 1000] * 8 and made == ["f"]
    assert not storage._materialised._used and not storage._materialised._making


def test_a_folder_that_is_dropped_while_they_are_counted_is_none(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("7-aaaa", "8-bbbb"):
        with storage.materialise(name, {"f": storage.put_regular(b"x")}):
            pass
    is_file = Path.is_file

    def dropped(path: Path, **how: Any) -> bool:
        found = is_file(path, **how)
        if path.parent.name == "7-aaaa":
            shutil.rmtree(path.parent)
        return found

    monkeypatch.setattr(Path, "is_file", dropped)
    copies = Holdings(storage._database, tmp_path / "materialised").whole_copies([7, 8])
    assert [(copy.row, copy.size) for copy in copies] == [(8, 1)]
