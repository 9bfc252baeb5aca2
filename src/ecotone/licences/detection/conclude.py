"""Declared, detected, concluded: three fields, and what contradicts. Pure; publishing and pages may use it.

The concluded instruments are the stricter reading: a text that was found binds though the card says otherwise, and a
declaration binds though no text was found. A text that is merely near a known one is an unknown instrument.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ecotone.licences.detection.detecting import SAME_WORDS, UNKNOWN, Detection
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.expressions import names
from ecotone.licences.identify import Identified, declared_branches

_NOTHING = ("none", UNKNOWN)


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What a work is under.

    Attributes:
        declared: as written; None where nothing was.
        detected: ids of texts, notices and tags, in order.
        concluded: instruments for the engine: entries of the knowledge base, `unknown`, or `none`.
        conflicts: each with `field`, `declared`, `detected`, `concluded` and `reason`.
    """

    declared: str | None
    detected: tuple[str, ...]
    concluded: tuple[str, ...]
    conflicts: tuple[dict[str, Any], ...] = ()


def conclude(knowledge: KnowledgeBase, declared: Identified, detections: Iterable[Detection]) -> Conclusion:
    """Concluded instruments and conflicts.

    Args:
        knowledge: the entries; an id that it lacks becomes an unknown instrument, with a conflict that says so.
        declared: of the card, as `identify` gives it.
        detections: of the files that speak for the whole work, not of third-party notices.
    """
    found = list(detections)
    said = [i for i in declared.instruments if i not in _NOTHING]
    texts = _decided(knowledge, found, said)
    versions = set(names(knowledge).get((declared.declared or "").strip().casefold(), ()))
    if texts and len(versions) > 1 and versions >= set(texts):
        said = texts  # the name stands for several versions, and the text says which
    detected = tuple(dict.fromkeys(d.id for d in found if d.id != UNKNOWN))
    conflicts: list[dict[str, Any]] = []

    def conflict(shown: str, concluded: Iterable[str], reason: str) -> None:
        conflicts.append(
            {
                "field": "licence",
                "declared": declared.declared,
                "detected": shown,
                "concluded": " AND ".join(concluded),
                "reason": reason,
            }
        )

    concluded = list(dict.fromkeys([*said, *texts]))
    if not found:
        return Conclusion(declared=declared.declared, detected=(), concluded=declared.instruments)
    if said and texts and not _agree(knowledge, declared, said, texts):
        conflict(" AND ".join(texts), concluded, "the text found is not the licence declared; both are taken")
    elif said and texts:
        concluded = said
    for one in (d for d in found if d.id == UNKNOWN):
        concluded.append(UNKNOWN)
        if not one.near:
            conflict("a text", (UNKNOWN,), "the licence file holds a text that is none of those known")
            continue
        near = one.near[0]
        conflict(f"near {near.id}", (UNKNOWN,), f"the text is not {near.id}: {near.difference}")
    for name in detected:
        if name not in knowledge.entries:
            concluded = [UNKNOWN if c == name else c for c in concluded]
            conflict(name, (UNKNOWN,), f"{name} was recognised, but the knowledge base holds no facts about it")
    return Conclusion(
        declared=declared.declared,
        detected=detected,
        concluded=tuple(dict.fromkeys(concluded)) or declared.instruments,
        conflicts=tuple(conflicts),
    )


def _decided(knowledge: KnowledgeBase, found: list[Detection], said: list[str]) -> list[str]:
    """Ids detected, where a text that stands for two ids is the one declared, and without incorporated policies."""
    ids: list[str] = []
    for one in found:
        either = [n.id for n in one.near if n.difference == SAME_WORDS and n.id in said]
        if one.id != UNKNOWN:
            ids.append(either[0] if either else one.id)
    known = [knowledge.entries[i] for i in (*ids, *said) if i in knowledge.entries]
    incorporated = {i.ref for entry in known for i in entry.incorporates}
    return [i for i in dict.fromkeys(ids) if i not in incorporated]


def _agree(knowledge: KnowledgeBase, declared: Identified, said: list[str], texts: list[str]) -> bool:
    """Whether every text found is declared, all together or as one of the choices that the declaration offers."""
    offered = {e.id for branch in declared_branches(knowledge, declared.declared) for e in branch}
    return set(texts) <= offered | set(said)
