"""Files that a .gitignore names stay at home; a hostile pattern must not stop the hub."""

import time

import pytest

from ecotone.hub.gitignore import Ignore, large_patterns, matches


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [("*.log", "a/b.log", True), ("*.log", "a.logs", False), ("/a.txt", "b/a.txt", False), ("/a.txt", "a.txt", True),
     ("build/", "build/x", True), ("build/", "build", False), ("a/**/z", "a/b/c/z", True), ("a/**/z", "a/z", True),
     ("a/**", "a/b/c", True), ("*.txt\n!keep.txt", "keep.txt", False), ("# x\n\n", "x", False), ("[ab].c", "b.c", True),
     ("[!ab].c", "b.c", False), ("?.c", "xy.c", False), ("*.txt", "a.txt.txt", True), ("*a*b", "xaxbxb", True),
     ("node_modules", "x/node_modules/y", True), ("doc/*.md", "doc/x/y.md", False), ("[z-a]", "b", False)],
)  # fmt: skip
def test_patterns(text: str, path: str, ignored: bool) -> None:
    assert Ignore(text).ignores(path) is ignored


def test_hostile_patterns_cost_little() -> None:
    start = time.monotonic()
    Ignore("*a" * 200 + "b\n" + "**/" * 100 + "x\n").ignores("a" * 1000)
    assert time.monotonic() - start < 0.5


def test_attributes_name_large_files() -> None:
    patterns = large_patterns("*.bin filter=lfs diff=lfs\n*.txt text\nsaved/**/* filter=lfs\n")
    assert [matches(patterns, p) for p in ("a/b.bin", "a.txt", "saved/x/y.txt")] == [True, False, True]
