"""Which known texts stand in a text, and where: by the triples of words that they share.

All texts of the index are scored at once; the best are placed in the text one after the other, the one that explains
most and lacks least first, and what it explains is taken away before the next. Order of paragraphs does not matter.
Knows nothing about what a difference means: `differences` does.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from ecotone.licences.detection.index import Index, Numbers
from ecotone.licences.detection.normalising import SHINGLE, shingles

Flags = npt.NDArray[np.bool_]
_MOST_CANDIDATES = 64
_MOST_PLACED = 40
_MOST_COPIES = 2
_LEAST_CONTAINED = 0.45
_LEAST_PLACED = 0.55
_LEAST_DENSITY = 0.35
_SHARPNESS = 10
_SLACK = 0.01
_REPEATED = 2.0
_BRIDGE = 30


class Placed(msgspec.Struct, frozen=True):
    """A known text found in a text.

    Attributes:
        text: its number in the index.
        start: index of the first word of the stretch where it stands; `end` is one past the last.
        hits: of each triple of the whole text, whether this text explains it; only set within the stretch.
        share: of the known text's triples, by weight, how much was found in the stretch, 0 to 1.
        own: the same, counting only what no text placed before had explained.
    """

    text: int
    start: int
    end: int
    hits: Flags
    share: float
    own: float


class Query:
    """A text as numbers of triples. `candidates`: known texts of which it may hold enough, the likeliest first;
    `bounds`: what each could be worth at most, its words said twice."""

    def __init__(self, index: Index, words: list[str]) -> None:
        self.words = words
        self.numbers: Numbers = index.look_up(shingles(words))
        self.present = _marked(index, self.numbers)
        self.present[-1] = False
        self.bounds = _candidates(index, self)
        self.candidates = tuple(self.bounds)


def place(index: Index, query: Query) -> list[Placed]:
    """Known texts in a text, in the order in which they explain it."""
    if not len(query.numbers):
        return []
    found: list[Placed] = []
    free = np.ones(len(query.numbers), np.bool_)
    placed: dict[int, Placed | None] = {}
    unseen = dict(query.bounds)
    stale: set[int] = set()
    while len(found) < _MOST_PLACED:
        best = max((p for p in placed.values() if p is not None), key=_value, default=None)
        likeliest = next(iter(unseen), None)
        if likeliest is not None and (best is None or unseen[likeliest] > _value(best)):
            del unseen[likeliest]
            placed[likeliest] = _stretch(index, query, likeliest, free)
            continue
        if best is None:
            break
        if best.text in stale:  # what it had found is partly explained since
            stale.remove(best.text)
            placed[best.text] = _stretch(index, query, best.text, free)
            continue
        found.append(best)
        copies = [f for f in found if f.text == best.text]
        if len(copies) < _MOST_COPIES:
            free[best.start : best.end] &= ~best.hits[best.start : best.end]
        else:
            free &= ~_marked(index, index.sequence(best.text))[query.numbers]
        stale |= {t for t, p in placed.items() if p is not None and p.start < best.end and best.start < p.end}
        stale |= set(placed) if len(copies) >= _MOST_COPIES else set()
    return found


def _value(placed: Placed) -> float:
    return float(np.count_nonzero(placed.hits)) * placed.own**_SHARPNESS


def _candidates(index: Index, query: Query) -> dict[int, float]:
    if not len(query.numbers):
        return {}
    contained = index.contained(query.present)
    likely = np.nonzero(contained >= _LEAST_CONTAINED)[0]
    size = np.diff(index.offsets)[likely]
    worth = _REPEATED * size * contained[likely] ** _SHARPNESS
    order = np.argsort(-worth, kind="stable")[:_MOST_CANDIDATES]
    return dict(zip(likely[order].tolist(), worth[order].tolist(), strict=True))


def share_of(index: Index, text: int, mark: Flags) -> float:
    """How much of a known text is among the marked triples, by weight, 0 to 1."""
    weights = index.flat_weights[index.offsets[text] : index.offsets[text + 1]]
    return float((weights * mark[index.sequence(text)]).sum() / index.total[text])


def _stretch(index: Index, query: Query, text: int, free: Flags) -> Placed | None:
    """Where the free part of the text holds most of a known text; None where it holds too little."""
    sequence = index.sequence(text)
    hits = _marked(index, sequence)[query.numbers]
    at = np.nonzero(hits & free)[0].astype(np.int32)
    if share_of(index, text, _marked(index, query.numbers[at])) < _LEAST_PLACED:
        return None
    gap = int(min(400, max(40, len(sequence) // 4)))
    best: tuple[float, Numbers] | None = None
    for cluster in np.split(at, np.nonzero(np.diff(at) > gap)[0] + 1):
        tight = _tight(index, query, text, cluster)
        own = share_of(index, text, _marked(index, query.numbers[tight]))
        dense = len(tight) >= _LEAST_DENSITY * (tight[-1] + 1 - tight[0])
        if dense and own >= _LEAST_PLACED and (best is None or own > best[0]):
            best = (own, tight)
    if best is None:
        return None
    own, tight = best
    start, end = int(tight[0]), int(tight[-1]) + 1
    inside = np.zeros_like(hits)
    inside[start:end] = hits[start:end]
    share = share_of(index, text, _marked(index, query.numbers[inside]))
    return Placed(text, start, end + SHINGLE - 1, inside, share, own)


def _marked(index: Index, numbers: Numbers) -> Flags:
    marked = np.zeros(len(index.hashes) + 1, np.bool_)
    marked[numbers] = True
    return marked


def _tight(index: Index, query: Query, text: int, cluster: Numbers) -> Numbers:
    """The part of a cluster of hits that says all that the cluster says, save stray hits of little weight.

    What stands twice, and once in the known text, is taken once: two licences with one disclaimer do not melt into one.
    """
    numbers = query.numbers[cluster]
    distinct, counts = np.unique(index.sequence(text), return_counts=True)
    wanted = counts[np.searchsorted(distinct, numbers)].astype(np.int32)
    first = _begin(index, numbers, wanted, cluster)
    back = _begin(index, numbers[first:][::-1], wanted[first:][::-1], -cluster[first:][::-1])
    return cluster[first : len(cluster) - back]


def _begin(index: Index, numbers: Numbers, wanted: Numbers, at: Numbers) -> int:
    """Where the part begins: a slack of the needed weight is cut off, then what follows on the rest comes back."""
    needed = _needed(numbers, wanted)
    lost = np.cumsum(index.weights[numbers[needed]])
    first = min(int(np.searchsorted(lost, _SLACK * lost[-1], "right")), len(needed) - 1)
    while first and at[needed[first]] - at[needed[first - 1]] <= _BRIDGE:
        first -= 1
    return int(needed[first])


def _needed(numbers: Numbers, wanted: Numbers) -> Numbers:
    """Positions of hits, ascending, that cannot be cut off from the front: the last `wanted` of each number."""
    order = np.lexsort((-np.arange(len(numbers)), numbers))
    grouped = numbers[order]
    begins = np.concatenate(([True], grouped[1:] != grouped[:-1]))
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    return np.sort(order[rank < wanted[order]]).astype(np.int32)


def rivals(index: Index, query: Query, placed: Placed, *, least: float = 0.8, most: int = 8) -> list[Placed]:
    """Other known texts of which nearly as much stands in the same stretch, the best first."""
    last = placed.end - SHINGLE + 1
    mark = _marked(index, query.numbers[placed.start : last])
    mark[-1] = False
    contained = {t: share_of(index, t, mark) for t in query.candidates}
    value = {t: len(index.sequence(t)) * share**_SHARPNESS for t, share in contained.items()}
    near = sorted((t for t in contained if contained[t] >= least), key=lambda t: -value[t])[: most + 1]
    found = []
    for text in near:
        if text == placed.text:
            continue
        own = _marked(index, index.sequence(text))
        hits = np.zeros(len(query.numbers), np.bool_)
        hits[placed.start : last] = own[query.numbers[placed.start : last]]
        share = contained[text]
        found.append(Placed(text, placed.start, placed.end, hits, share, share))
    return found[:most]
