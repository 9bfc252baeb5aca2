"""What differs between a known text and the stretch where it stands, in the clauses' numbers and in counts of words.

A difference is something that may decide: a missing stretch, an added stretch that speaks of an obligation, a changed
number or negation. Names, years, headings, spelling and single changed words of other kinds are none.
"""

import functools
from collections import Counter

import msgspec
import numpy as np

from ecotone.licences.detection.discriminators import discriminators
from ecotone.licences.detection.index import Index, short_hash
from ecotone.licences.detection.matching import Flags, Placed, Query
from ecotone.licences.detection.normalising import SHINGLE, decides, decisive_words, vocabulary, word_hash

_MISSING_WORDS = 12
_MISSING_HEAD = 30
_ADDED_WORDS = 25
_HEAD = 40
_NAMES_AFTER = 15
_MOST = 8


class Compared(msgspec.Struct, frozen=True):
    """`coverage`: of the known text's words, how many stand in the stretch, 0 to 1. `differences`: what may decide."""

    coverage: float
    differences: tuple[str, ...]


def compare(index: Index, query: Query, placed: Placed, explained: Flags) -> Compared:
    """Compare a known text with its stretch.

    Args:
        explained: for each word of the whole text, whether any known text placed in it explains the word.
    """
    known = index.known[placed.text]
    present = _present(index, query, placed)
    held = words_covered(present[index.sequence(placed.text)])
    body = np.zeros_like(held)
    body[known.optional_until : known.optional_from] = True
    missing = ~held & body
    added = ~explained[placed.start : placed.end]
    found = [
        *_missing_stretches(index, placed.text, missing),
        *_changed_words(index, query, placed, missing, added),
        *_added_stretches(index, query, placed, added),
    ]
    marks = discriminators().broken(known.label, query.words[placed.start : placed.end])
    coverage = float(np.count_nonzero(held & body) / max(1, np.count_nonzero(body)))
    return Compared(coverage, tuple(dict.fromkeys([*marks, *found]))[:_MOST])


def words_covered(hits: Flags) -> Flags:
    """Words that a matching triple covers, from the triples' flags."""
    covered = np.zeros(len(hits) + SHINGLE - 1, np.bool_)
    for shift in range(SHINGLE):
        covered[shift : shift + len(hits)] |= hits
    return covered


def runs_of(flags: Flags) -> list[tuple[int, int]]:
    """Start and end (one past) of each stretch of true."""
    edges = np.nonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))[0]
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def topics_of(words: list[str]) -> list[str]:
    """What an unknown stretch with an obligation speaks of; empty without an obligation or a known topic."""
    joined = f" {' '.join(words)} "
    known = vocabulary()
    if not any(f" {o} " in joined for o in known.obligation):
        return []
    return [topic for topic, listed in known.topics.items() if any(f" {w} " in joined for w in listed)]


def _present(index: Index, query: Query, placed: Placed) -> Flags:
    present = np.zeros(len(index.hashes) + 1, np.bool_)
    present[query.numbers[placed.hits]] = True
    return present


def _where(index: Index, text: int, word: int) -> str:
    clause = index.known[text].clause(word)
    if clause:
        return f"clause {clause}"
    share = word / max(1, index.known[text].length)
    return f"about {round(share * 100)} % into the text"


def _missing_stretches(index: Index, text: int, missing: Flags) -> list[str]:
    found = []
    for start, end in runs_of(missing):
        least = _MISSING_HEAD if start == 0 else _MISSING_WORDS
        if end - start >= least:
            found.append(f"{_where(index, text, start)}: {end - start} words are missing or changed")
    return found


def _changed_words(index: Index, query: Query, placed: Placed, missing: Flags, added: Flags) -> list[str]:
    """Decisive words that the known text has and the stretch has not, or the other way round."""
    at, hashes = index.decisive[placed.text]
    lacking: dict[int, list[int]] = {}
    for word, short in zip(at.tolist(), hashes.tolist(), strict=True):
        if missing[word] and (word >= _HEAD or short in _kinds()):
            lacking.setdefault(short, []).append(word)
    strange: dict[int, list[int]] = {}
    stretch = query.words[placed.start : placed.end]
    short_runs = [r for r in runs_of(added) if r[1] - r[0] < _ADDED_WORDS]
    for offset in [o for start, end in short_runs for o in range(start, end)]:
        if decides(stretch[offset], stretch[offset - 1]) and "copyright" not in stretch[max(0, offset - _NAMES_AFTER) : offset]:
            strange.setdefault(short_hash(stretch[offset]), []).append(offset)
    counts = Counter({k: len(v) for k, v in lacking.items()})
    counts.subtract({k: len(v) for k, v in strange.items()})
    found = []
    for short, count in counts.items():
        kind = _kinds().get(short, "a number")
        if count > 0:
            found.append(f"{_where(index, placed.text, lacking[short][0])}: {kind} is missing or changed")
        elif count < 0:
            at_word = strange[short][0]
            kind = decides(stretch[at_word], stretch[at_word - 1]) or kind
            near = _word_before(index, query, placed, placed.start + at_word)
            if near < _HEAD and short not in _kinds():
                continue  # an address or a year above the terms
            found.append(f"{_where(index, placed.text, near)}: {kind} is added")
    return found


@functools.cache
def _kinds() -> dict[int, str]:
    return {word_hash(word) & 0xFFFF: kind for word, kind in decisive_words().items()}


def _added_stretches(index: Index, query: Query, placed: Placed, added: Flags) -> list[str]:
    found = []
    for start, end in runs_of(added):
        if end - start < _ADDED_WORDS:
            continue
        topics = topics_of(query.words[placed.start + start : placed.start + end])
        if topics:
            near = _word_before(index, query, placed, placed.start + start)
            where = _where(index, placed.text, near)
            found.append(f"{where}: {end - start} words are added, on {' and '.join(topics)}")
    return found


def _word_before(index: Index, query: Query, placed: Placed, word: int) -> int:
    """Where in the known text the last explained triple before a word of the text stands."""
    before = np.nonzero(placed.hits[:word])[0]
    if not len(before):
        return 0
    return int(np.argmax(index.sequence(placed.text) == query.numbers[before[-1]]))
