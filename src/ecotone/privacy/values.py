"""Looking through a JSON value: every string of it, keys and numbers included. Knows the shapes of chat bodies.

What it cannot look into (pictures, sound, files, token ids) counts as confidential: unseen is not harmless.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ecotone.privacy.dataurls import data_url
from ecotone.privacy.errors import TooDeep
from ecotone.privacy.finding import find, holds
from ecotone.privacy.spans import Span
from ecotone.vocabulary import DataClass

DEPTH_LIMIT: Final = 200
SIZE_LIMIT: Final = 2_000_000
QUICK_LIMIT: Final = 65_536
# What `quick` counts for each key and item.
_ITEM: Final = 16
# Stands between texts that are searched as one: no form of finding or escape holds it, and none begins or ends beside
# it that would not begin or end at the edge of a text.
_BETWEEN: Final = '"'
# How many places that may be a finding `quick` looks at: what is left for `inspect` need not be quick.
_DOUBTS: Final = 100
_LONG: Final = 2_000
_TOGETHER: Final = 64
# Strings under these keys hold JSON of their own (OpenAI chat: tool calls).
JSON_TEXT_KEYS: Final = frozenset({"arguments"})
# A literal that is not closed ends with the text: were it given up, each of its quotes would begin another try.
_JSON_LITERAL: Final = re.compile(
    r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|(?<![0-9.eE+-])-?[0-9]{8,19}(?:\.0{1,9})?(?![0-9.eE])', re.S
)
_OPAQUE_KEYS: Final = frozenset({"input_audio", "image_url", "input_image", "file_data", "file_id", "inline_data"})
_TOKEN_KEYS: Final = frozenset({"input", "prompt"})


class Findings(msgspec.Struct, frozen=True):
    """What was found in a value: counts and no text, so that it may be logged.

    Args:
        data_class: the highest class of all findings; at least confidential when a part could not be looked into.
        kinds: how many findings of each kind.
        unscanned: how many parts could not be looked into.
    """

    data_class: DataClass
    kinds: dict[str, int]
    unscanned: int = 0

    @property
    def maskable(self) -> bool:
        """Whether placeholders can hide all of it: no part went unseen, and no credential is in it."""
        return not self.unscanned and "secret" not in self.kinds


NOTHING: Final = Findings(DataClass.PUBLIC, {})


def scan(value: Any) -> DataClass:
    """The data class of a JSON value.

    Raises:
        TooDeep: it is nested too deep to be looked through.
    """
    return inspect(value).data_class


def inspect(value: Any, *, limit: int = SIZE_LIMIT) -> Findings:
    """What a JSON value holds: over every string, key and number, and over text that is split between content parts.

    Args:
        value: a decoded JSON value.
        limit: characters to look through; what lies beyond counts as not looked into.

    Raises:
        TooDeep: it is nested too deep to be looked through.
    """
    kinds: Counter[str] = Counter()
    highest, unscanned = DataClass.PUBLIC, 0
    seen: list[str] = []
    for text in texts(value):
        limit -= len(text or "")
        if text is None or limit < 0:
            unscanned += 1
        else:
            seen.append(text)
    for text in _suspects(seen):
        for found in find(text):
            kinds[found.kind] += 1
            if found.data_class.rank > highest.rank:
                highest = found.data_class
    if unscanned and highest.rank < DataClass.CONFIDENTIAL.rank:
        highest = DataClass.CONFIDENTIAL
    return Findings(highest, dict(kinds), unscanned)


def quick(value: Any, *, limit: int = QUICK_LIMIT) -> Findings | None:
    """What `inspect` tells of a value that holds nothing; `None` when the value has to be looked at in full.

    Looks through at most `limit` characters, at most `limit` / 16 keys and items, and at no more than a hundred places
    that may be a finding, and stops at the first: `None` says that there is one, that there is more to look at, or
    that a part cannot be looked into. So no text holds up its caller, whoever wrote it.

    Raises:
        TooDeep: it is nested too deep to be looked through.
    """
    known = _texts(value, limit)
    if None in known:
        return None
    told: list[str] = known  # type: ignore[assignment]
    return None if sum(map(len, told)) > limit or holds(_BETWEEN.join(told), _DOUBTS) else NOTHING


def _suspects(seen: list[str]) -> Iterator[str]:
    """The texts without those that hold nothing together: most texts of a body are short, and each search costs."""
    short: list[str] = []
    for text in seen:
        if len(text) > _LONG:
            yield text
        else:
            short.append(text)
    for place in range(0, len(short), _TOGETHER):
        some = short[place : place + _TOGETHER]
        if holds(_BETWEEN.join(some)):
            yield from some


def texts(value: Any) -> list[str | None]:
    """Every text of a JSON value that has to be looked at; `None` stands for a part that cannot be looked into.

    Raises:
        TooDeep: it is nested too deep to be looked through.
    """
    return _texts(value, sys.maxsize)


def _texts(value: Any, room: int) -> list[str | None]:
    """The texts of a value; with a `None` when keys and items, or texts to be joined or decoded, exceed `room`."""
    found: list[str | None] = []
    todo: list[tuple[Any, str, int]] = [] if _scalar(value, "", found, room) else [(value, "", 0)]
    while todo:
        item, key, depth = todo.pop()
        kind = type(item)
        if not (kind is dict or kind is list or isinstance(item, (dict, list, tuple, Mapping))):
            continue
        room -= _ITEM * len(item)
        if room < 0:
            return [*found, None]
        if item and depth >= DEPTH_LIMIT:
            raise TooDeep(DEPTH_LIMIT)
        if kind is list or isinstance(item, (list, tuple)):
            if key in _TOKEN_KEYS and any(isinstance(i, (int, float)) for i in item[:1]):
                found.append(None)
            todo += [
                (part, key, depth + 1) for part in item if type(part) is dict or not _scalar(part, key, found, room)
            ]
            found += _joined(item, room)
            continue
        for name, part in item.items():
            told = str(name)
            found.append(told)
            if name in _OPAQUE_KEYS and part:
                found.append(None)
            kind = type(part)
            if kind is str and part[4:5] != ":" and told not in JSON_TEXT_KEYS:
                found.append(part)  # as `_scalar` would
            elif kind is dict or kind is list or not _scalar(part, told, found, room):
                todo.append((part, told, depth + 1))
    return found


def _scalar(item: Any, key: str, found: list[str | None], room: int) -> bool:
    """Adds the texts of a value that holds no others; False when it may hold others."""
    if isinstance(item, str):
        found.append(item)
        if item[4:5] == ":" or key in JSON_TEXT_KEYS:
            found += _inside(item, key) if len(item) <= room else (None,)
        return True
    if isinstance(item, (int, float)):
        if not -9_999_999 <= item <= 9_999_999 and (digits := number_digits(item)):
            found.append(digits)
        return True
    return item is None


def _joined(parts: Sequence[Any], room: int) -> list[str | None]:
    """The texts of neighbouring parts joined, when there is more than one: a value may be split between them."""
    if len(parts) < 2:
        return []
    pieces = [text for part in parts if (text := part_text(part)) is not None]
    if len(pieces) < 2:
        return []
    return ["".join(pieces)] if sum(map(len, pieces)) <= room else [None]


def number_digits(number: float) -> str | None:
    """The digits of a number that is long enough to be a finding; a whole one may be written as a float."""
    if isinstance(number, float):
        if not number.is_integer():
            return None
        number = int(number)
    return str(number) if 9_999_999 < abs(number) < 10**20 else None


def part_text(part: Any) -> str | None:
    """The text of a content part of a message."""
    text = part.get("text") if type(part) is dict or isinstance(part, Mapping) else None
    return text if isinstance(text, str) else None


def _inside(text: str, key: str) -> Iterator[str | None]:
    """What is written in another form inside a text."""
    url = data_url(text)
    if url is not None:
        if url.text != url.body:
            yield url.text
    elif key in JSON_TEXT_KEYS and "\\" in text:
        for literal in json_literals(text):
            if "\\" in literal.group():
                yield json_string(literal.group())


def json_literals(text: str) -> Iterator[re.Match[str]]:
    """String literals and long whole numbers in JSON text, in order."""
    return _JSON_LITERAL.finditer(text)


def json_string(literal: str) -> str:
    """The value of a JSON string literal, the digits of a number, the raw text of a broken literal."""
    if not literal.startswith('"'):
        return literal.partition(".")[0]
    try:
        return str(json.loads(literal, strict=False))
    except ValueError:
        return literal[1:].removesuffix('"')


def spans_over(pieces: Sequence[str]) -> list[Span]:
    """Findings over pieces of one text, as offsets in the joined text: those inside one piece and those across."""
    whole = "".join(pieces)
    spans = find(whole)
    if len(pieces) == 1:
        return spans
    start = 0
    for piece in pieces:
        spans.extend(Span(s.start + start, s.end + start, s.kind, s.data_class, s.rule) for s in find(piece))
        start += len(piece)
    return spans
