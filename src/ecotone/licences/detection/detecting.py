"""The answer for a text: which licences stand in it, how surely, and which are merely near, with what differs."""

from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from ecotone.licences.detection import notices
from ecotone.licences.detection.differences import Compared, compare, runs_of, speaks, topics_of, words_covered
from ecotone.licences.detection.discriminators import discriminators
from ecotone.licences.detection.index import Index, load
from ecotone.licences.detection.matching import Flags, Placed, Query, place, rivals
from ecotone.licences.detection.normalising import SHINGLE, words_of
from ecotone.licences.entries import KnowledgeBase

UNKNOWN = "unknown"
_COVERED = 0.85
_LEAST_RIVAL = 0.7
_NEAR = 0.8
_LEAST_NEAR = 0.6
_LEAST_WORDS = 8
_MOSTLY = 0.4
_NOTHING_ELSE = 0.85
_SENTENCE = 2
_FOREIGN_WORDS = 25
_ADJACENT = 150
_ADDED = 8
_MOST_NEAR = 5
_MOST_BESIDE = 2
_BRIDGE = 3
_FEWER = 0.03
Counts = npt.NDArray[np.int32]
SAME_WORDS = "the same words; only a notice in the work decides between the two, and none was found here"


class Near(msgspec.Struct, frozen=True):
    """A licence that the text resembles, and in which clause it differs."""

    id: str
    difference: str


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """A licence found in a text.

    Attributes:
        id: of the knowledge base where it has an entry, else the SPDX id, else our own name of the text; `unknown`
            where a text resembles known ones but a clause that may decide differs: `near` then says which.
        spdx: the id on the SPDX list, or None.
        coverage: of the words of the known text, how many were found, 0 to 1; 1 for tags and notices.
        confidence: 0 to 1; the share of the evidence that speaks for this id.
        evidence: text, notice or tag.
    """

    id: str
    spdx: str | None
    coverage: float
    confidence: float
    near: tuple[Near, ...] = ()
    evidence: str = "text"


def of_a_licence_file(text: str, knowledge: KnowledgeBase | None = None) -> list[Detection]:
    """The same for a file that is named as a licence: a text of some length that is none of those known is `unknown`,
    with nothing that it is near to."""
    found = detect(text, knowledge, whole=True)
    if not found and len(words_of(text)) >= _FOREIGN_WORDS:
        return [Detection(id=UNKNOWN, spdx=None, coverage=0.0, confidence=0.0)]
    return found


class Identity:
    """Ids of the knowledge base for texts of the index; without a knowledge base, the names of the index."""

    def __init__(self, index: Index, knowledge: KnowledgeBase | None) -> None:
        self.index = index
        self.entries: dict[str, str] = {}
        for entry in knowledge.entries.values() if knowledge else ():
            for name in (entry.names.spdx, *entry.names.scancode, *entry.names.aliases):
                if name:
                    self.entries.setdefault(name.casefold(), entry.id)
        for entry in knowledge.entries.values() if knowledge else ():
            self.entries[entry.id.casefold()] = entry.id

    def of(self, label: str) -> tuple[str, str | None]:
        """Id and SPDX id for a label, a member or another name of a text."""
        number = self.index.labels.get(label.casefold())
        known = self.index.known[number] if number is not None else None
        proper, spdx = label, None
        if known is not None:
            proper = next((m for m in (known.label, *known.members) if m.casefold() == label.casefold()), known.label)
            spdx = proper if known.spdx else None
        names = (proper, *(known.names if known else ()))
        entry = next((self.entries[n.casefold()] for n in names if n.casefold() in self.entries), None)
        return entry or proper, spdx


def detect(
    text: str, knowledge: KnowledgeBase | None = None, *, index: Index | None = None, whole: bool = False
) -> list[Detection]:
    """Licences in a text: whole texts, notices and SPDX tags; several, in the order of what they explain; [] if none.

    Args:
        text: contents of a file of any kind, decoded.
        knowledge: whose ids to answer with.
        index: known texts; by default those that ship with the program.
        whole: the text is that of a licence file, so that any sentence beside a known text that binds counts.
    """
    index = index or load()
    identity = Identity(index, knowledge)
    words = words_of(text)
    query = Query(index, words)
    placed = place(index, query)
    explainers = np.zeros(len(words), np.int32)
    for one in placed:
        explainers += _words(one)
    found: list[Detection] = []
    known = np.zeros(len(words), np.bool_)
    for one in placed:
        detection, covered = _judged(index, identity, query, one, explainers, known, whole)
        if detection is not None:
            found.append(detection)
            known |= covered
    examples = {t for one in placed for t in index.known[one.text].tags}
    tags = [t for t in notices.tags(text) if t not in examples]
    rest = [w if not k else "" for w, k in zip(words, known.tolist(), strict=True)]
    granted = notices.granted(rest, tuple(d.id for d in found))
    beside = _beside(notices.granted(words), [index.known[one.text].notices for one in placed])
    granted |= {name: 1 for name in beside if name.endswith("-or-later") and _undecided(identity.of(name)[0], found)}
    return _together(found, _stated(index, identity, tags, granted))


def _beside(stated: dict[str, int], examples: list[dict[str, int]]) -> list[str]:
    """Notices of a file that are more than those which its licence texts bring along as examples."""
    return [name for name, count in stated.items() if count > sum(e.get(name, 0) for e in examples)]


def _undecided(name: str, found: list[Detection]) -> bool:
    return any(n.id == name and n.difference == SAME_WORDS for d in found for n in d.near)


def _words(placed: Placed) -> Flags:
    return words_covered(placed.hits)


