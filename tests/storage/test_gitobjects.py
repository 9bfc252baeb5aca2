"""Git objects: a clone must find real ones, and a commit's objects must be on disk before it is seen."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from ecotone.database import Database
from ecotone.storage import Storage
from ecotone.storage.errors import ContentNotFound
from tests.stores import on_disk


@on_disk
def test_git_reads_them(storage: Storage, tmp_path: Path) -> None:
    name = storage.put_git_object("blob", b"hello\n")
    assert name == "ce013625030ba8dba906f756967f9e9ca394464a"
    tree = storage.put_git_object("tree", b"100644 hi.txt\0" + bytes.fromhex(name))
    assert storage.git_object(name) == ("blob", b"hello\n") and storage.git_object(tree)[0] == "tree"
    subprocess.run(["git", "init", "-q", tmp_path / "repo"], check=True)
    env = {**os.environ, "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(tmp_path / "objects" / "git")}
    told = subprocess.run(
        ["git", "ls-tree", tree], cwd=tmp_path / "repo", env=env, capture_output=True, text=True, check=True
    )
    assert told.stdout == f"100644 blob {name}\thi.txt\n"


@on_disk
def test_flushed_before_it_returns(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, and each folder whose entries changed."""
    flushed: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: (flushed.append(os.readlink(f"/proc/self/fd/{d}")), fsync(d)))
    name = storage.put_git_object("blob", b"x")
    assert any(Path(f).name.startswith(f".{name[2:]}") for f in flushed)
    assert flushed[-1].endswith(f"git/{name[:2]}") and any(f.endswith("objects/git") for f in flushed)


@on_disk
def test_a_failed_write_leaves_nothing(
    storage: Storage, files_in: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(Exception, match="disk is full"):
            storage.put_git_object("blob", b"x")
    assert not files_in("objects/git")
    assert storage.git_object(storage.put_git_object("blob", b"x")) == ("blob", b"x")


def test_an_unknown_object(storage: Storage) -> None:
    with pytest.raises(ContentNotFound):
        storage.git_object("0" * 40)


def test_a_small_file(storage: Storage) -> None:
    content = storage.put_regular(b"hello\n")
    assert (content.kind, content.size, content.git_oid[:6], content.sha256) == ("git", 6, "ce0136", None)
    assert b"".join(storage.read(content, 1, 3)) == b"el"


def test_many_objects_are_one_question_for_each_five_hundred_and_equal_ones_one_write(
    storage: Storage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of 25,000 files asked the database 25,000 times: half a minute on a busy machine."""
    asked, written = [], []
    put = type(storage.objects).put
    monkeypatch.setattr(type(storage.objects), "put", lambda *at: (written.append(at[-1]), put(*at)))
    event.listen(
        database.engine, "before_cursor_execute", lambda *at: asked.append(at[2]) if "condemned" in at[2] else None
    )
    contents = [str(n % 1200).encode() for n in range(3000)]
    names = [content.git_oid for content in storage.put_regulars(contents)]
    assert len(set(names)) == len(written) == 1200 and names[:600] == names[1200:1800] == names[2400:]
    assert len(asked) == 3
    assert all(storage.git_object(name)[1] == data for name, data in zip(names, contents, strict=True))
