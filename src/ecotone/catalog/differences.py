"""What differs between the files of two revisions: line by line for small texts, sizes and hashes for the rest. Pure.

Everything is bounded: the size of a file that is read, the lines of one that are compared, and both in all. Texts made
to be slow, of lines that repeat between lines that do not, take about half a second for the most lines of one file.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from ecotone.catalog.entities import File

MOST_FILES = 500
MOST_FILE_BYTES = 128 * 1024
MOST_READ_BYTES = 4 * 1024 * 1024
MOST_LINES = 2000
MOST_LINES_IN_ALL = 16_000
CONTEXT = 3
_NO_END = "\\ No newline at end of file"

Mark = Literal[" ", "+", "-", "\\"]
What = Literal["added", "changed", "removed"]
Reader = Callable[[File], bytes]


class Line(msgspec.Struct, frozen=True):
    """A line of a hunk: kept (space), added, removed, or a remark on the one before (backslash); without its end."""

    mark: Mark
    text: str


class Hunk(msgspec.Struct, frozen=True):
    """Neighbouring changes with lines around them. Numbers of first lines and counts of lines as `@@` writes them."""

    old_start: int
    old_count: int
    new_start: int
    new_count: int
    lines: tuple[Line, ...]

    @property
    def heading(self) -> str:
        return f"@@ -{_span(self.old_start, self.old_count)} +{_span(self.new_start, self.new_count)} @@"


class Difference(msgspec.Struct, frozen=True):
    """One file that differs. `hunks` is None where lines are not compared; `why` then says so in a word: large,
    binary, long or enough."""

    path: str
    what: What
    before: File | None
    after: File | None
    hunks: tuple[Hunk, ...] | None = None
    why: str = ""

    @property
    def added(self) -> int:
        return sum(line.mark == "+" for hunk in self.hunks or () for line in hunk.lines)

    @property
    def removed(self) -> int:
        return sum(line.mark == "-" for hunk in self.hunks or () for line in hunk.lines)


class Differences(msgspec.Struct, frozen=True):
    """Files that differ, by path; `left_out` counts those beyond the bound."""

    files: tuple[Difference, ...]
    left_out: int = 0


def compare(before: Mapping[str, File], after: Mapping[str, File], read: Reader | None) -> Differences:
    """The differences between two sets of files by path.

    Args:
        read: the whole bytes of a small file; None for whoever may not have them, who gets no lines.
    """
    paths = sorted(p for p in before.keys() | after.keys() if _oid(before.get(p)) != _oid(after.get(p)))
    budget = _Budget()
    files = tuple(_compared(p, before.get(p), after.get(p), read, budget) for p in paths[:MOST_FILES])
    return Differences(files, max(0, len(paths) - MOST_FILES))


def unified(differences: Differences, *, hashes: bool = True) -> str:
    """The same as a unified diff, as `git diff` writes it; what has no lines is told with sizes, and with hashes unless
    told not to."""
    parts: list[str] = []
    for found in differences.files:
        old = f"a/{found.path}" if found.before is not None else "/dev/null"
        new = f"b/{found.path}" if found.after is not None else "/dev/null"
        parts.append(f"diff --git a/{found.path} b/{found.path}")
        if found.hunks is None:
            sides = (_told(found.before, hashes), _told(found.after, hashes))
            parts.append(f"Binary files {old} ({sides[0]}) and {new} ({sides[1]}) differ")
            continue
        if found.hunks:
            parts += [f"--- {old}", f"+++ {new}"]
        for hunk in found.hunks:
            parts.append(hunk.heading)
            parts += [line.text if line.mark == "\\" else line.mark + line.text for line in hunk.lines]
    if differences.left_out:
        parts.append(f"# {differences.left_out} more files differ")
    return "\n".join(parts) + "\n" if parts else ""


class _Budget:
    """What may still be spent on one comparison of revisions."""

    def __init__(self) -> None:
        self.bytes = MOST_READ_BYTES
        self.lines = MOST_LINES_IN_ALL


def _compared(path: str, before: File | None, after: File | None, read: Reader | None, budget: _Budget) -> Difference:
    what: What = "added" if before is None else "removed" if after is None else "changed"
    sides = [file for file in (before, after) if file is not None]
    size = sum(file.content.size for file in sides)
    if any(file.content.sha256 is not None or file.content.size > MOST_FILE_BYTES for file in sides):
        return Difference(path, what, before, after, None, "large")
    if read is None or size > budget.bytes:
        return Difference(path, what, before, after, None, "enough")
    budget.bytes -= size
    texts = [_text(read(file) if file.content.size else b"") if file is not None else "" for file in (before, after)]
    if texts[0] is None or texts[1] is None:
        return Difference(path, what, before, after, None, "binary")
    old, new = (_split(text) for text in texts if text is not None)
    hunks, why = _hunks(old, new, budget)
    return Difference(path, what, before, after, hunks, why)


def _hunks(old: list[str], new: list[str], budget: _Budget) -> tuple[tuple[Hunk, ...] | None, str]:
    """Hunks between two texts; the lines alike at both ends are never compared, however many they are."""
    start = _alike(old, new)
    end = _alike(old[: start - 1 : -1] if start else old[::-1], new[: start - 1 : -1] if start else new[::-1])
    a, b = old[start : len(old) - end], new[start : len(new) - end]
    if max(len(a), len(b)) > MOST_LINES:
        return None, "long"
    if len(a) + len(b) > budget.lines:
        return None, "enough"
    budget.lines -= len(a) + len(b)
    codes = difflib.SequenceMatcher(None, a, b).get_opcodes()
    moved = [(tag, i1 + start, i2 + start, j1 + start, j2 + start) for tag, i1, i2, j1, j2 in codes]
    around = [("equal", 0, start, 0, start)] if start else []
    behind = [("equal", len(old) - end, len(old), len(new) - end, len(new))] if end else []
    return tuple(_hunk(group, old, new) for group in _grouped([*around, *moved, *behind])), ""


def _grouped(codes: list[tuple[str, int, int, int, int]]) -> list[list[tuple[str, int, int, int, int]]]:
    """Changes nearer to each other than their context, together (as `SequenceMatcher.get_grouped_opcodes`)."""
    groups: list[list[tuple[str, int, int, int, int]]] = [[]]
    for number, (tag, i1, i2, j1, j2) in enumerate(codes):
        if tag != "equal":
            groups[-1].append((tag, i1, i2, j1, j2))
            continue
        first, last, length = number == 0, number == len(codes) - 1, i2 - i1
        if not first and (last or length > 2 * CONTEXT):
            keep = min(CONTEXT, length)
            groups[-1].append((tag, i1, i1 + keep, j1, j1 + keep))
            groups.append([])
        if not last and (first or length > 2 * CONTEXT):
            keep = min(CONTEXT, length)
            groups[-1].append((tag, i2 - keep, i2, j2 - keep, j2))
        elif not first and not last:
            groups[-1].append((tag, i1, i2, j1, j2))
    return [group for group in groups if any(code[0] != "equal" for code in group)]


def _hunk(codes: list[tuple[str, int, int, int, int]], old: list[str], new: list[str]) -> Hunk:
    lines: list[Line] = []
    for tag, i1, i2, j1, j2 in codes:
        if tag == "equal":
            lines += _lines(" ", old[i1:i2])
            continue
        lines += _lines("-", old[i1:i2])
        lines += _lines("+", new[j1:j2])
    i1, i2, j1, j2 = codes[0][1], codes[-1][2], codes[0][3], codes[-1][4]
    return Hunk(i1 + 1 if i2 > i1 else i1, i2 - i1, j1 + 1 if j2 > j1 else j1, j2 - j1, tuple(lines))


def _lines(mark: Mark, texts: Sequence[str]) -> list[Line]:
    found: list[Line] = []
    for text in texts:
        found.append(Line(mark, text.removesuffix("\n")))
        if not text.endswith("\n"):
            found.append(Line("\\", _NO_END))
    return found


def _alike(a: Sequence[str], b: Sequence[str]) -> int:
    """How many lines are the same from the beginning."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count


def _split(text: str) -> list[str]:
    """Lines with their ends; only a line feed ends one, as for git."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _text(data: bytes) -> str | None:
    """Bytes as text, None when they are no UTF-8 or hold control characters."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text) else text


def _oid(file: File | None) -> str | None:
    return None if file is None else file.content.git_oid


def _told(file: File | None, hashes: bool) -> str:
    if file is None:
        return "absent"
    size, content = f"{file.content.size} bytes", file.content
    if not hashes:
        return size
    return f"{size}, sha256 {content.sha256}" if content.sha256 else f"{size}, blob {content.git_oid}"


def _span(start: int, count: int) -> str:
    return str(start) if count == 1 else f"{start},{count}"
