"""The plain form of a text: look-alike digits, letters and separators made ASCII, invisible characters left out.

Keeps the way back: an offset in the plain form leads to an offset in the text as it was given.
"""

import unicodedata
from functools import lru_cache

_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d")
_INVISIBLE = frozenset("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u3164\ufeff\uffa0")
_STOPS = frozenset("\u3002\uff0e\uff61\u2024")


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
    if character in _INVISIBLE or category == "Cf" or "\ufe00" <= character <= "\ufe0f":
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    compatible = unicodedata.normalize("NFKC", character)
    return compatible if len(compatible) == 1 and compatible.isascii() else character


def plain(text: str) -> tuple[str, list[int] | None]:
    """The plain form and the offsets of its characters in `text`.

    Returns:
        the plain form and, when characters were left out, the offset of each of its characters in `text`;
        `None` in place of the offsets means that they are equal.
    """
    if text.isascii():
        return text, None
    table: dict[int, str] = {}
    shorter = False
    for character in set(text):
        if character > "\x7f":
            replacement = _plain(character)
            if replacement != character:
                table[ord(character)] = replacement
                shorter = shorter or not replacement
    if not table:
        return text, None
    if not shorter:
        return text.translate(table), None
    kept = [i for i, character in enumerate(text) if table.get(ord(character)) != ""]
    return text.translate(table), kept
