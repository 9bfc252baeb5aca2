"""Finds a clause by its number in a licence text, so that a hash of its words can stand in the knowledge base instead
of the words. Knows the numbering of plain texts (`1.` `a.` `i.`), of lists in brackets, and of `4.2`."""

import hashlib
import re

_NUMBER = re.compile(
    r"^(?P<top>\d+(?:\.\d+)*|[A-Z](?:\.\d+)+|[A-Z](?=[.(]|$))(?P<rest>(?:\.[a-z]+\b|\([A-Za-z0-9]+\))*)"
)
_MARK = re.compile(r"^\s*(?:\(?[A-Za-z0-9]{1,4}[.)]|\d+(?:\.\d+)+|Section \d+)\s")


def clause_hash(text: str, section: str) -> str | None:
    """SHA-256 of the normalised words of the paragraph at a section number; None where no number leads to one."""
    found = _paragraph(text, section)
    words = re.findall(r"[a-z0-9]+", found.lower()) if found else []
    return hashlib.sha256(" ".join(words).encode()).hexdigest() if len(words) > 4 else None


def _paragraph(text: str, section: str) -> str | None:
    match = _NUMBER.match(section)
    if match is None:
        return None
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    lines = [re.sub(r"[*\\#]", "", line) for line in text.splitlines()]
    top, rest = match["top"], re.findall(r"[A-Za-z0-9]+", match["rest"])
    starts = [i for i, line in enumerate(lines) if re.match(rf"\s*(?:Section )?{re.escape(top)}(?:[.):]|\s)", line)]
    for start in sorted(starts, key=lambda i: not lines[i].lstrip().startswith("Section")):
        end = _end(lines, start, top)
        at = _descend(lines, start, end, rest)
        if at is not None:
            return _block(lines, at, end)
    return None


def _end(lines: list[str], start: int, top: str) -> int:
    *parents, last = top.split(".")
    following = ".".join([*parents, str(int(last) + 1)]) if last.isdigit() else chr(ord(last) + 1)
    for i in range(start + 1, len(lines)):
        if re.match(rf"\s*(?:Section )?{re.escape(following)}(?:[.):]|\s)", lines[i]):
            return i
    return len(lines)


def _descend(lines: list[str], start: int, end: int, rest: list[str]) -> int | None:
    at = start
    for token in rest:
        inner = rf"\(\s*{token}\s*\)"
        first = rf"\s*\(?{token}[.)]\s"
        at = next(
            (i for i in range(at, end) if (i > at and re.match(first, lines[i])) or re.search(inner, lines[i])), -1
        )
        if at < 0:
            return None
    return at


def _block(lines: list[str], at: int, end: int) -> str:
    found = [lines[at]]
    for line in lines[at + 1 : end]:
        enough = len(" ".join(found).split()) > 12
        if enough and (_MARK.match(line) or not line.strip()):
            break
        found.append(line)
    return " ".join(found)
