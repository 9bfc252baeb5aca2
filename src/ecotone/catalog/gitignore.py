"""Patterns of .gitignore and .gitattributes: which paths they match. Pure, and bounded by the steps that it takes.

Source: git's documentation of gitignore patterns; the last pattern that matches decides. A pattern is matched folder by
folder and never goes back: what stands between two `**` is taken where it fits first.
"""

import re
from collections.abc import Iterable, Sequence

from ecotone.vocabulary import TooLarge

MOST_PATTERNS = 1000
MOST_LENGTH = 500
MOST_STEPS = 3_000_000
_CHEAP = 64


class Steps:
    """The work that one request may cause: a step is one name of a path against one part of a pattern."""

    def __init__(self, most: int = MOST_STEPS) -> None:
        self._left = most

    def take(self, number: int) -> None:
        """Raises TooLarge when the work is used up."""
        self._left -= number
        if self._left < 0:
            raise TooLarge(
                "Comparing these paths with the patterns of .gitignore or .gitattributes takes too long; ask for fewer "
                "paths at a time, or shorten the patterns."
            )


class Pattern:
    """One pattern. `groups` are runs of names between `**`; the first stands at the root when `rooted`."""

    def __init__(self, text: str) -> None:
        body = text.strip("/")
        parts = [part for part in body.split("/") if part]
        self.rooted = text.startswith("/") or "/" in body
        self.only_folder = text.endswith("/") or (self.rooted and parts[-1:] == ["**"])
        self.groups: list[list[_Name]] = [[]]
        for part in parts:
            if part == "**" and self.rooted:
                self.groups.append([])
            else:
                self.groups[-1].append(_Name(part))
        self.empty = not any(self.groups) and not self.only_folder

    def matches(self, names: Sequence[str], steps: Steps) -> bool:
        """Whether the path, as its names, or a folder above it is meant."""
        if self.empty:
            return False
        last = len(names) - 1 if self.only_folder else len(names)
        if not self.rooted:
            return any(self.groups[0][0].match(name, steps) for name in names[:last])
        at = self._find(self.groups[0], names, 0, 0, steps)
        for group in self.groups[1:]:
            if at is None:
                return False
            at = self._find(group, names, at, last - len(group), steps)
        return at is not None and at <= last

    @staticmethod
    def _find(group: "list[_Name]", names: Sequence[str], start: int, latest: int, steps: Steps) -> int | None:
        """Behind the first place from `start` to `latest` where the group fits."""
        for at in range(start, min(latest, len(names) - len(group)) + 1):
            fitting = 0
            while fitting < len(group) and group[fitting].match(names[at + fitting], steps):
                fitting += 1
            if fitting == len(group):
                return at + fitting
        return None


class Ignore:
    """The patterns of one .gitignore at the root."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, Pattern]] = []
        for line in text.splitlines()[:MOST_PATTERNS]:
            line = line.rstrip()
            if not line or line.startswith("#") or len(line) > MOST_LENGTH:
                continue
            negated = line.startswith("!")
            self._rules.append((not negated, Pattern(line[1:] if negated else line)))

    def ignores(self, path: str, steps: Steps | None = None) -> bool:
        """Whether a file at this path stays at home. Raises TooLarge when `steps` are used up."""
        names, steps = path.split("/"), steps or Steps()
        for ignored, pattern in reversed(self._rules):
            if pattern.matches(names, steps):
                return ignored
        return False


def large_patterns(attributes: str) -> list[Pattern]:
    """The patterns that a .gitattributes file gives to LFS."""
    found = []
    for line in attributes.splitlines()[:MOST_PATTERNS]:
        words = line.split()
        if len(words) > 1 and not line.startswith("#") and "filter=lfs" in words[1:] and len(words[0]) <= MOST_LENGTH:
            found.append(Pattern(words[0]))
    return found


def matches(patterns: Iterable[Pattern], path: str, steps: Steps | None = None) -> bool:
    """Whether one of the patterns matches. Raises TooLarge when `steps` are used up."""
    names, steps = path.split("/"), steps or Steps()
    return any(pattern.matches(names, steps) for pattern in patterns)


class _Name:
    """One name of a pattern as a regular expression over whole names.

    It never goes back: what stands behind the last `*` is looked at from the end, what stands before it is taken where
    it fits first. Only the latter can cost length times length.
    """

    def __init__(self, text: str) -> None:
        pieces: list[list[str]] = [[]]
        i = 0
        while i < len(text):
            if text[i] == "*":
                while i < len(text) and text[i] == "*":
                    i += 1
                pieces.append([])
            else:
                token, i = _token(text, i)
                pieces[-1].append(token)
        self._heavy = len(text) if len(pieces) > 2 else 0
        first, *middle, last = ["".join(piece) for piece in pieces] if len(pieces) > 1 else ["".join(pieces[0]), ""]
        out = first + "".join(f"(?>.*?{piece})" for piece in middle)
        if len(pieces) > 1:
            out += f".{{{len(pieces[-1])},}}+" + (f"(?<={last})" if last else "")
        try:
            self._match = re.compile(out + r"\Z", re.DOTALL).match
        except re.error:
            self._match = _NEVER.match

    def match(self, name: str, steps: Steps) -> bool:
        steps.take(1 + len(name) * self._heavy // _CHEAP)
        return self._match(name) is not None


def _token(text: str, i: int) -> tuple[str, int]:
    """The expression for one character or class of a pattern, and where the next begins."""
    if text[i] == "?":
        return ".", i + 1
    if text[i] == "[" and (end := text.find("]", i + 2)) > 0:
        inside = text[i + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
        return "[" + ("^" + inside[1:] if inside[0] in "!^" else inside) + "]", end + 1
    if text[i] == "\\" and i + 1 < len(text):
        i += 1
    return re.escape(text[i]), i + 1


_NEVER = re.compile(r"(?!)")
