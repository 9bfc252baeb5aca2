"""The scan as it was before it was made fast: what the fast one must find, and what its speed is compared with.

Looks for each trigger with a search of its own, and at each text of a body apart. Shares with the fast one what was
not changed: checksums, rules, the characters that stand for others, the shapes of bodies.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Final

from ecotone.privacy.checksums import _ISSUER_LENGTHS as _ISSUER_LENGTHS
from ecotone.privacy.checksums import IBAN_LENGTH, is_country_code, is_phone, is_ssn
from ecotone.privacy.dataurls import data_url
from ecotone.privacy.errors import TooDeep
from ecotone.privacy.normal import Places
from ecotone.privacy.normal import _plain as _plain
from ecotone.privacy.secrets import SecretRule, secret_rules
from ecotone.privacy.spans import Span, merged, span
from ecotone.privacy.values import (
    DEPTH_LIMIT,
    JSON_TEXT_KEYS,
    SIZE_LIMIT,
    Findings,
    json_literals,
    json_string,
    number_digits,
    part_text,
)
from ecotone.vocabulary import DataClass

_OPAQUE_KEYS: Final = frozenset({"input_audio", "image_url", "input_image", "file_data", "file_id", "inline_data"})
_TOKEN_KEYS: Final = frozenset({"input", "prompt"})
_LUHN_DOUBLE: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_PLACEHOLDER: Final = re.compile(
    r"example|your[_-]|changeme|placeholder|redacted|dummy|insert|xxxx|\.\.\.|\*\*\*|(.)\1{7}", re.I
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN ((?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?)-----")
# The rarest characters of keywords in running text come first; a text without a keyword's rarest one is not searched.
_RARE: Final = "_ZXQJKG:VAIB-."
_NO_WORD_BEFORE: Final = r"(?<![A-Za-z0-9])"
_BODY: Final = re.compile(r"(?:[A-Za-z0-9+/=:,\s-]|\\[nr])*")


# A character as JSON (RFC 8259, section 7; once or twice over) and HTML (section 13.5) write it.
_NAMED: Final = {
    "commat": "@", "period": ".", "plus": "+", "lowbar": "_", "hyphen": "-", "dash": "-",
    "nbsp": " ", "ensp": " ", "emsp": " ", "thinsp": " ", "shy": "",
}  # fmt: skip
_ESCAPE: Final = (
    r"\\{1,4}u([0-9A-Fa-f]{4})|&#(?:0{0,6}([0-9]{1,6})|[xX]0{0,6}([0-9A-Fa-f]{1,6}));|&(" + "|".join(_NAMED) + ");"
)


_AT: Final = re.compile(r"@|%40")
_LOCAL_BACKWARDS: Final = re.compile(r"[\w.%+\-'&!#]{1,64}")
_DOMAIN: Final = re.compile(
    r"(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.){1,8}"
    r"(?:xn--[a-z0-9\-]{2,59}|[a-z]{2,24}(?![a-z0-9])|[^\W\d_a-z][^\W\d_]{1,23})",
    re.IGNORECASE,
)

# `maria.lopez @ acme.org`: only a name of two words under a domain that people have mail at; not `a.b @ c.d` in code.
_SPACED_NAME: Final = re.compile(r"[a-z]{2,}[._-][a-z]{2,}(?![\w.@%+-])", re.IGNORECASE)
_SPACED_DOMAIN: Final = re.compile(
    r"(?:[a-z0-9][a-z0-9-]{0,61}\.){1,3}"
    r"(?:com|org|net|edu|gov|eu|uk|de|fr|es|it|nl|be|ch|at|pl|pt|se|no|dk|fi|cz|ie|us|ca|br|mx|in|jp|cn|au|nz)\b",
    re.IGNORECASE,
)

_TWO_DIGITS: Final = re.compile(r"[0-9][ .()/\t\r\n_-]{0,3}[0-9]")
_RUN: Final = re.compile(r"[0-9](?:[ .()/\t\r\n_-]{0,2}[0-9]){7,}+")
_GROUP: Final = re.compile(r"[0-9]+")
_DECIMALS: Final = re.compile(r"\.[0-9]{1,20}")
_IBAN_HEAD: Final = re.compile(r"[0-9][0-9](?<=[A-Za-z]{2}[0-9]{2})(?<![A-Za-z0-9_][A-Za-z]{2}[0-9]{2})")
_IBAN_BODY: Final = re.compile(r"(?:[ -]{0,2}[A-Za-z0-9]){11,29}")
# Separators that stand in ordinary text too count only where they part groups of four, as on paper.
_IBAN_GROUPS: Final = re.compile(
    r"([.\t_]|\r?\n)[A-Za-z0-9]{4}(?:\1[A-Za-z0-9]{4}){1,6}(?:\1[A-Za-z0-9]{1,3}(?![A-Za-z0-9]))?"
)
_PHONE: Final = re.compile(r"(?:\+|%2[Bb])\(?[1-9](?:[ .()/-]{0,3}[0-9]){6,14}(?![0-9])")
# With `00`, only with a separator behind the country's code, a group of four or more and not all of them alike:
# zero-filled numbers abound.
_PHONE_00: Final = re.compile(
    r"(?<![\w.,:+/-])(?<![0-9] )00([1-9][0-9]{0,2})[ /-](?:\(0\)[ ]?)?[1-9][0-9]{1,11}(?:[ /-][0-9]{2,8}){0,4}"
    r"(?![\w/-]|[.,][0-9])"
)

_CARD_GROUPS: Final = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (6, 13), (8, 8), (4, 12), (12, 4), (4, 4, 4, 1)}
)
_CARD_BEGINNINGS: Final = frozenset(groups[:size] for groups in _CARD_GROUPS for size in range(1, 6))
_CARD_FIRST: Final = frozenset("123456")
_CARD_SEPARATORS: Final = frozenset("\t\r\n_")
_SHORTEST_CARD: Final = 12
_LONGEST_CARD: Final = 19


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
    for text in texts(value):
        limit -= len(text or "")
        if text is None or limit < 0:
            unscanned += 1
            continue
        for found in find(text):
            kinds[found.kind] += 1
            if found.data_class.rank > highest.rank:
                highest = found.data_class
    if unscanned and highest.rank < DataClass.CONFIDENTIAL.rank:
        highest = DataClass.CONFIDENTIAL
    return Findings(highest, dict(kinds), unscanned)


def texts(value: Any) -> Iterator[str | None]:
    """Every text of a JSON value that has to be looked at; `None` stands for a part that cannot be looked into."""
    todo: list[tuple[Any, str, int]] = [(value, "", 0)]
    while todo:
        item, key, depth = todo.pop()
        if depth > DEPTH_LIMIT:
            raise TooDeep(DEPTH_LIMIT)
        if isinstance(item, str):
            yield from _string(item, key)
        elif isinstance(item, Mapping):
            for name, inner in item.items():
                yield str(name)
                if name in _OPAQUE_KEYS and inner:
                    yield None
                todo.append((inner, str(name), depth + 1))
        elif isinstance(item, (list, tuple)):
            if key in _TOKEN_KEYS and any(isinstance(i, (int, float)) for i in item[:1]):
                yield None
            todo.extend((inner, key, depth + 1) for inner in item)
            yield from split_texts(item)
        elif isinstance(item, (int, float)) and not isinstance(item, bool) and (digits := number_digits(item)):
            yield digits


def _string(text: str, key: str) -> Iterator[str | None]:
    yield text
    url = data_url(text)
    if url is not None:
        if url.text != url.body:
            yield url.text
    elif key in JSON_TEXT_KEYS and "\\" in text:
        for literal in json_literals(text):
            if "\\" in literal.group():
                yield json_string(literal.group())


def find(text: str) -> list[Span]:
    """The sensitive spans of a text, in order and without overlap.

    Args:
        text: any text; look-alike digits, invisible characters and unusual spaces inside a value are seen through.
    """
    seen, places = plain(text)
    spans: list[Span] = []
    if "@" in seen or "%40" in seen:
        spans.extend(_emails(seen))
    if _TWO_DIGITS.search(seen):
        spans.extend(_numbers(seen))
        spans.extend(_ibans(seen))
        spans.extend(_phones(seen))
    spans.extend(find_secrets(seen))
    if not spans:
        return spans
    if places is not None:
        spans = [Span(places.start(s.start), places.end(s.end), s.kind, s.data_class, s.rule) for s in spans]
    return merged(spans)


def _emails(text: str) -> Iterator[Span]:
    """Addresses as RFC 5321 has them in practice; also with `%40`, as in the query of a URL."""
    for sign in _AT.finditer(text):
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


def _numbers(text: str) -> Iterator[Span]:
    """Payment cards and social security numbers among the runs of digits and separators."""
    for run in _RUN.finditer(text):
        groups = [(m.start(), m.end()) for m in _GROUP.finditer(text, run.start(), run.end())]
        if _continues(text, run.start() - 1):
            groups = groups[1:]
        if groups and _continues(text, run.end()):
            groups.pop()
        skip_to = 0
        for index, (start, _) in enumerate(groups):
            if start < skip_to:
                continue
            end = _card_at(text, groups, index) or 0
            kind = "card"
            if not end:
                end, kind = _ssn_at(text, groups, index) or 0, "ssn"
            if end:
                yield span(start, end, kind)
                skip_to = end


def _continues(text: str, place: int) -> bool:
    """Whether the character there makes the neighbouring digits part of a longer word."""
    if not 0 <= place < len(text):
        return False
    return text[place] == "_" or (text[place].isascii() and text[place].isalnum())


def _card_at(text: str, groups: list[tuple[int, int]], index: int) -> int | None:
    """Where a card number that begins with this group ends."""
    start, end = groups[index]
    if end - start < 3 or text[start] not in _CARD_FIRST or _is_fraction(text, start):
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
    return len({text[left[1] : right[0]] for left, right in pairwise(groups)}) <= 1


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


def _ibans(text: str) -> Iterator[Span]:
    """International bank account numbers, in either case, with or without separators."""
    for head in _IBAN_HEAD.finditer(text):
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


def _phones(text: str) -> Iterator[Span]:
    """Telephone numbers in international form, with a leading `+` or `00`."""
    hits = list(_PHONE.finditer(text)) if "+" in text or "%2" in text else []
    for hit in hits:
        is_decimal = text[hit.end() - 2] == "."
        if is_decimal or _continues(text, hit.start() - 1):
            continue
        start = hit.start() + (3 if text[hit.start()] == "%" else 1)
        groups = [(m.start(), m.end()) for m in _GROUP.finditer(text, start, hit.end())]
        if _continues(text, hit.end()):
            groups.pop()
        if is_phone("".join(text[low:high] for low, high in groups)):
            yield span(hit.start(), groups[-1][1], "phone")
    for hit in _PHONE_00.finditer(text) if "00" in text else ():
        parts = _GROUP.findall(hit.group().replace("(0)", ""))
        digits, sizes = "".join(parts)[2:], [len(part) for part in parts]
        if len(digits) < 9 or max(sizes[1:]) < 4 or len(set(sizes)) == 1:
            continue
        if is_country_code(hit.group(1)) and is_phone(digits):
            yield span(hit.start(), hit.end(), "phone")


def plain(text: str) -> tuple[str, Places | None]:
    """The plain form, and the way back; `None` in place of it means that the offsets are equal."""
    escapes = "\\u" in text or ("&" in text and ";" in text)
    if text.isascii() and not escapes:
        return text, None
    table: dict[int, str] = {}
    left_out = ""
    for character in set(text):
        if character > "\x7f" and (replacement := _plain(character)) != character:
            table[ord(character)] = replacement
            left_out += character if not replacement else ""
    patterns = [_ESCAPE] * escapes + [f"[{re.escape(left_out)}]+"] * bool(left_out)
    if not patterns:
        return text.translate(table), None
    pieces: list[str] = []
    places = Places()
    size = done = 0
    for gap in re.finditer("|".join(patterns), text):
        read = _unescaped(gap) if escapes and gap.lastindex else ""
        if len(read) > 1:
            continue
        pieces += (text[done : gap.start()].translate(table), read)
        size += gap.start() - done
        done = gap.end()
        if read:
            places.add(size, gap.start(), done - gap.start())
            size += 1
        else:
            places.add(size, done)
    pieces.append(text[done:].translate(table))
    return "".join(pieces), places


def _unescaped(escape: re.Match[str]) -> str:
    """The character that an escape stands for, in its plain form; the escape itself where it stands for none."""
    json_code, decimal, hexadecimal, name = escape.groups()[:4]
    if name:
        return _NAMED[name]
    code = int(decimal) if decimal else int(json_code or hexadecimal, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return escape.group()
    return _plain(chr(code))


def _rarity(character: str) -> int:
    place = _RARE.find(character)
    return place if place >= 0 else len(_RARE)


@cache
def _compiled() -> tuple[tuple[str, tuple[tuple[str, re.Pattern[str], SecretRule], ...]], ...]:
    """Keyword, pattern and rule, once for each keyword, under the rarest character of the keyword."""
    by_mark: dict[str, list[tuple[str, re.Pattern[str], SecretRule]]] = {}
    for rule in secret_rules():
        for keyword in rule.keywords:
            pattern = re.compile((_NO_WORD_BEFORE if keyword[0].isalnum() else "") + rule.pattern)
            mark = min(keyword, key=_rarity)
            by_mark.setdefault(mark, []).append((keyword, pattern, rule))
    return tuple((mark, tuple(entries)) for mark, entries in by_mark.items())


def find_secrets(text: str) -> Iterator[Span]:
    """Credentials in a text that has been made plain."""
    for mark, entries in _compiled():
        if mark not in text:
            continue
        for keyword, pattern, rule in entries:
            place = text.find(keyword)
            while place >= 0:
                hit = pattern.match(text, place)
                if hit is not None and _is_real(hit, keyword, rule):
                    yield span(hit.start(), hit.end(), "secret", rule.id)
                    place = text.find(keyword, hit.end())
                else:
                    place = text.find(keyword, place + 1)
    if "-----BEGIN " in text:
        yield from _private_keys(text)


def _is_real(hit: re.Match[str], keyword: str, rule: SecretRule) -> bool:
    value = hit.group()[len(keyword) :]
    return len(set(value)) >= rule.distinct and _PLACEHOLDER.search(value) is None


def _private_keys(text: str) -> Iterator[Span]:
    """PEM and PGP private keys from their first to their last line, cut-off ones as far as the body goes (RFC 7468)."""
    done, no_end_from = 0, len(text)
    for begin in _PRIVATE_KEY.finditer(text):
        if begin.start() < done:
            continue
        last = f"-----END {begin.group(1)}-----"
        end = text.find(last, begin.end()) if begin.end() < no_end_from else -1
        if end >= 0:
            done = end + len(last)
        else:
            no_end_from = min(no_end_from, begin.end())
            body = _BODY.match(text, begin.end())
            done = body.end() if body else begin.end()
        yield span(begin.start(), done, "secret", "private-key")


def luhn(digits: str) -> bool:
    """Whether the last digit is the right check digit (ISO/IEC 7812-1, annex B)."""
    total = sum(map(int, digits[-1::-2])) + sum(_LUHN_DOUBLE[int(d)] for d in digits[-2::-2])
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether the digits are a payment card number: an issuer's prefix and length, and Luhn's check digit."""
    length = len(digits)
    if not 12 <= length <= 19:
        return False
    issued = any(length in _ISSUER_LENGTHS.get(digits[:size], ()) for size in (1, 2, 3, 4, 6))
    return issued and luhn(digits)


def is_iban(compact: str) -> bool:
    """Whether upper-case text without separators is an IBAN: its country's length, and remainder 1 modulo 97."""
    if IBAN_LENGTH.get(compact[:2]) != len(compact):
        return False
    number = "".join(str(int(c, 36)) for c in compact[4:] + compact[:4])
    return int(number) % 97 == 1


def split_texts(parts: Sequence[Any]) -> list[str]:
    """The texts of neighbouring parts joined, when there is more than one: a value may be split between them."""
    pieces = [text for part in parts if (text := part_text(part)) is not None]
    return ["".join(pieces)] if len(pieces) > 1 else []
