"""The index of known texts: hashes of word triples, without a sentence of any text. `index.bin` lies beside this file.

A text is a list of triple numbers; equal stretches of several texts are stored as runs, so that variants cost little.
Kept beside them for each text: where a word stands whose change could turn a clause round (a 16-bit hash), where the
numbered clauses begin, and from where on the text only tells how to use it. `write` makes the file from texts;
`tests/licences/detection/write_index.py` is the command.
"""

import functools
import itertools
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ecotone.licences.detection import normalising
from ecotone.licences.detection.normalising import SHINGLE, decides, numbered_words, shingles, vocabulary, word_hash
from ecotone.licences.detection.notices import granted, tags

FILE = Path(__file__).with_name("index.bin")
FORMAT = 1
_RARITY = 2.0  # how little it counts that a triple is rare; holders' names are rare too
_HEAD = 0.15
_COPYRIGHT = re.compile(
    r"^\W{0,10}(?:portions )?(?:copyright|\(c\)|©)(?=[^\n]{0,80}(?:\d{4}|<|\[|\{|yyyy|\byear\b))[^\n]{0,150}$",
    re.I | re.M,
)
Numbers = npt.NDArray[np.int32]


class Source(msgspec.Struct, frozen=True):
    """A text to be indexed. `members` are ids that share it word for word; `names` are what others call it."""

    label: str
    text: str
    members: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    spdx: bool = False


class Known(msgspec.Struct, frozen=True):
    """What is known of one text beside its triples. `tags` and `notices` stand in it as examples."""

    label: str
    members: tuple[str, ...]
    names: tuple[str, ...]
    spdx: bool
    length: int
    optional: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    notices: dict[str, int]
    clauses: tuple[tuple[int, str], ...]

    def clause(self, word: int) -> str | None:
        """Label of the clause that the word stands in, where the text numbers its clauses."""
        found = None
        for start, label in self.clauses:
            if start > word:
                break
            found = label
        return found


class _Stored(msgspec.Struct):
    format: int
    hashes: bytes
    runs: bytes
    lengths: bytes
    decisive: bytes
    known: bytes


class Index:
    """Known texts ready for matching.

    Attributes:
        hashes: sorted 32-bit hashes of all triples; `numbers[i]` is the number of the triple with `hashes[i]`.
        flat: triple numbers of all texts, one after the other; `offsets[t]:offsets[t+1]` is text t.
        weights: for each triple, less the more often it occurs in texts.
        flat_weights: the same along `flat`, zero where a text only tells how to use it; `total` is their sum by text.
        run_starts: numbers at which runs of consecutive numbers begin, of all texts; `run_ends` one past their last,
            and `run_offsets` the first run of each text.
        decisive: for each text, word positions and 16-bit hashes of words that decide.
    """

    def __init__(self, stored: _Stored) -> None:
        by_number = np.frombuffer(stored.hashes, np.uint32)
        self.numbers: Numbers = np.argsort(by_number).astype(np.int32)
        self.hashes = by_number[self.numbers]
        runs = np.frombuffer(zlib.decompress(stored.runs), np.int32).reshape(2, -1)
        lengths = np.frombuffer(stored.lengths, np.int32)
        before = np.cumsum(runs[1], dtype=np.int32) - runs[1]
        self.flat: Numbers = np.repeat(runs[0] - before, runs[1])
        self.flat += np.arange(len(self.flat), dtype=np.int32)
        self.offsets = np.concatenate(([0], np.cumsum(lengths)))
        often = np.bincount(self.flat, minlength=len(by_number))
        self.weights = (1.0 / (_RARITY + np.log2(np.maximum(often, 1)))).astype(np.float32)
        self.known = msgspec.msgpack.decode(zlib.decompress(stored.known), type=list[Known])
        self.flat_weights = self.weights[self.flat]
        for known, start, end in zip(self.known, self.offsets[:-1], self.offsets[1:], strict=True):
            for first, last in known.optional:
                self.flat_weights[max(start, start + first - SHINGLE + 1) : min(end, start + last)] = 0
        self.total = np.add.reduceat(self.flat_weights, self.offsets[:-1])
        counted = self.flat_weights > 0
        breaks = np.ones(len(self.flat), np.bool_)
        breaks[1:] = (self.flat[1:] != self.flat[:-1] + 1) | (counted[1:] != counted[:-1])
        breaks[self.offsets[:-1]] = True
        begin = np.nonzero(breaks)[0]
        length = np.diff(begin, append=len(self.flat))
        self.run_starts = self.flat[begin]
        self.run_ends = self.run_starts + np.where(counted[begin], length, 0).astype(np.int32)
        self.run_offsets = np.searchsorted(begin, self.offsets[:-1])
        pairs = np.frombuffer(zlib.decompress(stored.decisive), np.int32).reshape(3, -1)
        ends = np.searchsorted(pairs[0], np.arange(len(lengths) + 1))
        self.decisive = [(pairs[1, a:b], pairs[2, a:b]) for a, b in itertools.pairwise(ends)]

    def sequence(self, text: int) -> Numbers:
        return self.flat[self.offsets[text] : self.offsets[text + 1]]

    def contained(self, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """For each text the share of its triples, by weight, that is present; `present` is by triple number."""
        sums = np.zeros(len(self.weights) + 1)
        np.cumsum(self.weights * present[: len(self.weights)], out=sums[1:])
        return np.add.reduceat(sums[self.run_ends] - sums[self.run_starts], self.run_offsets) / self.total

    def look_up(self, hashes: npt.NDArray[np.uint32]) -> Numbers:
        """Numbers of triples; the count of known triples (one past the last) for those in no known text."""
        if not len(hashes):
            return np.empty(0, np.int32)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[at] == hashes, self.numbers[at], len(self.hashes)).astype(np.int32)

    @functools.cached_property
    def labels(self) -> dict[str, int]:
        """Every id, member and name, without case, to a text."""
        found: dict[str, int] = {}
        for number, known in enumerate(self.known):
            for name in (known.label, *known.members, *known.names):
                found.setdefault(name.casefold(), number)
        return found


