"""Finding credentials by the forms that their issuers give them; the forms are data, in `secrets.yaml`."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

import msgspec
import yaml

from ecotone.privacy.spans import Span, span
from ecotone.privacy.windows import each, first, onwards

_PLACEHOLDER: Final = re.compile(
    r"example|your[_-]|changeme|placeholder|redacted|dummy|insert|xxxx|\.\.\.|\*\*\*|(.)\1{7}", re.I
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN ((?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?)-----")
# The rarest characters of keywords in running text come first; a text without a keyword's rarest one is not searched.
_RARE: Final = "_ZXQJKG:VAIB-."
_NO_WORD_BEFORE: Final = r"(?<![A-Za-z0-9])"
_BODY: Final = re.compile(r"(?:[A-Za-z0-9+/=:,\s-]|\\[nr]){1,8192}+")
_LONGEST_FORM: Final = 8_192
_KEY_BEGINS: Final = re.compile("-(?=----BEGIN )")
_LONGEST_HEAD: Final = 96


class SecretRule(msgspec.Struct, frozen=True):
    """One form of credential.

    Args:
        id: name of the rule.
        keywords: literal texts with one of which every match begins.
        pattern: the form from the keyword on, with bounded repeats.
        distinct: how many different characters the match must have beside its keyword, against made-up examples.
        source: where its issuer describes the form.
        positive, negative: texts in pieces (to be joined) that must and must not be found.
    """

    id: str
    keywords: tuple[str, ...]
    pattern: str
    source: str
    positive: tuple[tuple[str, ...], ...]
    negative: tuple[tuple[str, ...], ...] = ()
    distinct: int = 8


@cache
def secret_rules() -> tuple[SecretRule, ...]:
    """The rules of `secrets.yaml`."""
    text = files(__package__).joinpath("secrets.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text)["rules"], tuple[SecretRule, ...])


def _rarity(character: str) -> int:
    place = _RARE.find(character)
    return place if place >= 0 else len(_RARE)


class _Entry(NamedTuple):
    """A keyword, how far in its mark stands, and the rule's pattern."""

    keyword: str
    offset: int
    pattern: re.Pattern[str]
    rule: SecretRule


@cache
def _compiled() -> tuple[tuple[str, re.Pattern[str], tuple[_Entry, ...]], ...]:
    """Under the rarest character of each keyword: a pattern that finds it where a keyword stands, and the keywords.

    The pattern begins with that character, so that the search for it runs at the speed of memory.
    """
    by_mark: dict[str, list[_Entry]] = {}
    for rule in secret_rules():
        for keyword in rule.keywords:
            pattern = re.compile((_NO_WORD_BEFORE if keyword[0].isalnum() else "") + rule.pattern)
            mark = min(keyword, key=_rarity)
            by_mark.setdefault(mark, []).append(_Entry(keyword, keyword.index(mark), pattern, rule))
    return tuple((mark, _standing(mark, entries), tuple(entries)) for mark, entries in by_mark.items())


def _standing(mark: str, entries: Iterable[_Entry]) -> re.Pattern[str]:
    """The pattern of a mark inside one of the keywords, and of the whole form where the keyword is common."""
    choices: dict[str, None] = {}
    for keyword, offset, _, rule in entries:
        upto, behind = re.escape(keyword[: offset + 1]), re.escape(keyword[offset + 1 :])
        choice = f"(?<={upto})" if offset else ""
        choice += f"(?<![A-Za-z0-9]{upto})" if keyword[0].isalnum() else ""
        choice += f"(?={behind})" if behind else ""
        if not keyword[0].isalnum():
            choice += f"(?<=(?={rule.pattern}).{{{offset + 1}}})"
        choices[choice] = None
    before = [keyword[:offset] for keyword, offset, _, _ in entries]
    guard = ""
    if min(map(len, before)) > 1:
        last, last_but_one = ({told[place] for told in before} for place in (-1, -2))
        guard = f"(?<=[{re.escape(''.join(last_but_one))}][{re.escape(''.join(last))}]{re.escape(mark)})"
    return re.compile(f"{re.escape(mark)}{guard}(?:{'|'.join(choices)})")


def find_secrets(text: str) -> Iterator[Span | None]:
    """Credentials in a text that has been made plain; `None` for each place that was looked at and held none."""
    for mark, standing, entries in _compiled():
        if mark in text and (hit := first(standing, text, 0, _LONGEST_FORM)) is not None:
            yield from _credentials(text, hit.start(), standing, entries)
    if "-" in text and first(_KEY_BEGINS, text, 0, _LONGEST_HEAD) is not None:
        yield from _private_keys(text)


def _credentials(
    text: str, place: int, standing: re.Pattern[str], entries: tuple[_Entry, ...]
) -> Iterator[Span | None]:
    """Credentials whose keywords share a mark, from a place on; each rule's do not overlap."""
    resume = dict.fromkeys(range(len(entries)), 0)
    while (mark := first(standing, text, place, _LONGEST_FORM)) is not None:
        place = mark.end()
        yield None
        for index, (keyword, offset, pattern, rule) in enumerate(entries):
            start = mark.start() - offset
            if start < resume[index] or not text.startswith(keyword, start):
                continue
            hit = pattern.match(text, start)
            if hit is not None and _is_real(hit, keyword, rule):
                yield span(hit.start(), hit.end(), "secret", rule.id)
                resume[index] = hit.end()


def _is_real(hit: re.Match[str], keyword: str, rule: SecretRule) -> bool:
    value = hit.group()[len(keyword) :]
    return len(set(value)) >= rule.distinct and _PLACEHOLDER.search(value) is None


def _private_keys(text: str) -> Iterator[Span]:
    """PEM and PGP private keys from their first to their last line, cut-off ones as far as the body goes (RFC 7468)."""
    done, no_end_from = 0, len(text)
    for begin in each(_PRIVATE_KEY, text, _LONGEST_HEAD):
        if begin.start() < done:
            continue
        last = f"-----END {begin.group(1)}-----"
        end = text.find(last, begin.end()) if begin.end() < no_end_from else -1
        if end >= 0:
            done = end + len(last)
        else:
            no_end_from = min(no_end_from, begin.end())
            done = onwards(_BODY, text, begin.end())
        yield span(begin.start(), done, "secret", "private-key")
