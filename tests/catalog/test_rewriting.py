"""Large files deleted for good while others read and write the same repository."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM
from ecotone.catalog import Model, RevisionNotFound, StaleParent, manifests, rewriting
from ecotone.catalog.errors import EntryDeleted, HistoryChanged
from ecotone.publishing import AddLarge, AddRegular, Commit, Delete, Published
from ecotone.storage import GONE, Content

SECRET = b"\0secret" * 1000
SHA = hashlib.sha256(SECRET).hexdigest()


@pytest.fixture
def model(house: SimpleNamespace, tmp_path: Path) -> Model:
    """A repository with a large file on main."""
    made: Model = house.catalog.create("demo/one", private=False, actor=SYSTEM)
    source = tmp_path / "secret.bin"
    source.write_bytes(SECRET)
    house.storage.import_file("demo", source)
    commit(house, AddLarge("secret.bin", SHA))
    return made


def commit(house: SimpleNamespace, *operations: Any, message: str = "Change") -> Published:
    change = Commit(message=message, operations=operations)
    done: Published = house.publishing.commit("demo/one", "main", change, actor=SYSTEM)
    return done


def deleted(house: SimpleNamespace, model: Model, *, rewrite: bool) -> None:
    house.catalog.delete_large(model, [SHA], actor=SYSTEM, rewrite=rewrite)


def once_before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], None]) -> None:
    """Let something happen when a method is called the first time, just before it does its work."""
    method, left = getattr(owner, name), [act]

    def called(*args: Any, **how: Any) -> Any:
        if left:
            left.pop()()
        return method(*args, **how)

    monkeypatch.setattr(owner, name, called)


def kind_of(house: SimpleNamespace, model: Model) -> str:
    content: Content = house.catalog.manifest(house.catalog.revision(model))["secret.bin"].content
    return content.kind


def test_who_read_the_list_of_files_before_does_not_bring_it_back(
    house: SimpleNamespace, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list was read from the database, and is kept after the deletion has told everybody to forget it."""
    revision = house.catalog.revision(model)
    house.catalog._manifests.drop((model.key, revision.id))
    once_before(monkeypatch, manifests, "decode", lambda: deleted(house, model, rewrite=False))
    house.catalog.manifest(revision)
    assert kind_of(house, model) == GONE
    with pytest.raises(EntryDeleted):
        house.catalog.file(revision, "secret.bin")


@pytest.mark.parametrize("rewrite", [False, True])
def test_a_commit_at_the_same_moment_does_not_bring_it_back(
    house: SimpleNamespace, model: Model, monkeypatch: pytest.MonkeyPatch, rewrite: bool
) -> None:
    once_before(monkeypatch, house.catalog, "add_revision", lambda: deleted(house, model, rewrite=rewrite))
    done = commit(house, AddRegular("a.txt", b"a"))
    files = house.catalog.manifest(house.catalog.revision(model, done.revision_id))
    assert "a.txt" in files
    assert "secret.bin" not in files if rewrite else files["secret.bin"].content.kind == GONE


def test_a_squash_at_the_same_moment_does_not_bring_it_back(
    house: SimpleNamespace, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_before(monkeypatch, house.catalog, "add_revision", lambda: deleted(house, model, rewrite=False))
    with pytest.raises(StaleParent):
        house.publishing.squash(model, "main", "One", actor=SYSTEM)
    house.publishing.squash(model, "main", "One", actor=SYSTEM)
    assert kind_of(house, model) == GONE


def test_what_was_deleted_may_be_sent_anew(house: SimpleNamespace, model: Model) -> None:
    deleted(house, model, rewrite=False)
    commit(house, AddLarge("secret.bin", SHA), message="Again")
    assert kind_of(house, model) == "lfs"
    commit(house, AddRegular("a.txt", b"a"))
    commit(house, Delete("secret.bin"))


@pytest.mark.parametrize("method", ["fingerprint", "manifest"])
def test_a_commit_goes_on_top_of_the_history_that_was_made_anew_meanwhile(
    house: SimpleNamespace, model: Model, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The head that it looked up is there no longer when it is read."""
    house.catalog._manifests.drop((model.key, house.catalog.revision(model).id))
    once_before(monkeypatch, house.catalog, method, lambda: deleted(house, model, rewrite=True))
    done = commit(house, AddRegular("a.txt", b"a"))
    assert set(house.catalog.manifest(house.catalog.revision(model, done.revision_id))) == {".gitattributes", "a.txt"}


def test_a_reader_of_a_revision_that_was_made_anew_meanwhile_is_told_that_it_is_gone(
    house: SimpleNamespace, model: Model
) -> None:
    commit(house, AddRegular("sub/a.txt", b"a"))
    old = house.catalog.revision(model)
    files = house.catalog.files(old)
    deleted(house, model, rewrite=True)
    assert files and [folder.path for folder in house.catalog.folders(old)] == ["sub"]
    house.catalog._manifests.drop((model.key, old.id))
    with pytest.raises(RevisionNotFound):
        house.catalog.manifest(old)


def test_of_two_deletions_at_once_one_is_told_to_try_again(
    house: SimpleNamespace, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_before(monkeypatch, rewriting, "_behind_parents", lambda: deleted(house, model, rewrite=True))
    with pytest.raises(HistoryChanged):
        deleted(house, model, rewrite=True)
    deleted(house, model, rewrite=True)
