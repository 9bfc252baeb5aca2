"""Finding credentials by the forms that their issuers give them; the forms are data, in `secrets.yaml`."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec
import yaml

from ecotone.privacy.spans import Span, span

_PLACEHOLDER: Final = re.compile(
    r"example|your[_-]|changeme|placeholder|redacted|dummy|insert|xxxx|\.\.\.|\*\*\*|(.)\1{7}", re.I
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN ((?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?)-----")
# The rarest characters of keywords in running text come first; a text without a keyword's rarest one is not searched.
_RARE: Final = "_ZXQJKG:VAIB-."
_NO_WORD_BEFORE: Final = r"(?<![A-Za-z0-9])"
_BODY: Final = re.compile(r"(?:[A-Za-z0-9+/=:,\s-]|\\[nr])*")


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
