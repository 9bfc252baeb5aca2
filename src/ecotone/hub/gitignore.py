"""Patterns of .gitignore and .gitattributes: which paths they match. Pure, bounded.

Source: git's documentation of gitignore patterns; the last pattern that matches decides.
"""

import re
from collections.abc import Iterable

MOST_PATTERNS = 1000
MOST_LENGTH = 500


class Ignore:
    """The patterns of one .gitignore at the root."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in text.splitlines()[:MOST_PATTERNS]:
            line = line.rstrip()
            if not line or line.startswith("#") or len(line) > MOST_LENGTH:
                continue
            negated = line.startswith("!")
            self._rules.append((not negated, _pattern(line[1:] if negated else line)))

    def ignores(self, path: str) -> bool:
        decided = False
        for ignored, pattern in self._rules:
            if decided is not ignored and pattern.match(path):
                decided = ignored
        return decided


def large_patterns(attributes: str) -> list[re.Pattern[str]]:
    """The patterns that a .gitattributes file gives to LFS."""
    found = []
    for line in attributes.splitlines()[:MOST_PATTERNS]:
        words = line.split()
        if len(words) > 1 and not line.startswith("#") and "filter=lfs" in words[1:] and len(words[0]) <= MOST_LENGTH:
            found.append(_pattern(words[0]))
    return found


def matches(patterns: Iterable[re.Pattern[str]], path: str) -> bool:
    return any(pattern.match(path) for pattern in patterns)


def _pattern(text: str) -> re.Pattern[str]:
    """One pattern as a regular expression over whole paths.

    All wildcards but the last are matched without going back, so that a hostile pattern costs linear time.
    """
    only_folder = text.endswith("/")
    body = text.strip("/")
    anchored = text.startswith("/") or "/" in body
    if body.count("**") > 2:
        return _NEVER
    pieces: list[str] = [""]
    i = 0
    while i < len(body):
        if body.startswith("**/", i):
            pieces[-1] += "(?:[^/]+/)*"
            i += 3
        elif body[i:] == "**" and anchored:
            pieces[-1] += ".*"
            i += 2
        elif body[i] == "*":
            while i < len(body) and body[i] == "*":
                i += 1
            pieces.append("")
        else:
            token, i = _token(body, i)
            pieces[-1] += token
    out = pieces[0] + "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1])
    out += f"[^/]*{pieces[-1]}" if len(pieces) > 1 else ""
    try:
        return re.compile(("" if anchored else "(?:.*/)?") + out + ("/.*" if only_folder else "(?:/.*)?") + r"\Z")
    except re.error:
        return _NEVER


def _token(body: str, i: int) -> tuple[str, int]:
    """The expression for one character or class of a pattern, and where the next begins."""
    if body[i] == "?":
        return "[^/]", i + 1
    if body[i] == "[" and (end := body.find("]", i + 2)) > 0:
        inside = body[i + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
        return "[" + ("^" + inside[1:] if inside[0] in "!^" else inside) + "]", end + 1
    if body[i] == "\\" and i + 1 < len(body):
        i += 1
    return re.escape(body[i]), i + 1


_NEVER = re.compile(r"(?!)")
