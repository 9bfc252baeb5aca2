"""The plain form of a text: look-alike digits, letters and separators made ASCII, escapes (`\\u0040`, `&#64;`) read,
invisible characters left out.

Keeps the way back: an offset in the plain form leads to an offset in the text as it was given.
"""

import re
import sys
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from typing import Final

from ecotone.privacy.windows import WINDOW, each, first

_SPACES: Final = frozenset(
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u2800\u3000"
)
_DASHES: Final = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d")
_STOPS: Final = frozenset("\u3002\uff0e\uff61\u2024")
# Beside the format characters (Cf): what is shown as nothing (Unicode, DerivedCoreProperties, Default_Ignorable).
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9)]))
)
_TAGS: Final = range(0xE0000, 0xE1000)

# A character as JSON (RFC 8259, section 7; once or twice over) and HTML (section 13.5) write it.
_NAMED: Final = {
    "commat": "@", "period": ".", "plus": "+", "lowbar": "_", "hyphen": "-", "dash": "-",
    "nbsp": " ", "ensp": " ", "emsp": " ", "thinsp": " ", "shy": "",
}  # fmt: skip
# Each begins with a literal, which the search for it runs on at the speed of memory.
_JSON_ESCAPE: Final = r"\\\\{0,3}u(?P<json>[0-9A-Fa-f]{4})"
_REFERENCE: Final = (
    r"&(?:#(?:0{0,6}(?P<decimal>[0-9]{1,6})|[xX]0{0,6}(?P<hexadecimal>[0-9A-Fa-f]{1,6}));|(?P<name>"
    + "|".join(_NAMED)
    + ");)"
)
_FIND_JSON_ESCAPE: Final = re.compile(_JSON_ESCAPE)
_FIND_REFERENCE: Final = re.compile(_REFERENCE)
_LONGEST_ESCAPE: Final = 20
_ASCII: Final = bytes(range(128))
_FEW: Final = 16
_SHORT: Final = 2_000
# Letters of large scripts (Latin, Cyrillic, kana, Han, Hangul) stand for themselves.
_MAY_STAND: Final = re.compile("[^\u00c0-\u017e\u0400-\u052f\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]")


class Places:
    """The way from offsets in a plain form to those in the text: an entry for each change of their distance."""

    def __init__(self) -> None:
        self._plain: list[int] = [0]
        self._raw: list[int] = [0]
        self._width: list[int] = [1]

    def add(self, plain_offset: int, raw_offset: int, width: int = 1) -> None:
        """From here on; `width` is how many characters of the text the first plain one stands for."""
        self._plain.append(plain_offset)
        self._raw.append(raw_offset)
        self._width.append(width)

    def start(self, offset: int) -> int:
        """Where the plain character begins in the text."""
        entry = bisect_right(self._plain, offset) - 1
        past = offset - self._plain[entry]
        return self._raw[entry] + past + (self._width[entry] - 1 if past else 0)

    def end(self, offset: int) -> int:
        """Where the plain text that ends before `offset` ends in the text."""
        entry = bisect_right(self._plain, offset - 1) - 1
        return self._raw[entry] + offset - 1 - self._plain[entry] + self._width[entry]


class Crowded(Exception):
    """A text holds more escapes and invisible characters than it was to be read with."""


def plain(text: str, most: int = sys.maxsize) -> tuple[str, Places | None]:
    """The plain form, and the way back; `None` in place of it means that the offsets are equal.

    Raises:
        Crowded: there are more than `most` escapes and invisible characters.
    """
    patterns = _escapes_in(text)
    if text.isascii() and not patterns:
        return text, None
    table: dict[str, str] = {}
    left_out = ""
    for character in () if text.isascii() else _beyond_ascii(text):
        replacement = _plain(character)
        if not replacement:
            left_out += character
        elif replacement != character:
            table[character] = replacement
    same = _replaced(text, table) if table else text
    if left_out:
        patterns.append(f"[{re.escape(left_out)}]{{1,1000}}")
    if not patterns:
        return same, None
    pieces: list[str] = []
    places = Places()
    size = done = 0
    for read_before, gap in enumerate(each(re.compile("|".join(patterns)), text, 1000)):
        if read_before >= most:
            raise Crowded
        read = _unescaped(gap) if gap.lastgroup else ""
        if len(read) > 1:
            continue
        pieces += (same[done : gap.start()], read)
        size += gap.start() - done
        done = gap.end()
        if read:
            places.add(size, gap.start(), done - gap.start())
            size += 1
        else:
            places.add(size, done)
    pieces.append(same[done:])
    return "".join(pieces), places


def _escapes_in(text: str) -> list[str]:
    """The patterns of the kinds of escape that a text holds."""
    patterns = []
    if "\\" in text and first(_FIND_JSON_ESCAPE, text, 0, _LONGEST_ESCAPE):
        patterns.append(_JSON_ESCAPE)
    if "&" in text and first(_FIND_REFERENCE, text, 0, _LONGEST_ESCAPE):
        patterns.append(_REFERENCE)
    return patterns


def _beyond_ascii(text: str) -> set[str]:
    """The different characters of a text that are not ASCII, but for some that stand for themselves."""
    found: set[str] = set()
    for place in range(0, len(text), WINDOW):
        told = text[place : place + WINDOW].encode("utf-8", "surrogatepass").translate(None, _ASCII)
        found |= _different(told.decode("utf-8", "surrogatepass"))
    return found


def _different(told: str) -> set[str]:
    """The different characters that may stand for others; all of them in a short text or one of many."""
    found: set[str] = set()
    place = 0
    while len(told) > _SHORT and len(found) < _FEW:
        hit = _MAY_STAND.search(told, place)
        if hit is None:
            return found
        character, place = hit.group(), hit.start()
        found.add(character)
        told = told.replace(character, "")
    return found.union(told)


def _replaced(text: str, table: dict[str, str]) -> str:
    """The text with one character in place of another: few by searching for each, many by a table."""
    codes = {ord(character): replacement for character, replacement in table.items()}
    steps = []
    for place in range(0, len(text), WINDOW):
        step = text[place : place + WINDOW]
        if len(table) > _FEW:
            step = step.translate({ord(c): c for c in set(step)} | codes)
        else:
            for character, replacement in table.items():
                step = step.replace(character, replacement)
        steps.append(step)
    return "".join(steps)


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    """The one ASCII character (or nothing) that this character stands for; itself when there is none."""
    if character in _SPACES:
        return " "
    if character in _DASHES:
        return "-"
    if character in _STOPS:
        return "."
    category = unicodedata.category(character)
    if character in _INVISIBLE or category == "Cf" or ord(character) in _TAGS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if len(compatible) == 1 and compatible.isascii() else character


def _unescaped(escape: re.Match[str]) -> str:
    """The character that an escape stands for, in its plain form; the escape itself where it stands for none."""
    kind = escape.lastgroup or ""
    told = escape[kind]
    if kind == "name":
        return _NAMED[told]
    code = int(told) if kind == "decimal" else int(told, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return escape.group()
    return _plain(chr(code))
