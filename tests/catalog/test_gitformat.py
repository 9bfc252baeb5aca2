"""Commit ids must be git's own, or `git clone` of a model breaks and nobody can check a revision elsewhere."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.catalog.gitformat import build_commit, build_trees, object_id

NAMES = st.text(alphabet="abAB.-_ é0", min_size=1, max_size=4).filter(lambda n: n not in (".", "..") and n.strip())


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes]:
    """Random files in which no path is a folder of another."""
    files: dict[str, bytes] = {}
    for parts in draw(st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=1, max_size=8)):
        path = "/".join(parts)
        taken = any(p.startswith(path + "/") or path.startswith(p + "/") for p in files)
        if not taken:
            files[path] = draw(st.binary(max_size=8))
    return files


def git(*argv: str, at: Path, data: bytes | None = None) -> str:
    return (
        subprocess.run(
            ["git", *argv],
            cwd=at,
            input=data,
            capture_output=True,
            check=True,
            env={"HOME": str(at), "PATH": "/usr/bin:/bin"},
        )
        .stdout.decode()
        .strip()
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("git")
    git("init", "-q", at=at)
    return at


@given(files=folders())
@settings(max_examples=15, deadline=None)
def test_tree_ids_are_those_of_git(repository: Path, files: dict[str, bytes]) -> None:
    blobs = {path: object_id("blob", data) for path, data in files.items()}
    index = "".join(f"100644 {blobs[path]}\t{path}\0" for path in files).encode()
    git("read-tree", "--empty", at=repository)
    for path, data in files.items():
        assert git("hash-object", "-w", "--stdin", at=repository, data=data) == blobs[path]
    git("update-index", "-z", "--index-info", at=repository, data=index)
    made = build_trees(blobs)
    assert made.root == git("write-tree", at=repository)
    for kept in made.objects:
        assert git("hash-object", "-t", "tree", "--stdin", "-w", at=repository, data=kept.data) == kept.oid
    for folder, oid in made.folders.items():
        assert git("rev-parse", f"{made.root}:{folder}", at=repository) == oid


def test_commits_are_objects_that_git_accepts(repository: Path) -> None:
    tree = build_trees({"a": object_id("blob", b"")})
    git("hash-object", "-w", "--stdin", at=repository, data=b"")
    for kept in tree.objects:
        git("hash-object", "-t", "tree", "-w", "--stdin", at=repository, data=kept.data)
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    first = build_commit(tree.root, (), "Ana <x>\n", when, "Initial commit")
    assert git("hash-object", "-t", "commit", "-w", "--stdin", at=repository, data=first.data) == first.oid
    second = build_commit(tree.root, (first.oid,), "ana", when, "Title\n\nText é")
    assert git("hash-object", "-t", "commit", "-w", "--stdin", at=repository, data=second.data) == second.oid
    assert git("log", "--format=%s|%an", second.oid, at=repository) == "Title|ana\nInitial commit|Ana x"
