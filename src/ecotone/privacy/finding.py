"""Finding sensitive spans in a text by structure and checksum, in time linear in its length.

Every pattern has a fixed shape with bounded repeats and starts at a trigger (`@`, a digit, `+`, a rule's keyword), so
that plain text costs a few searches and hostile text cannot make it backtrack. What needs language (names, postal
addresses, health) is not found here.
"""

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from ecotone.privacy.checksums import CARD_BEGINNINGS, IBAN_LENGTH, is_card, is_country_code, is_iban, is_phone, is_ssn
from ecotone.privacy.normal import Crowded, plain
from ecotone.privacy.secrets import find_secrets
from ecotone.privacy.spans import Span, merged, span
from ecotone.privacy.windows import WINDOW, each, first, onwards

_LOCAL: Final = r"[\w.%+\-'&!#]"
_LOCAL_BACKWARDS: Final = re.compile(_LOCAL + "{1,64}")
_DOMAIN: Final = re.compile(
    r"(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.){1,8}"
    r"(?:xn--[a-z0-9\-]{2,59}|[a-z]{2,24}(?![a-z0-9])|[^\W\d_a-z][^\W\d_]{1,23})",
    re.IGNORECASE,
)
_LABEL: Final = r"(?i:[^\W_](?:[\w\-]{0,61}[^\W_])?\.[^\W_])"

# `maria.lopez @ acme.org`: only a name of two words under a domain that people have mail at; not `a.b @ c.d` in code.
_SPACED_NAME: Final = re.compile(r"[a-z]{2,}[._-][a-z]{2,}(?![\w.@%+-])", re.IGNORECASE)
_SPACED_DOMAIN_FORM: Final = (
    r"(?i:(?:[a-z0-9][a-z0-9-]{0,61}\.){1,3}"
    r"(?:com|org|net|edu|gov|eu|uk|de|fr|es|it|nl|be|ch|at|pl|pt|se|no|dk|fi|cz|ie|us|ca|br|mx|in|jp|cn|au|nz)\b)"
)
_SPACED_DOMAIN: Final = re.compile(_SPACED_DOMAIN_FORM)
# Signs with something on both sides that may make them an address, and all signs.
_AT: Final = re.compile(rf"@(?:(?<={_LOCAL}@)(?={_LABEL})|(?<= @)(?= {_SPACED_DOMAIN_FORM}))")
_ANY_AT: Final = re.compile(r"@|%40")
_ENCODED_AT: Final = re.compile(r"%(?=40)")
_ENCODED_PLUS: Final = re.compile(r"%(?=2[Bb])")

# A text's shape: its characters by class, one byte for each, so that digits are found at the speed of memory.
_SHAPE: Final = bytes(
    b"0"[0]
    if chr(code) in "0123456789"
    else b"a"[0]
    if code < 128 and chr(code).isalpha()
    else b" "[0]
    if chr(code) in " .()/\t\r\n-"
    else b"_"[0]
    if chr(code) == "_"
    else b"?"[0]
    for code in range(256)
)
# Nine digits make the shortest finding.
_RUN_BEGINS: Final = re.compile(rb"0(?<!00)" + rb"[ _]{0,2}+0" * 8)
_RUN_GOES_ON: Final = re.compile(rb"(?:0{1,8192}+|[ _]{1,2}+(?=0)){1,4096}+")
_SSN_SHAPE: Final = b"000 00 0000"
_IBAN_HEAD: Final = re.compile(rb"00(?<=aa00)(?<![a0_]aa00)")
_GROUP: Final = re.compile(r"[0-9]+")
_GROUP_SHAPE: Final = re.compile(rb"00*+")
_DECIMALS: Final = re.compile(r"\.[0-9]{1,20}")
_IBAN_BODY: Final = re.compile(r"(?:[ -]{0,2}[A-Za-z0-9]){11,29}")
# Separators that stand in ordinary text too count only where they part groups of four, as on paper.
_IBAN_GROUPS: Final = re.compile(
    r"([.\t_]|\r?\n)[A-Za-z0-9]{4}(?:\1[A-Za-z0-9]{4}){1,6}(?:\1[A-Za-z0-9]{1,3}(?![A-Za-z0-9]))?"
)
_PHONE: Final = re.compile(r"\+\(?[1-9](?:[ .()/-]{0,3}[0-9]){6,14}(?![0-9])")
_ANY_PHONE: Final = re.compile(r"(?:\+|%2[Bb])\(?[1-9](?:[ .()/-]{0,3}[0-9]){6,14}(?![0-9])")
# With `00`, only with a separator behind the country's code, a group of four or more and not all of them alike:
# zero-filled numbers abound.
_PHONE_00: Final = re.compile(
    r"0(?<![\w.,:+/-]0)(?<![0-9] 0)0([1-9][0-9]{0,2})[ /-](?:\(0\)[ ]?)?[1-9][0-9]{1,11}(?:[ /-][0-9]{2,8}){0,4}"
    r"(?![\w/-]|[.,][0-9])"
)

