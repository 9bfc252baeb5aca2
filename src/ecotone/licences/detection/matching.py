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
_LEAST_CONTAINED = 0.45
_LEAST_PLACED = 0.55
_LEAST_DENSITY = 0.35
_SHARPNESS = 10
_SLACK = 0.01
_BRIDGE = 12
_BLOCK = 8
_EDGE = 60


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
    """A text as numbers of triples."""

    def __init__(self, index: Index, words: list[str]) -> None:
        self.words = words
        self.numbers: Numbers = index.look_up(shingles(words))
        self.present = _marked(index, self.numbers)
        self.present[-1] = False


def place(index: Index, query: Query) -> list[Placed]:
    """Known texts in a text, in the order in which they explain it."""
    if not len(query.numbers):
        return []
    found: list[Placed] = []
    candidates = _candidates(index, query)
    free = np.ones(len(query.numbers), np.bool_)
    placed: dict[int, Placed | None] = {c: _stretch(index, query, c, free) for c in candidates}
    while len(found) < _MOST_PLACED:
        best = max((p for p in placed.values() if p is not None), key=_value, default=None)
        if best is None:
            break
        found.append(best)
        free[best.start : best.end] &= ~best.hits[best.start : best.end]
        for text, other in placed.items():
            if other is not None and other.start < best.end and best.start < other.end:
                placed[text] = _stretch(index, query, text, free)
    return found


def _value(placed: Placed) -> float:
    return float(np.count_nonzero(placed.hits)) * placed.own**_SHARPNESS


def _candidates(index: Index, query: Query) -> list[int]:
    present = query.present[index.flat]
    contained = np.add.reduceat(present * index.flat_weights, index.offsets[:-1]) / index.total
    likely = np.nonzero(contained >= _LEAST_CONTAINED)[0]
    size = np.diff(index.offsets)[likely]
    order = np.argsort(-size * contained[likely] ** _SHARPNESS, kind="stable")
    return [int(t) for t in likely[order[:_MOST_CANDIDATES]]]


def share_of(index: Index, text: int, mark: Flags) -> float:
    """How much of a known text is among the marked triples, by weight, 0 to 1."""
    weights = index.flat_weights[index.offsets[text] : index.offsets[text + 1]]
    return float((weights * mark[index.sequence(text)]).sum() / index.total[text])


def _stretch(index: Index, query: Query, text: int, free: Flags) -> Placed | None:
    """Where the free part of the text holds most of a known text; None where it holds too little."""
    sequence = index.sequence(text)
    hits = _marked(index, sequence)[query.numbers]
    at = np.nonzero(hits & free)[0]
    if not len(at):
        return None
    gap = int(min(400, max(40, len(sequence) // 4)))
    best: tuple[float, Numbers] | None = None
    for cluster in np.split(at, np.nonzero(np.diff(at) > gap)[0] + 1):
        tight = _tight(index, query, cluster)
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


def _tight(index: Index, query: Query, cluster: Numbers) -> Numbers:
    """The part of a cluster of hits that says all that the cluster says, save stray hits of little weight.

    What stands twice is taken once: two licences with one disclaimer do not melt into one. What the slack cut off at an
    edge comes back where it follows on the rest and says something new.
    """
    numbers = query.numbers[cluster]
    distinct, backwards = np.unique(numbers[::-1], return_index=True)
    first = _edge(index.weights[distinct], len(numbers) - 1 - backwards)
    distinct, forwards = np.unique(numbers[first:], return_index=True)
    last = len(numbers) - 1 - _edge(index.weights[distinct], len(numbers) - first - 1 - forwards)
    if cluster[first] - cluster[0] <= _EDGE:
        first = 0
    if cluster[-1] - cluster[last] <= _EDGE:
        last = len(cluster) - 1
    said = set(numbers[first : last + 1].tolist())
    first -= _more(cluster[first::-1], numbers[:first][::-1], said)
    last += _more(cluster[last:], numbers[last + 1 :], said)
    return cluster[first : last + 1]


def _more(positions: Numbers, numbers: Numbers, said: set[int]) -> int:
    """How many hits beyond an edge belong to the part: those, block by block, that follow on and mostly say more.

    `positions` begins at the edge, `numbers` beyond it, both going outward.
    """
    taken = 0
    while taken < len(numbers):
        block = numbers[taken : taken + _BLOCK].tolist()
        gaps = np.abs(np.diff(positions[taken : taken + len(block) + 1]))
        far = np.nonzero(gaps > _BRIDGE)[0]
        block = block[: int(far[0])] if len(far) else block
        new = [i for i, n in enumerate(block) if n not in said]
        if len(new) < min(2, len(block)) or not new:
            break
        said.update(block)
        taken += new[-1] + 1
    return taken


def _edge(weights: npt.NDArray[np.float32], positions: Numbers) -> int:
    """The position up to which not more than the slack of the weight is lost."""
    order = np.argsort(positions, kind="stable")
    lost = np.cumsum(weights[order])
    at = min(int(np.searchsorted(lost, _SLACK * lost[-1], "right")), len(order) - 1)
    return int(positions[order[at]])


def rivals(index: Index, query: Query, placed: Placed, *, least: float = 0.85, most: int = 8) -> list[Placed]:
    """Other known texts of which nearly as much stands in the same stretch, the best first."""
    last = placed.end - SHINGLE + 1
    mark = _marked(index, query.numbers[placed.start : last])
    mark[-1] = False
    contained = np.add.reduceat(mark[index.flat] * index.flat_weights, index.offsets[:-1]) / index.total
    size = np.diff(index.offsets)
    value = size * contained**_SHARPNESS
    near = [int(t) for t in np.argsort(-value, kind="stable")[: most + 1] if contained[t] >= least]
    found = []
    for text in near:
        if text == placed.text:
            continue
        own = _marked(index, index.sequence(text))
        hits = np.zeros(len(query.numbers), np.bool_)
        hits[placed.start : last] = own[query.numbers[placed.start : last]]
        share = float(contained[text])
        found.append(Placed(text, placed.start, placed.end, hits, share, share))
    return found[:most]
