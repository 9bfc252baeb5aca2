"""What differs between a known text and the stretch where it stands, in the clauses' numbers and in counts of words.

A difference is something that may decide: a missing stretch, an added stretch that speaks of an obligation, a changed
number or negation. Names, years, headings, spelling and single changed words of other kinds are none.
"""

import difflib
import functools
from collections import Counter

import msgspec
import numpy as np

from ecotone.licences.detection.discriminators import discriminators
from ecotone.licences.detection.index import Index, short_hash
from ecotone.licences.detection.matching import Flags, Placed, Query
from ecotone.licences.detection.normalising import SHINGLE, decides, decisive_words, vocabulary, word_hash

_MISSING_WORDS = 12
_MISSING_HEAD = 16
_ADDED_WORDS = 25
_CONDITION_WORDS = 8
_ADDED_ANYWAY = 60
_LONG_STRETCH = 8
_HEAD = 40
_NAMES_AFTER = 15
_MOST = 8
_ISLAND = 4
_AROUND = 4
_LEAST_LETTERS = 4


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
    held = words_covered(held_triples(index, query, placed))
    body = np.ones_like(held)
    for start, end in known.optional:
        body[start:end] = False
    missing = ~held & body
    added = ~explained[placed.start : placed.end]
    found = [
        *_missing_stretches(index, placed.text, missing),
        *_changed_words(index, query, placed, missing, added),
        *_added_stretches(index, query, placed, added),
    ]
    marks = discriminators().broken(known.label, query.words[placed.start : placed.end])
    coverage = int(np.count_nonzero(held & body)) / max(1, int(np.count_nonzero(body)))
    return Compared(coverage, tuple(dict.fromkeys([*marks, *found]))[:_MOST])


def words_covered(hits: Flags) -> Flags:
    """Words that a matching triple covers, from the triples' flags."""
    covered = np.zeros(len(hits) + SHINGLE - 1, np.bool_)
    for shift in range(SHINGLE):
        covered[shift : shift + len(hits)] |= hits
    return covered


def runs_of(flags: Flags, *, bridging: int = 0) -> list[tuple[int, int]]:
    """Start and end (one past) of each stretch of true; gaps of at most `bridging` between two count as true."""
    if bridging:
        flags = flags.copy()
        for start, end in runs_of(~flags):
            if end - start <= bridging and start > 0 and end < len(flags):
                flags[start:end] = True
    edges = np.nonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))[0]
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def topics_of(words: list[str]) -> list[str]:
    """What an unknown stretch with an obligation speaks of; empty without an obligation or a known topic."""
    if not obliges(words):
        return []
    joined = f" {' '.join(words)} "
    return [topic for topic, listed in vocabulary().topics.items() if any(f" {w} " in joined for w in listed)]


def obliges(words: list[str]) -> bool:
    """Whether a stretch holds a word that binds."""
    joined = f" {' '.join(words)} "
    return any(f" {o} " in joined for o in vocabulary().obligation)


def speaks(words: list[str]) -> bool:
    """Whether a stretch beside a licence's text may say something that counts: it binds, limits or speaks of what
    licences are about, is long, or is in letters that the vocabulary does not have. Lines of copyright do not."""
    if "copyright" in words:
        return False
    joined = f" {' '.join(words)} "
    known = vocabulary()
    foreign = sum(not word.isascii() for word in words)
    return (
        obliges(words)
        or any(word in decisive_words() for word in words)
        or any(f" {w} " in joined for listed in known.topics.values() for w in listed)
        or len(words) >= _LONG_STRETCH
        or foreign > 1
    )


def held_triples(index: Index, query: Query, placed: Placed) -> Flags:
    """Which triples of the known text stand in the stretch. One that the text has n times must stand there n times:
    of those that lack, the ones with the fewest neighbours in the stretch are taken to be missing."""
    sequence = index.sequence(placed.text)
    there = np.bincount(query.numbers[placed.hits], minlength=len(index.hashes) + 1)
    wanted = np.bincount(sequence, minlength=len(index.hashes) + 1)
    held = there[sequence] >= wanted[sequence]
    scarce = (there[sequence] > 0) & ~held
    if scarce.any():
        support = np.convolve(held.astype(np.int32), np.ones(2 * _AROUND + 1, np.int32), "same")
        left = {int(n): int(there[n]) for n in np.unique(sequence[scarce])}
        for at in sorted(np.nonzero(scarce)[0].tolist(), key=lambda i: -int(support[i])):
            number = int(sequence[at])
            held[at] = left[number] > 0
            left[number] -= 1
    return held