_CARD_GROUPS: Final = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (6, 13), (8, 8), (4, 12), (12, 4), (4, 4, 4, 1)}
)
_CARD_BEGINNINGS: Final = frozenset(groups[:size] for groups in _CARD_GROUPS for size in range(1, 6))
_CARD_SEPARATORS: Final = frozenset("\t\r\n_")
_SHORTEST_CARD: Final = 12
_LONGEST_CARD: Final = 19
_SHORTEST_GROUP: Final = 3
# No match of a pattern that a text is searched for is longer, with what it looks ahead at.
_REACH: Final = 256


def find(text: str) -> list[Span]:
    """The sensitive spans of a text, in order and without overlap.

    Args:
        text: any text; look-alike digits, invisible characters and unusual spaces inside a value are seen through.
    """
    seen, places = plain(text)
    spans = [found for found in _spans(seen) if found is not None]
    if not spans:
        return spans
    if places is not None:
        spans = [Span(places.start(s.start), places.end(s.end), s.kind, s.data_class, s.rule) for s in spans]
    return merged(spans)


def holds(text: str, most: int = sys.maxsize) -> bool:
    """Whether `find` finds anything in the text; stops at the first finding.

    Args:
        most: how many places that may be a finding are looked at; True when there are more.
    """
    try:
        seen, _ = plain(text, most)
    except Crowded:
        return True
    return any(found is not None or looked_at >= most for looked_at, found in enumerate(_spans(seen)))


def _spans(seen: str) -> Iterator[Span | None]:
    """What a text in its plain form holds, by kind; `None` for each place that was looked at and held nothing."""
    if "@" in seen or ("%" in seen and first(_ENCODED_AT, seen, 0, _REACH)):
        yield from _emails(seen)
    shape = _shape(seen)
    if b"0" in shape:
        yield from _numbers(seen, shape)
        yield from _ibans(seen, shape)
        yield from _phones(seen)
    yield from find_secrets(seen)


def _shape(text: str) -> bytes:
    """The class of each character; see `_SHAPE`."""
    if len(text) <= WINDOW:
        return text.encode("latin-1", "replace").translate(_SHAPE)
    steps = range(0, len(text), WINDOW)
    return b"".join([text[place : place + WINDOW].encode("latin-1", "replace").translate(_SHAPE) for place in steps])


def _emails(text: str) -> Iterator[Span | None]:
    """Addresses as RFC 5321 has them in practice; also with `%40`, as in the query of a URL."""
    for sign in each(_ANY_AT if "%" in text else _AT, text, _REACH):
        yield None
        at = sign.start()
        before = _LOCAL_BACKWARDS.match(text[max(0, at - 64) : at][::-1])
        domain = _DOMAIN.match(text, sign.end(), sign.end() + 255)
        if before is None or domain is None:
            yield from _spaced_email(text, at)
            continue
        start = at - before.end()
        while start < at and not text[start].isalnum() and text[start] != "_":
            start += 1
        if text[start - 1 : start] == "\\" and text[start] in "nrt":
            start += 1
        if (
            start >= at
            or text[at - 1] == "."
            or (text[start:at] == "git" and text[domain.end() : domain.end() + 1] == ":")
        ):
            continue
        yield span(start, domain.end(), "email")


def _spaced_email(text: str, at: int) -> Iterator[Span]:
    """An address with spaces around its `@`, where it is clearly one."""
    if text[at - 1 : at] != " " or text[at + 1 : at + 2] != " ":
        return
    domain = _SPACED_DOMAIN.match(text, at + 2, at + 257)
    begin = at - 1
    while begin > max(0, at - 65) and (text[begin - 1].isalnum() or text[begin - 1] in "._-"):
        begin -= 1
    if domain is not None and _SPACED_NAME.fullmatch(text, begin, at - 1):
        yield span(begin, domain.end(), "email")


def _numbers(text: str, shape: bytes) -> Iterator[Span | None]:
    """Payment cards and social security numbers among the runs of digits and separators."""
    end = 0
    while (begin := first(_RUN_BEGINS, shape, end, _REACH)) is not None:
        yield None
        start, end = begin.start(), onwards(_RUN_GOES_ON, shape, begin.end())
        if shape.count(b"0", start, end) < _SHORTEST_CARD and shape.find(_SSN_SHAPE, start, end) < 0:
            continue
        groups = [(m.start(), m.end()) for m in _GROUP_SHAPE.finditer(shape, start, end)]
        if _continues(text, start - 1):
            groups = groups[1:]
        if groups and _continues(text, end):
            groups.pop()
        skip_to = 0
        for index, (start, stop) in enumerate(groups):
            if start < skip_to or stop - start < _SHORTEST_GROUP:
                continue
            yield None
            past, kind = _card_at(text, groups, index) or 0, "card"
            if not past:
                past, kind = _ssn_at(text, groups, index) or 0, "ssn"
            if past:
                yield span(start, past, kind)
                skip_to = past


def _continues(text: str, place: int) -> bool:
    """Whether the character there makes the neighbouring digits part of a longer word."""
    if not 0 <= place < len(text):
        return False
    return text[place] == "_" or (text[place].isascii() and text[place].isalnum())