@functools.cache
def load(path: Path = FILE) -> Index:
    """The index of a file, by default the one that ships with the program; read once."""
    stored = msgspec.msgpack.decode(path.read_bytes(), type=_Stored)
    if stored.format != FORMAT:
        raise ValueError(f"{path} has format {stored.format}; this version reads format {FORMAT}")
    return Index(stored)


def short_hash(word: str) -> int:
    """16-bit hash of a word that decides."""
    return word_hash(word) & 0xFFFF


def write(sources: Iterable[Source]) -> bytes:
    """The index of texts, as it is stored. The same texts in the same order give the same bytes."""
    numbers: dict[int, int] = {}
    starts: list[int] = []
    counts: list[int] = []
    lengths: list[int] = []
    decisive: list[tuple[int, int, int]] = []
    known: list[Known] = []
    for position, source in enumerate(sources):
        words, clauses = numbered_words(source.text)
        sequence = [numbers.setdefault(int(h), len(numbers)) for h in shingles(words)]
        lengths.append(len(sequence))
        previous = None
        for number in sequence:
            if previous is not None and number == previous + 1:
                counts[-1] += 1
            else:
                starts.append(number)
                counts.append(1)
            previous = number
        decisive += [(position, i, short_hash(w)) for i, w in enumerate(words) if decides(w, words[i - 1])]
        known.append(_known(source, words, clauses))
    return msgspec.msgpack.encode(
        _Stored(
            format=FORMAT,
            hashes=np.fromiter(numbers, np.uint32, len(numbers)).tobytes(),
            runs=zlib.compress(np.array([starts, counts], np.int32).tobytes(), 9),
            lengths=np.array(lengths, np.int32).tobytes(),
            decisive=zlib.compress(np.array(decisive, np.int32).T.tobytes(), 9),
            known=zlib.compress(msgspec.msgpack.encode(known), 9),
        )
    )


def _known(source: Source, words: list[str], clauses: list[tuple[int, str]]) -> Known:
    return Known(
        label=source.label,
        members=source.members,
        names=source.names,
        spdx=source.spdx,
        length=len(words),
        optional=tuple(_optional(source.text, words)),
        tags=tags(source.text),
        notices=granted(words),
        clauses=tuple(_paths(clauses)),
    )


def _optional(text: str, words: list[str]) -> list[tuple[int, int]]:
    """Stretches of words that a copy may leave out or replace: preamble, advice on use, lines of copyright."""
    joined = f" {' '.join(words)} "
    found = []
    for phrase in vocabulary().optional_before:
        at = joined.find(_phrase(phrase))
        if 0 < at < _HEAD * len(joined):
            found.append((0, _word_at(joined, at)))
    for phrase in vocabulary().optional_after:
        at = joined.rfind(_phrase(phrase))
        if at > len(joined) // 2:
            found.append((_word_at(joined, at), len(words)))
    at = 0
    for line in _COPYRIGHT.finditer(text):
        phrase = _phrase(line[0])
        at = joined.find(phrase, at)
        if len(phrase) <= 2 or at < 0:
            break
        begin = _word_at(joined, at)
        found.append((begin, begin + phrase.count(" ") - 1))
    return found


def _phrase(text: str) -> str:
    return f" {' '.join(normalising.words_of(text))} "


def _word_at(joined: str, at: int) -> int:
    return joined.count(" ", 0, at + 1) - 1


def _paths(clauses: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """`1`, `b`, `iv` in a row become `1`, `1.b`, `1.b.iv`."""
    top = letter = ""
    found = []
    for start, label in clauses:
        if label[0].isdigit():
            top, letter, path = label, "", label
        elif len(label) > 1 or (label in "ivx" and letter and not _follows(letter, label)):
            path = ".".join(filter(None, (top, letter, label)))
        else:
            letter = label
            path = ".".join(filter(None, (top, label)))
        found.append((start, path))
    return found


def _follows(letter: str, label: str) -> bool:
    return ord(label) == ord(letter) + 1