def _where(index: Index, text: int, word: int) -> str:
    clause = index.known[text].clause(word)
    if clause:
        return f"clause {clause}"
    share = word / max(1, index.known[text].length)
    return f"about {round(share * 100)} % into the text"


def _missing_stretches(index: Index, text: int, missing: Flags) -> list[str]:
    found = []
    for start, end in runs_of(missing, bridging=_ISLAND):
        least = _MISSING_HEAD if start == 0 else _MISSING_WORDS
        if end - start >= least:
            found.append(f"{_where(index, text, start)}: {end - start} words are missing or changed")
    return found


def _changed_words(index: Index, query: Query, placed: Placed, missing: Flags, added: Flags) -> list[str]:
    """Decisive words that the known text has and the stretch has not, or the other way round."""
    at, hashes = index.decisive[placed.text]
    lacking: dict[int, list[int]] = {}
    head = next((end for start, end in runs_of(missing) if start == 0 and end < _MISSING_HEAD), 0)
    for word, short in zip(at.tolist(), hashes.tolist(), strict=True):
        if missing[word] and word >= head and (word >= _HEAD or short in _kinds()):
            lacking.setdefault(short, []).append(word)
    strange: dict[int, list[int]] = {}
    stretch = query.words[placed.start : placed.end]
    short_runs = [r for r in runs_of(added) if r[1] - r[0] < _ADDED_WORDS]
    unexplained = [o for start, end in short_runs for o in range(start, end)]
    for short in {_misspelt(stretch[o]) for o in unexplained} & lacking.keys():
        lacking[short].pop()
    for offset in unexplained:
        if (
            decides(stretch[offset], stretch[offset - 1])
            and "copyright" not in stretch[max(0, offset - _NAMES_AFTER) : offset]
        ):
            strange.setdefault(short_hash(stretch[offset]), []).append(offset)
    counts = Counter({k: len(v) for k, v in lacking.items()})
    counts.subtract({k: len(v) for k, v in strange.items()})
    found = []
    for short, count in counts.items():
        kind = _kinds().get(short, "a number")
        if count > 0 and lacking[short]:
            found.append(f"{_where(index, placed.text, lacking[short][0])}: {kind} is missing or changed")
        elif count < 0:
            at_word = strange[short][0]
            kind = decides(stretch[at_word], stretch[at_word - 1]) or kind
            near = _word_before(index, query, placed, placed.start + at_word)
            if near < _HEAD and short not in _kinds():
                continue  # an address or a year above the terms
            found.append(f"{_where(index, placed.text, near)}: {kind} is added")
    return found


def _misspelt(word: str) -> int:
    """Hash of the decisive word that a word is a misspelling of; -1 for none. A decisive word is no misspelling."""
    if len(word) < _LEAST_LETTERS or word in decisive_words():
        return -1
    close = difflib.get_close_matches(word, _long_words(), 1, 0.85)
    return short_hash(close[0]) if close else -1


@functools.cache
def _long_words() -> tuple[str, ...]:
    return tuple(w for w in decisive_words() if len(w) >= _LEAST_LETTERS)


@functools.cache
def _kinds() -> dict[int, str]:
    return {word_hash(word) & 0xFFFF: kind for word, kind in decisive_words().items()}


def _added_stretches(index: Index, query: Query, placed: Placed, added: Flags) -> list[str]:
    found = []
    for start, end in runs_of(added, bridging=_ISLAND):
        words = query.words[placed.start + start : placed.start + end]
        topics = topics_of(words) if len(words) >= _ADDED_WORDS else []
        condition = len(words) >= _CONDITION_WORDS and _sets_condition(words)
        if topics or condition or len(words) >= _ADDED_ANYWAY:
            near = _word_before(index, query, placed, placed.start + start)
            about = f", on {' and '.join(topics)}" if topics else ", a condition" if condition else ""
            found.append(f"{_where(index, placed.text, near)}: {len(words)} words are added{about}")
    return found


def _sets_condition(words: list[str]) -> bool:
    joined = f" {' '.join(words)} "
    return any(f" {c} " in joined for c in vocabulary().condition)


def _word_before(index: Index, query: Query, placed: Placed, word: int) -> int:
    """Where in the known text the last explained triple before a word of the text stands."""
    before = np.nonzero(placed.hits[:word])[0]
    if not len(before):
        return 0
    return int(np.argmax(index.sequence(placed.text) == query.numbers[before[-1]]))