def _card_at(text: str, groups: list[tuple[int, int]], index: int) -> int | None:
    """Where a card number that begins with this group ends."""
    start = groups[index][0]
    if text[start : start + 3] not in CARD_BEGINNINGS or _is_fraction(text, start):
        return None
    sizes: tuple[int, ...] = ()
    total = 0
    for place in range(index, min(index + 6, len(groups))):
        low, high = groups[place]
        sizes += (high - low,)
        total += high - low
        if total > _LONGEST_CARD or (len(sizes) > 1 and sizes not in _CARD_BEGINNINGS and min(sizes) < 3):
            return None
        if total < _SHORTEST_CARD or not (sizes in _CARD_GROUPS or _alike(text, groups[index : place + 1])):
            continue
        digits = "".join(text[a:b] for a, b in groups[index : place + 1])
        if is_card(digits) and not _has_fraction(text, high) and not _is_column(text, groups, index, place):
            return high
    return None


def _has_fraction(text: str, end: int) -> bool:
    """Whether decimals follow that are not all zero: 4111111111111111.0 is a whole number."""
    decimals = _DECIMALS.match(text, end)
    return decimals is not None and decimals.group().strip(".0") != ""


def _is_column(text: str, groups: list[tuple[int, int]], index: int, place: int) -> bool:
    """Whether the number is part of a name, or four numbers of a longer column or row of a table."""
    start, end = groups[index][0], groups[place][1]
    if "_" in (text[start - 1 : start], text[end : end + 1]):
        return True
    if place == index or text[groups[index][1]] not in _CARD_SEPARATORS:
        return False
    sizes = tuple(high - low for low, high in groups[index : place + 1])
    around = groups[max(0, index - 1) : index] + groups[place + 1 : place + 2]
    return sizes not in _CARD_GROUPS or any(high - low == sizes[0] for low, high in around)


def _alike(text: str, groups: list[tuple[int, int]]) -> bool:
    """Whether the groups are all apart by the same separator."""
    return len(groups) == 1 or len({text[left[1] : right[0]] for left, right in pairwise(groups)}) <= 1


def _is_fraction(text: str, start: int) -> bool:
    """Whether digits there are the decimals of a number such as 0.4111111111111111."""
    return start >= 2 and text[start - 1] == "." and text[start - 2].isdigit()


def _ssn_at(text: str, groups: list[tuple[int, int]], index: int) -> int | None:
    """Where a US social security number (AAA-GG-SSSS) that begins with this group ends."""
    if groups[index][1] - groups[index][0] != 3:
        return None
    three = groups[index : index + 3]
    if [high - low for low, high in three] != [3, 2, 4]:
        return None
    start, end = three[0][0], three[2][1]
    if text[start - 1 : start] == "-" or text[end : end + 1] == "-":
        return None
    if text[three[0][1] : three[1][0]] != "-" or text[three[1][1] : three[2][0]] != "-":
        return None
    area, group, serial = (text[low:high] for low, high in three)
    return end if is_ssn(area, group, serial) else None


def _ibans(text: str, shape: bytes) -> Iterator[Span | None]:
    """International bank account numbers, in either case, with or without separators."""
    for head in each(_IBAN_HEAD, shape, _REACH):
        yield None
        start = head.start() - 2
        length = IBAN_LENGTH.get(text[start : head.start()].upper())
        if length is None:
            continue
        body = _IBAN_GROUPS.match(text, head.end()) or _IBAN_BODY.match(text, head.end())
        if body is None:
            continue
        taken = head.end()
        compact = text[start:taken]
        while len(compact) < length and taken < body.end():
            if text[taken].isalnum():
                compact += text[taken]
            taken += 1
        if not _continues(text, taken) and is_iban(compact.upper()):
            yield span(start, taken, "iban")


def _phones(text: str) -> Iterator[Span | None]:
    """Telephone numbers in international form, with a leading `+` or `00`."""
    encoded = "%" in text and first(_ENCODED_PLUS, text, 0, _REACH) is not None
    for hit in each(_ANY_PHONE if encoded else _PHONE, text, _REACH) if encoded or "+" in text else ():
        yield None
        is_decimal = text[hit.end() - 2] == "."
        if is_decimal or _continues(text, hit.start() - 1):
            continue
        start = hit.start() + (3 if text[hit.start()] == "%" else 1)
        groups = [(m.start(), m.end()) for m in _GROUP.finditer(text, start, hit.end())]
        if _continues(text, hit.end()):
            groups.pop()
        if is_phone("".join(text[low:high] for low, high in groups)):
            yield span(hit.start(), groups[-1][1], "phone")
    for hit in each(_PHONE_00, text, _REACH):
        yield None
        parts = _GROUP.findall(hit.group().replace("(0)", ""))
        digits, sizes = "".join(parts)[2:], [len(part) for part in parts]
        if len(digits) < 9 or max(sizes[1:]) < 4 or len(set(sizes)) == 1:
            continue
        if is_country_code(hit.group(1)) and is_phone(digits):
            yield span(hit.start(), hit.end(), "phone")
