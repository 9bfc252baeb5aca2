"""What could become of a licence: another text in its place, one that nobody knows, or its end. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

import msgspec

from ecotone.licences import Entry, KnowledgeBase
from ecotone.policy.stance import Stance
from ecotone.vocabulary import Invalid, Relation

WITHDRAWN = "withdrawn"
UNKNOWN = "unknown"
ENDED = "licence-ended"
_OUTPUTS = frozenset({Relation.DISTILLED_LOGITS, Relation.DISTILLED_OUTPUTS, Relation.GENERATED_BY})
_COPIES = tuple(r.value for r in Relation if r not in _OUTPUTS | {Relation.TRAINED_ON, Relation.EVALUATED_ON})


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True):
    """The instruments that would bind instead, and what they are called."""

    instruments: tuple[str, ...]
    title: str


def suppose(stance: Stance, licence: str, replaced: Iterable[str], day: date | None) -> tuple[Stance, Hypothesis]:
    """The stance of a day with the knowledge that a hypothesis needs, and the hypothesis.

    Args:
        licence: the id of an entry of the knowledge base, `unknown`, or `withdrawn`.
        replaced: the entries that bind now; what they carry to outputs, their end carries too.
        day: on which everything is judged; today when None.

    Raises:
        Invalid: when the knowledge base has no such entry.
    """
    knowledge = stance.knowledge
    by_fold = {entry_id.casefold(): entry_id for entry_id in knowledge.entries}
    wanted = licence.strip().casefold()
    if day is not None:
        stance = replace(stance, today=day)
    if wanted == WITHDRAWN:
        ended = ended_entry([knowledge.entries[i] for i in replaced if i in knowledge.entries], day or stance.today)
        stance = replace(stance, knowledge=_with(knowledge, ended))
        return stance, Hypothesis(instruments=(ENDED,), title=ended.title)
    if wanted == UNKNOWN:
        return stance, Hypothesis(instruments=(UNKNOWN,), title="a licence that is not known")
    if wanted not in by_fold:
        raise Invalid(
            f"{licence[:80]!r} is no entry of the knowledge base (`ecotone licence list`), nor unknown or withdrawn.",
            param="licence",
        )
    entry = knowledge.entries[by_fold[wanted]]
    return stance, Hypothesis(instruments=(entry.id,), title=entry.title)


def ended_entry(replaced: list[Entry], day: date) -> Entry:
    """A licence that ended: it grants nothing, to whoever has copies or what was made from them. Outputs and what was
    trained on them are reached where the text that ended reached them."""
    outputs = {via for entry in replaced for p in entry.propagates for via in p.via}
    via = [*_COPIES, *sorted({str(v) for v in outputs} - set(_COPIES))]
    named = ", ".join(entry.id for entry in replaced) or "the licence"
    fact = {
        "id": "ended",
        "modality": "prohibit",
        "action": ["any"],
        "clause": {"sec": "end of the licence"},
        "means": f"{named} has ended: nothing may be done with this any more, nor with what was made from it",
    }
    return msgspec.convert(
        {
            "schema": 1,
            "id": ENDED,
            "title": f"The end of {named}",
            "family": "ended",
            "version": day.isoformat(),
            "names": {},
            "kind": "none",
            "governs": ["weights", "code", "data", "docs", "outputs", "service"],
            "text": {},
            "definitions": {"derivative_includes": [], "derivative_test": "any"},
            "facts": [fact],
            "propagates": [{"via": via, "what": "all"}],
            "restricts": [],
            "outbound": {"derivative": "own_terms"},
            "complete": True,
            "status": {"authority": "primary", "reviewed": day.isoformat()},
        },
        Entry,
    )


def _with(knowledge: KnowledgeBase, entry: Entry) -> KnowledgeBase:
    entries = {**knowledge.entries, entry.id: entry}
    return KnowledgeBase(
        entries,
        version=knowledge.version,
        digest=f"{knowledge.digest}+{entry.id}@{entry.version}",
        positions=knowledge.positions,
    )
