"""Differences between revisions: what a reviewer reads must be what `git diff` would say, at a bounded cost."""

import subprocess
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.catalog import File
from ecotone.catalog.differences import MOST_FILE_BYTES, MOST_LINES, Differences, compare, unified
from ecotone.storage import Content
from ecotone.storage.content import blob_id, large


def compared(before: dict[str, bytes], after: dict[str, bytes]) -> Differences:
    held: dict[str, bytes] = {}

    def files(texts: dict[str, bytes]) -> dict[str, File]:
        held.update({blob_id(data): data for data in texts.values()})
        return {p: File(p, Content(len(d), blob_id(d), None, None, "git", None), "c" * 40) for p, d in texts.items()}

    return compare(files(before), files(after), lambda file: held[file.content.git_oid])


def applied(before: bytes, text: str, folder: Path) -> bytes:
    """What git makes of a file when it applies a diff to it."""
    (folder / "f").write_bytes(before)
    done = subprocess.run(
        ["git", "apply", "--unsafe-paths", "--directory", str(folder), "-p1", "-"],
        input=text.encode(), cwd=folder, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, (text, done.stderr)
    return (folder / "f").read_bytes()


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "é\n", "\n", "x"]), max_size=40).map("".join).map(str.encode)


@settings(max_examples=40, deadline=None)
@given(LINES, LINES)
def test_git_makes_the_new_text_of_the_old_one_and_the_diff(before: bytes, after: bytes) -> None:
    import tempfile

    if not before or not after:
        return
    text = unified(compared({"f": before}, {"f": after}))
    if before == after:
        assert text == ""
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        assert applied(before, text, Path(folder)) == after


def test_files_come_and_go() -> None:
    found = compared({"old.txt": b"x\n", "same": b"s"}, {"new.txt": b"y\n", "same": b"s"})
    assert [(d.path, d.what, d.added, d.removed) for d in found.files] == [
        ("new.txt", "added", 1, 0),
        ("old.txt", "removed", 0, 1),
    ]
    assert unified(found).splitlines()[1:4] == ["--- /dev/null", "+++ b/new.txt", "@@ -0,0 +1 @@"]


def test_large_and_binary_files_are_told_by_size_and_hash_and_never_as_pointers() -> None:
    weights = File("w.bin", large("a" * 64, 7_000_000, None), "c" * 40)
    changed = File("w.bin", large("b" * 64, 8_000_000, None), "c" * 40)
    text = unified(compare({"w.bin": weights}, {"w.bin": changed}, lambda file: b""))
    assert f"7000000 bytes, sha256 {'a' * 64}" in text and f"8000000 bytes, sha256 {'b' * 64}" in text
    assert "git-lfs" not in text
    for data in (b"\0\1", b"\xff\xfe", b"x" * (MOST_FILE_BYTES + 1)):
        found = compared({}, {"f": data}).files[0]
        assert found.hunks is None and found.why in ("binary", "large")


def test_who_may_not_have_the_bytes_gets_no_lines() -> None:
    file = File("f", Content(2, blob_id(b"x\n"), None, None, "git", None), "c" * 40)
    assert compare({}, {"f": file}, None).files[0].hunks is None


def test_lines_alike_at_both_ends_of_a_long_text_cost_nothing() -> None:
    many = [f"{i}\n" for i in range(MOST_LINES * 5)]
    changed = [*many]
    changed[MOST_LINES] = "changed\n"
    found = compared({"f": "".join(many).encode()}, {"f": "".join(changed).encode()}).files[0]
    assert found.added == found.removed == 1
    long = compared({"f": "".join(many).encode()}, {"f": "".join(reversed(many)).encode()}).files[0]
    assert long.hunks is None and long.why == "long"


def test_texts_made_to_be_slow_are_not_compared_for_long() -> None:
    one = "".join(line for i in range(1000) for line in (f"x{i % 50}\n", f"u{i}\n")).encode()
    other = "".join(line for i in range(1000) for line in (f"x{i % 50}\n", f"v{i}\n")).encode()
    began = time.thread_time()
    found = compared({f"{n}": one for n in range(40)}, {f"{n}": other for n in range(40)})
    assert time.thread_time() - began < 45
    assert [d.why for d in found.files].count("enough") == 36
