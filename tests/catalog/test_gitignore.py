"""Files that a .gitignore names stay at home; a hostile pattern must not stop the hub."""

import time

import pytest

from ecotone.catalog.gitignore import Ignore, Steps, large_patterns, matches
from ecotone.vocabulary import TooLarge


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [("*.log", "a/b.log", True), ("*.log", "a.logs", False), ("/a.txt", "b/a.txt", False), ("/a.txt", "a.txt", True),
     ("build/", "build/x", True), ("build/", "build", False), ("a/**/z", "a/b/c/z", True), ("a/**/z", "a/z", True),
     ("a/**", "a/b/c", True), ("*.txt\n!keep.txt", "keep.txt", False), ("# x\n\n", "x", False), ("[ab].c", "b.c", True),
     ("[!ab].c", "b.c", False), ("?.c", "xy.c", False), ("*.txt", "a.txt.txt", True), ("*a*b", "xaxbxb", True),
     ("a*bab", "ab", False), ("a*a", "a", False), ("a*a", "aa", True), ("*", "a/b", True), ("**", "a/b", True),
     ("/**", "a", True), ("a/**", "a", False), ("**/b/**/d/", "a/b/c/d", False), ("**/b/**/d/", "a/b/c/d/e", True),
     ("/build/", "build", False), ("**/x", "x", True), ("a/**/b/c", "a/b/b/c", True), ("*a*b*", "xxbxa", False),
     ("node_modules", "x/node_modules/y", True), ("doc/*.md", "doc/x/y.md", False), ("[z-a]", "b", False)],
)  # fmt: skip
def test_patterns(text: str, path: str, ignored: bool) -> None:
    assert Ignore(text).ignores(path) is ignored


def test_hostile_patterns_cost_little() -> None:
    start = time.thread_time()
    Ignore("*a" * 200 + "b\n" + "**/" * 100 + "x\n").ignores("a" * 1000)
    assert time.thread_time() - start < 5


@pytest.mark.parametrize("pattern", ["**/a/**/x{}", "a/**/a/**/a/**/x{}", "*a*a*a*a*a*b{}", "x{}"])
def test_a_thousand_patterns_over_deep_paths_end_in_seconds_with_a_sentence(pattern: str) -> None:
    """One writer would take a processor from all others for as long as they like."""
    ignore, steps = Ignore("\n".join(pattern.format(n) for n in range(1000))), Steps()
    start = time.thread_time()
    with pytest.raises(TooLarge, match="shorten the patterns"):
        for n in range(256):
            ignore.ignores("a/" * 400 + "a" * 200 + str(n), steps)
    assert time.thread_time() - start < 30


def test_a_long_gitignore_over_a_whole_request_is_no_trouble() -> None:
    ignore, steps = Ignore("*.pyc\n__pycache__/\n/dist/*\ndocs/**/build\n*.egg-info*\n" * 40), Steps()
    for n in range(256):
        assert not ignore.ignores(f"src/package/part-{n}/sub/folder/file-{n}.safetensors", steps)


def test_attributes_name_large_files() -> None:
    patterns = large_patterns("*.bin filter=lfs diff=lfs\n*.txt text\nsaved/**/* filter=lfs\n")
    assert [matches(patterns, p) for p in ("a/b.bin", "a.txt", "saved/x/y.txt")] == [True, False, True]
