"""Turns a text into comparable words: without markup, bullets, clause numbers, addresses, case and variant spellings.

Knows nothing about licences. Line breaks carry no meaning here, so that a re-wrapped text gives the same words. Every
pattern is linear in the length of the text.
"""

import functools
import hashlib
import html
import re
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import yaml

SHINGLE = 3
MARK = "\ue000"
Hashes = npt.NDArray[np.uint64]
_WORDS = Path(__file__).with_name("words.yaml")
_CACHE: dict[str, int] = {}
_MOST_CACHED = 100_000

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,400}>|<!--|-->|<!doctype[^<>]{0,400}>", re.I)
_MARK = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MARKS = re.compile(f"({_MARK}{{30}}){_MARK}+")  # more marks on a letter than text has (UAX #15, stream-safe)
_LINK = re.compile(r"\]\([^()\s]{1,400}\)")
_ADDRESS = re.compile(r"\b(?:https?|ftp)://[^\s<>()\[\]\"'“”|]+|\bwww\.[^\s<>()\[\]\"'“”|]+", re.I)
_NUMBERING = re.compile(r"(?<![\w.])(?<!version\s)\(?(?:\d{1,2}|[a-z]|[ivx]{2,5})[.)]\)?:?(?=\s)", re.I)
_HEADING = re.compile(r"^[\s*#>/;%-]{0,20}(?:section |article )?(\d{1,2}(?:\.\d{1,2}){1,3})[.):]?(?=\s)", re.I | re.M)
_YEAR = re.compile(r"(?:19|20)\d\d")
_APOSTROPHE = re.compile(r"['’‘`´]")
_WORD = re.compile(r"\ue000|\d+(?:\.\d+)+|[\u3400-\u9fff]|[^\W_\u3400-\u9fff\ue000]+")


class Vocabulary(msgspec.Struct, frozen=True):
    """`words.yaml`: spellings that are the same, words that decide, and what an added clause may be about."""

    same: dict[str, str]
    drop: tuple[str, ...]
    decisive: dict[str, tuple[str, ...]]
    obligation: tuple[str, ...]
    condition: tuple[str, ...]
    topics: dict[str, tuple[str, ...]]
    optional_after: tuple[str, ...]
    optional_before: tuple[str, ...]


@functools.cache
def vocabulary() -> Vocabulary:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read = yaml.load(_WORDS.read_bytes(), Loader=loader)  # noqa: S506  a safe loader
    return msgspec.convert(read, Vocabulary)


@functools.cache
def decisive_words() -> dict[str, str]:
    """Word to the class it belongs to."""
    return {word: kind for kind, listed in vocabulary().decisive.items() for word in listed}


def decides(word: str, before: str = "") -> str | None:
    """Class of a word whose change can turn a clause round; numbers of three digits and version numbers count.

    `before` is the word before it: a number with a dot is a version after "version", and else a reference to a clause.
    A year of copyright decides nothing.
    """
    kind = decisive_words().get(word)
    if kind is not None or not word.replace(".", "").isdecimal():
        return kind
    if _YEAR.fullmatch(word) and (before in ("copyright", "c") or _YEAR.fullmatch(before)):
        return None
    return "a number" if (before == "version" if "." in word else len(word) > 2) else None


def plain(text: str) -> str:
    """Text without markup: HTML tags and entities, Markdown links and escapes."""
    if not text.isascii():
        text = _MARKS.sub(r"\1", text)
        text = unicodedata.normalize("NFKC", text)
    if "<" in text:
        text = _TAG.sub(" ", _without_scripts(text))
    if "&" in text:
        text = html.unescape(text)
    if "](" in text:
        text = _LINK.sub(" ", text)
    return text.replace("\\", "")


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    text = _ADDRESS.sub(" ", plain(text))
    return _split(_NUMBERING.sub(" ", text))


def numbered_words(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The words of a text, and the clause labels with the index of the word that follows each."""
    labels: list[str] = []

    def keep(match: re.Match[str]) -> str:
        label = match[1]
        labels.append("" if re.match(r"\([A-Z]", label) else label.strip(" ().:").lower())
        return f" {MARK} "

    text = _ADDRESS.sub(" ", plain(text))
    marked = _NUMBERING.sub(lambda m: f" {MARK}{m[0]} ", _HEADING.sub(lambda m: f" {MARK}{m[1]} {m[1]} ", text))
    labelled = re.sub(rf"{MARK}(\S+)", keep, marked)  # a capital in brackets counts within a sentence
    words: list[str] = []
    found: list[tuple[int, str]] = []
    names = iter(labels)
    for word in _split(labelled):
        if word == MARK:
            label = next(names)
            found += [(len(words), label)] if label else []
        else:
            words.append(word)
    return words, found


def _split(text: str) -> list[str]:
    known = vocabulary()
    dropped, same = frozenset(known.drop), known.same
    return [same.get(w, w) for w in _WORD.findall(_APOSTROPHE.sub("", text).lower()) if w not in dropped]


def _without_scripts(text: str) -> str:
    for name in ("script", "style"):
        opening, closing = f"<{name}", f"</{name}"
        low = text.lower()
        if len(low) != len(text):  # a letter whose small form is longer
            return text
        kept, at = [], 0
        while (start := low.find(opening, at)) >= 0 and (end := low.find(closing, start)) >= 0:
            kept.append(text[at:start])
            at = end
        text = "".join([*kept, text[at:]]) if kept else text
    return text


def word_hash(word: str) -> int:
    """64-bit hash of a word."""
    known = _CACHE.get(word)
    if known is None:
        if len(_CACHE) >= _MOST_CACHED:
            _CACHE.clear()
        known = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
        _CACHE[word] = known
    return known


def shingles(words: list[str]) -> npt.NDArray[np.uint32]:
    """32-bit hashes of all runs of three words, in order; empty below three words."""
    if len(words) < SHINGLE:
        return np.empty(0, np.uint32)
    hashes = np.fromiter(map(word_hash, words), np.uint64, len(words))
    mixed: Hashes = hashes[:-2] * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) + hashes[1:-1] * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(29))) + hashes[2:] * np.uint64(0x165667B19E3779F9)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(32)).astype(np.uint32)
