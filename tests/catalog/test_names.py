"""A name or path let through here ends in URLs, on disks and in checkouts of other people."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.catalog import BadName, BadPath
from ecotone.catalog.names import check_path, check_ref, split_id


@pytest.mark.parametrize("name", ["demo/minilm", "a/b", "Google-BERT/bert_base.v1", "x/" + "y" * 96])
def test_legal_ids(name: str) -> None:
    assert "/".join(split_id(name)) == name


@pytest.mark.parametrize(
    "name",
    ["minilm", "a/b/c", "api/x", "V1/x", "datasets/x", "a/b.git", "a/B.GIT", "a/-b", "a/b-", "a/..", "a/b--c", "a/b..c",
     "a/", "/b", "a/é", "a/b c", "a/" + "y" * 97, "a/b\n", "", "a/b%2f", ".a/b", "settings/x"],
)  # fmt: skip
def test_ids_that_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        split_id(name)


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "a\0b", "a\nb", ".git/config", "x/.GIT/y",
     "a/.git", ".git./x", ".git /x",
     "\u202ea", "\u200b.git", "\uff0egit/x", "a" * 256, "/".join(["abcd"] * 300), "\ud800"],
)  # fmt: skip
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(BadPath):
        check_path(path)


@pytest.mark.parametrize("path", ["README.md", ".gitattributes", "a/b c/d%20#?.txt", "é/ü.bin", "..a/b", "a...b"])
def test_legal_paths(path: str) -> None:
    assert check_path(path) == unicodedata.normalize("NFC", path)


def test_decomposed_names_become_one() -> None:
    assert check_path("e\u0301.txt") == "é.txt"


@given(st.text(max_size=40))
def test_a_checked_path_stays_inside(path: str) -> None:
    try:
        checked = check_path(path)
    except BadPath:
        return
    assert (
        not checked.startswith("/") and ".." not in checked.split("/") and ".git" not in checked.casefold().split("/")
    )
    assert check_path(checked) == checked


@pytest.mark.parametrize(
    "ref", ["a..b", "-a", "a/", "/a", "a//b", "x.lock", "refs/heads/a", "a b", "a~1", "0" * 40, "", ".a"]
)
def test_refs_that_are_refused(ref: str) -> None:
    with pytest.raises(BadName):
        check_ref(ref)
