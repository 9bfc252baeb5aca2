"""Finds and reads the files that may hold a licence: encodings, bounds, and which files of a folder to look at."""

import codecs
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

LARGEST = 2 * 1024 * 1024
MOST_FILES = 20_000
_BINARY = 8192
_NAMED = re.compile(
    r"(?:li[cs]en[cs]e|copying|copyright|unlicense|notice|readme|legal|patents|terms|eula|"
    r".*[-_. ](?:li[cs]en[cs]e|notice|policy|terms)|use[-_ ]?policy|third[-_ ]?party)",
    re.I,
)
# names of files that speak for the whole work
OF_THE_WORK = re.compile(
    r"(?:(?:model|weights)[-_ .]?)?(?:licen[cs]e|copying|unlicense)(?:[-_.](?!third|3rd|notice)[^/]*)?", re.I
)
_SOURCES = re.compile(
    r"\.(?:[ch]|cc|cpp|cxx|hh|hpp|cs|cl|cu|java|kt|scala|go|rs|pyi?|rb|php|p[lm]|m?jsx?|tsx?|vue|swift|mm?|lua|r|jl|"
    r"sh|bash|zsh|ps1|bat|sql|tcl|el|lisp|clj|erl|ex|hs|ml|f|f90|s|asm|v|vhd|proto|s?css|html?|xml|xsl|rst|md|markdown|"
    r"adoc|tex|txt)",
    re.I,
)
_SKIPPED = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache"})
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Unreadable(Exception):
    """A file that was not looked at; the message is the reason."""


class Text(msgspec.Struct, frozen=True):
    """Text of a file; `note` says when only the beginning was read."""

    text: str
    note: str | None = None


def read(path: Path, *, largest: int = LARGEST) -> Text:
    """Text of a regular file, at most `largest` bytes of it.

    Raises:
        Unreadable: not a regular file, not permitted, or binary.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not a regular file")
            raw = file.read(largest)
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from None
    if is_binary(raw):
        raise Unreadable("binary")
    rest = status.st_size - len(raw)
    note = f"only the first {len(raw):,} of {status.st_size:,} bytes were read" if rest > 0 else None
    return Text(decoded(raw), note)


def is_binary(raw: bytes) -> bool:
    """Whether bytes are no text: a zero byte in what is no UTF-16 or UTF-32, or many control characters."""
    head = raw[:_BINARY]
    if any(head.startswith(mark) for mark, _ in _BOMS) or _bare_utf16(head):
        return False
    control = sum(head.count(bytes([c])) for c in (*range(1, 7), *range(14, 26), 28, 29, 30, 31))
    return b"\0" in head or control * 20 > len(head)


def decoded(raw: bytes) -> str:
    """Text of bytes: by their byte-order mark, else UTF-8, else the Windows code page; never an error."""
    for mark, encoding in _BOMS:
        if raw.startswith(mark) and (encoding == "utf-8-sig" or b"\0" in raw):
            return raw.decode(encoding, "replace").lstrip("\ufeff")
    bare = _bare_utf16(raw[:_BINARY])
    if bare:
        return raw.decode(bare, "replace")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if error.start >= len(raw) - 4:  # a character cut at the bound
            return raw.decode("utf-8", "ignore")
        return raw.decode("cp1252", "replace")


def _bare_utf16(head: bytes) -> str | None:
    """UTF-16 without a mark: every second byte of mostly Latin text is zero."""
    half = len(head) // 2
    if half < 8:
        return None
    even, odd = head[0 : 2 * half : 2].count(0), head[1 : 2 * half : 2].count(0)
    if odd > 0.8 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.8 * half and odd < 0.05 * half else None


def named_as_licence(path: Path) -> bool:
    """Whether the name of a file says that it holds licence terms."""
    return bool(_NAMED.match(path.name)) and not path.name.lower().startswith("readme")


def files_of(path: Path, *, most: int = MOST_FILES) -> Iterator[Path]:
    """The path itself, or of a folder the files named as licences, notices or READMEs and the source files, sorted.

    Links are not followed; caches and version control are left out.

    Raises:
        Unreadable: there is no such path, or the folder holds more than `most` such files.
    """
    if not path.is_dir():
        if not path.exists():
            raise Unreadable("no such file or folder")
        yield path
        return
    count = 0
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED)
        for name in sorted(names):
            found = Path(folder, name)
            if found.is_symlink() or not (_NAMED.match(name) or _SOURCES.fullmatch(found.suffix)):
                continue
            count += 1
            if count > most:
                raise Unreadable(f"more than {most:,} files; the rest was not looked at")
            yield found