def _judged(
    index: Index, identity: Identity, query: Query, placed: Placed, explainers: Counts, known: Flags, whole: bool
) -> tuple[Detection | None, Flags]:
    """The detection for a stretch, and the words that are then accounted for."""
    others = explainers - _words(placed) > 0
    best, compared = placed, compare(index, query, placed, others | _words(placed))
    explains = np.count_nonzero(placed.hits)
    for rival in rivals(index, query, placed, least=_LEAST_RIVAL):
        more = np.count_nonzero(rival.hits) - np.count_nonzero(best.hits)
        if more > SHINGLE or (not _same(compared) and more > -_FEWER * explains):
            other = compare(index, query, rival, others | _words(rival))
            if _same(other):
                best, compared = rival, other
    label = index.known[best.text].label
    words = _words(best)
    fresh = np.count_nonzero(words & ~known)
    differences = compared.differences or _appended(query, best, others | words, whole)
    if _same(compared) and not differences:
        entry, spdx = identity.of(label)
        confidence = round(min(1.0, compared.coverage), 4)
        near = _neighbours(index, identity, query, best)
        detection = Detection(
            id=entry, spdx=spdx, coverage=round(compared.coverage, 4), confidence=confidence, near=near
        )
        return detection, _accounted(index, query, best)
    least = _NEAR if known.any() else _LEAST_NEAR
    if best.own < least or fresh < _LEAST_WORDS or (index.known[best.text].length < 40 and best.own < _NEAR):
        return None, words
    reason = "; ".join(differences) or f"{round(100 * compared.coverage)} % of its words were found"
    near_id, _ = identity.of(label)
    return (
        Detection(
            id=UNKNOWN,
            spdx=None,
            coverage=round(compared.coverage, 4),
            confidence=round(compared.coverage * 0.5, 4),
            near=(Near(near_id, reason), *_neighbours(index, identity, query, best)[:_MOST_BESIDE]),
        ),
        words,
    )


def _accounted(index: Index, query: Query, placed: Placed) -> Flags:
    """Words that a text explains, with those that follow on it and repeat what the text said before."""
    marked = np.zeros(len(index.hashes) + 1, np.bool_)
    marked[index.sequence(placed.text)] = True
    hits = placed.hits.copy()
    at, last = placed.end, placed.end
    while at < len(hits) and at - last <= _BRIDGE:
        if marked[query.numbers[at]]:
            hits[at], last = True, at
        at += 1
    return words_covered(hits)


def _same(compared: Compared) -> bool:
    return compared.coverage >= _COVERED and not compared.differences


def _appended(query: Query, placed: Placed, explained: Flags, whole: bool) -> tuple[str, ...]:
    """Unexplained terms before or after a text that makes up most of the file: a clause more. In a licence file that
    holds hardly anything else, a sentence that obliges to anything is one."""
    share = (placed.end - placed.start) / max(len(query.words), 1)
    if share < _MOSTLY:
        return ()
    alone = whole and share >= _NOTHING_ELSE
    least = _SENTENCE if alone else _ADDED
    outside = ~explained
    outside[placed.start : placed.end] = False
    found = []
    for start, end in runs_of(outside):
        if end - start < least or start > placed.end + _ADJACENT or end < placed.start - _ADJACENT:
            continue
        words = query.words[start:end]
        topics = topics_of(words) or (["terms of its own"] if alone and speaks(words) else [])
        if topics:
            side = "after" if start >= placed.end else "before"
            found.append(f"{end - start} words are added {side} the text, on {' and '.join(topics)}")
    return tuple(found)


def _neighbours(index: Index, identity: Identity, query: Query, placed: Placed) -> tuple[Near, ...]:
    """Texts that are known to be near to the one found and stand nearly whole in its stretch, with the difference."""
    label = index.known[placed.text].label
    curated = discriminators().of(label)
    present = {index.known[r.text].label for r in rivals(index, query, placed)} if curated else set()
    found = [Near(identity.of(other)[0], why) for other, why in curated.items() if other in present]
    members = index.known[placed.text].members
    found += [Near(identity.of(m)[0], SAME_WORDS) for m in members if m.endswith("-or-later") and "invariants" not in m]
    return tuple(found[:_MOST_NEAR])


def _stated(index: Index, identity: Identity, tags: list[str], granted: Iterable[str]) -> list[Detection]:
    found = []
    for name in tags:
        number = index.labels.get(name.casefold()) or index.labels.get(f"{name}-only".casefold())
        if number is None and name.casefold() not in identity.entries and not name.lower().startswith("licenseref-"):
            continue
        whole = name if name.casefold() in index.labels else f"{name}-only" if number is not None else name
        entry, spdx = identity.of(whole)
        found.append(Detection(id=entry, spdx=spdx, coverage=1.0, confidence=1.0, evidence="tag"))
    tagged = {_stem(t) for t in tags}
    for name in granted:
        if _stem(name) in tagged:
            continue
        entry, spdx = identity.of(name)
        found.append(Detection(id=entry, spdx=spdx, coverage=1.0, confidence=0.9, evidence="notice"))
    return found


def _stem(name: str) -> str:
    return name.casefold().removesuffix("-only").removesuffix("-or-later")


def _together(texts: list[Detection], stated: list[Detection]) -> list[Detection]:
    """One detection for each id; a notice that decides between `-only` and `-or-later` replaces the undecided text."""
    found: dict[str, Detection] = {}
    for one in texts:
        decided = next((s for s in stated if any(n.id == s.id and n.difference == SAME_WORDS for n in one.near)), None)
        if decided is not None:
            one = msgspec.structs.replace(one, id=decided.id, spdx=decided.spdx, near=())
        key = one.id if one.id != UNKNOWN else f"{UNKNOWN} {one.near[0].id}"
        found.setdefault(key, one)
    for one in stated:
        found.setdefault(one.id, one)
    return list(found.values())
