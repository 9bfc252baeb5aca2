"""Putting values back in place of their placeholders, in whole texts and in streams torn at any character.

Knows the form of a placeholder and how models mangle it; what stands behind one it is told.

A placeholder is a plain word, `_` and four pairs of a letter and a digit: `Email_K7Q2X4M6`. No character of it is
special in Markdown, HTML, URLs or JSON. The form is such that no two of them can overlap, whatever stands around
them: the words hold no digit, the pairs no two letters, and no word ends in another one.

Inside a URL or a link's target a placeholder stays: whoever shows the answer may fetch that address, with the value.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from ecotone.privacy.links import Links

WORDS: Final = {
    "email": "Email",
    "phone": "Phone",
    "iban": "Iban",
    "card": "Card",
    "ssn": "Number",
    "secret": "Key",
    "literal": "Text",
}
LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"
DIGITS: Final = "23456789"
PAIRS: Final = 4

_SEPARATOR: Final = r"(?:\\{0,2}[_ \-])?"
_ALL_WORDS: Final = "|".join(WORDS.values())
# As a model may give it back: in any case, with the underscore escaped, replaced or lost.
PLACEHOLDER: Final = re.compile(
    rf"({_ALL_WORDS}){_SEPARATOR}((?:[{LETTERS}][{DIGITS}]){{{PAIRS}}})", re.ASCII | re.IGNORECASE
)
# Begins with a digit, so that text without the pairs is passed over quickly.
_PAIRS: Final = re.compile(rf"[{DIGITS}][{LETTERS}{LETTERS.lower()}][{DIGITS}]")
_LONGEST: Final = max(map(len, WORDS.values())) + 3 + 2 * PAIRS


def _beginnings() -> re.Pattern[str]:
    """The pattern of a text's end that may be the beginning of a placeholder."""
    tail = ""
    for count in range(2 * PAIRS - 1, 0, -1):
        tail = f"(?:[{LETTERS if count % 2 else DIGITS}]{tail})?"
    choices = []
    for word in WORDS.values():
        rest = rf"(?:\\{{1,2}}|{_SEPARATOR}{tail})"
        for letter in reversed(word[1:]):
            rest = f"(?:{letter}{rest})?"
        choices.append(word[0] + rest)
    return re.compile(rf"(?:{'|'.join(choices)})\Z", re.ASCII | re.IGNORECASE)


_BEGINNING: Final = _beginnings()
_SEPARATORS: Final = "\\_ -"
_NOT_CORE: Final = re.compile(r"[\\_ \-]")


def placeholders(text: str) -> Iterator[re.Match[str]]:
    """Everything in a text that has the form of a placeholder, issued or not; its groups are word and pairs."""
    return PLACEHOLDER.finditer(text) if _PAIRS.search(text) else iter(())


def core(placeholder: str) -> str:
    """What identifies a placeholder (or its beginning) however it is mangled: its letters and digits, upper case."""
    return _NOT_CORE.sub("", placeholder).upper()


class Issued:
    """The placeholders that were given out, with what stands behind each and every beginning of one."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.beginnings: set[str] = set()
        # The last two characters, in upper case, of every beginning that has two, however it is mangled.
        self._endings = {"\\" + separator for separator in _SEPARATORS}

    def add(self, placeholder: str, value: str) -> bool:
        """Notes what a new placeholder stands for; False when it already stands for something."""
        name = core(placeholder)
        if name in self.values:
            return False
        self.beginnings.update(name[:length] for length in range(1, len(name)))
        self._endings.update(name[place : place + 2] for place in range(len(name) - 2))
        word = len(name) - 2 * PAIRS
        for separator in _SEPARATORS:
            self._endings.update((name[word - 1] + separator, separator + name[word]))
        self.values[name] = value
        return True

    def restore(self, text: str, *, in_json: bool = False) -> str:
        """The text with every issued placeholder outside of URLs replaced; others stay as they are."""
        restored, rest = self.split(text, Links(), in_json=in_json)
        return restored + rest

    def split(self, text: str, links: Links, *, in_json: bool) -> tuple[str, str]:
        """Everything up to the end of the last issued placeholder, restored, and the text behind it.

        Args:
            text: the text from where `links` has followed it.
            links: follows it to the end of that placeholder.
        """
        if not self.values:
            return "", text
        done = 0
        pieces: list[str] = []
        for hit in placeholders(text):
            value = self.values.get((hit.group(1) + hit.group(2)).upper())
            if value is None:
                continue
            links.follow(text[done : hit.start()])
            shown = hit.group() if links.inside else escaped(value) if in_json else value
            links.follow(hit.group())
            pieces += (text[done : hit.start()], shown)
            done = hit.end()
        return "".join(pieces), text[done:]

    def undecided(self, text: str) -> int:
        """Where the longest end of the text begins that may become an issued placeholder; its length if none."""
        if text[-2:].upper() not in self._endings and text[-1:].upper() not in self.beginnings:
            return len(text)
        start = max(0, len(text) - _LONGEST)
        while (hit := _BEGINNING.search(text, start)) is not None:
            if core(hit.group()) in self.beginnings:
                return hit.start()
            start = hit.start() + 1
        return len(text)


def escaped(value: str) -> str:
    """The value as it stands inside a JSON string."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


class StreamRestorer:
    """Restores one field of a stream, piece by piece. Holds back only what may be the beginning of a placeholder.

    Args:
        issued: the placeholders of the request.
        in_json: whether the field is JSON text (arguments of a tool call), where values are escaped.
    """

    def __init__(self, issued: Issued, *, in_json: bool = False) -> None:
        self._issued = issued
        self._in_json = in_json
        self._held = ""
        self._links = Links()

    def feed(self, text: str) -> str:
        """Takes the next piece; gives what can be shown by now, perhaps nothing."""
        if not self._issued.values:
            return text
        restored, rest = "", self._held + text
        if _PAIRS.search(rest) is not None:
            restored, rest = self._issued.split(rest, self._links, in_json=self._in_json)
        place = self._issued.undecided(rest)
        self._links.follow(rest[:place])
        self._held = rest[place:]
        return restored + rest[:place]

    def finish(self) -> str:
        """Gives what is still held back. Call it before the piece that ends the field."""
        held, self._held = self._held, ""
        return held
