"""From what a card declares to knowledge-base entries. A declared name is a claim; what is not known stays unknown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.expressions import Branch, branches_of, names, offers_unknown
from ecotone.licences.family import Edge, Family, Node, Use
from ecotone.vocabulary import Relation

if TYPE_CHECKING:
    from ecotone.licences.decision import Decision


class Identified(msgspec.Struct, frozen=True, kw_only=True):
    """Instruments found for a card, the declaration as written, and what contradicts itself."""

    instruments: tuple[str, ...]
    declared: str | None
    conflicts: tuple[str, ...] = ()


_LONGEST = 200
_MOST_IDS = 20
_MOST_PARENTS = 50
_OTHER = ("other", "unknown", "")
UNKNOWN = ("unknown",)


def identify(knowledge: KnowledgeBase, card: Mapping[str, Any], *, date: Any = None) -> Identified:
    """Instruments for the card's `license`, `license_name` and `license_link`.

    Hub ids are compared without case. `other` stays unknown whatever `license_name` says: a name is a hint that the
    text would have to confirm. A list of ids is taken as all of them, the stricter reading.

    Args:
        knowledge: the entries.
        card: front matter of a model card; any junk is answered with `unknown`.
        date: day of the revision (ISO), which picks a version where an id stands for several.
    """
    declared = card.get("license")
    if declared is None or declared in ("", [], {}):
        return Identified(instruments=("none",), declared=None)
    if isinstance(declared, (list, tuple)):
        return _identify_list(knowledge, card, declared, date)
    text = " ".join(str(declared).split()) if isinstance(declared, (str, int, float)) else "unreadable"
    if len(text) > _LONGEST:  # what is cut off might be what binds
        return Identified(instruments=UNKNOWN, declared=text[:_LONGEST])
    if text.lower() in _OTHER:
        name = card.get("license_name")
        label = f"{text} ({str(name)[:100]})" if isinstance(name, str) and name else text
        return Identified(instruments=UNKNOWN, declared=label)
    entries = declared_entries(knowledge, text, date=date)
    known = text.casefold() in names(knowledge)
    if any(knowledge.entry(i).kind == "family" for i in knowledge.by_hf.get(text.lower(), ())):
        conflict = f"{text} names a family of licences, not one of them"
        return Identified(instruments=UNKNOWN, declared=text, conflicts=(conflict,))
    if known and len(entries) > 1:
        conflict = f"{text} stands for {' or '.join(e.id for e in entries)}; the stricter answer is taken"
        return Identified(instruments=tuple(e.id for e in entries), declared=text, conflicts=(conflict,))
    conflicts: tuple[str, ...] = ()
    if not known and entries and len(branches_of(knowledge, text)) > 1:
        conflicts = (f"{text} offers a choice; {' and '.join(e.id for e in entries)} is taken",)
    return Identified(instruments=tuple(e.id for e in entries) or UNKNOWN, declared=text, conflicts=conflicts)


def _identify_list(knowledge: KnowledgeBase, card: Mapping[str, Any], declared: Any, date: Any) -> Identified:
    parts = [
        identify(knowledge, {**card, "license": d}, date=date)
        for d in declared[:_MOST_IDS]
        if isinstance(d, (str, int, float))
    ]
    found = [i for p in parts for i in p.instruments if i != "none"]
    if len(parts) < len(declared):  # what is left out or no name at all may be anything
        found.append(UNKNOWN[0])
    instruments = tuple(dict.fromkeys(found)) or UNKNOWN
    if len(declared) == 1 and parts:
        return parts[0]
    return Identified(
        instruments=instruments,
        declared=", ".join(p.declared or "" for p in parts)[:_LONGEST],
        conflicts=("several licences are declared without saying how they combine; all are taken",),
    )


def declared_entries(knowledge: KnowledgeBase, declared: str | None, *, date: Any = None) -> Branch:
    """Entries for a declared licence: an id of the knowledge base, a Hub id, or an SPDX expression; empty if unknown.

    In an expression `OR` lets whoever uses the work choose a branch: the mildest that is known is taken.
    """
    if not declared:
        return ()
    found = names(knowledge).get(declared.strip().casefold())
    if found is not None:
        return tuple(knowledge.entry(i) for i in _of_day(knowledge, found, date))
    return next(iter(branches_of(knowledge, declared.strip())), ())


def declared_branches(knowledge: KnowledgeBase, declared: str | None) -> tuple[Branch, ...]:
    """Every choice that a declaration offers to whoever gets the work; a Hub id that stands for several is one."""
    if not declared:
        return ()
    if declared.strip().casefold() in names(knowledge):
        return (declared_entries(knowledge, declared),)
    return branches_of(knowledge, declared.strip())


def _of_day(knowledge: KnowledgeBase, ids: tuple[str, ...], date: Any) -> tuple[str, ...]:
    """Of versions of one family, those in effect on the day; all when the day is not told."""
    families = {knowledge.entry(i).family for i in ids}
    since = {i: str(knowledge.entry(i).effective.since or "") for i in ids}
    if date is None or len(ids) < 2 or len(families) > 1 or len(set(since.values())) < len(ids):
        return ids
    day = str(date)[:10]
    latest = max((i for i in ids if since[i] <= day), key=lambda i: since[i], default=None)
    return (latest,) if latest else ids


def check_card(
    knowledge: KnowledgeBase,
    card: Mapping[str, Any],
    use: Use,
    *,
    name: str = "this model",
    known: Mapping[str, tuple[str, ...]] | None = None,
    positions: Mapping[str, str] | None = None,
    instruments: tuple[str, ...] | None = None,
) -> "Decision":
    """The decision on a model of which only the card is known, without a server.

    Args:
        knowledge: the entries.
        card: front matter of a model card.
        use: what is wanted.
        name: how the decision calls the model.
        known: instruments of parents, by id; a parent that the card names and this does not is unknown, and so is then
            the answer, unless the card's own licence already refuses.
        positions: the organisation's choices.
        instruments: what is concluded from card and licence files; by default what the card declares.
    """
    from ecotone.licences.judge import judge

    nodes = {name: Node(name, instruments=instruments or identify(knowledge, card, date=use.date).instruments)}
    edges = []
    for parent, relation in _parents(card):
        if parent.casefold() == name.casefold():
            continue
        dataset = relation is Relation.TRAINED_ON
        kind = "dataset" if dataset else "weights"
        nodes[parent] = Node(parent, instruments=(known or {}).get(parent, UNKNOWN), kind=kind)
        edges.append(Edge(name, parent, relation))
    return judge(knowledge, Family(name, nodes, tuple(edges)), use, positions)


_DECLARED_RELATIONS = {
    "adapter": Relation.ADAPTER,
    "merge": Relation.MERGE,
    "quantized": Relation.QUANTISED,
    "finetune": Relation.FINETUNE,
}


def _parents(card: Mapping[str, Any]) -> list[tuple[str, Relation]]:
    """Parents that a card names, with the relation that it says or that its tags show."""
    bases = _texts(card.get("base_model"))
    relation = _DECLARED_RELATIONS.get(str(card.get("base_model_relation") or "").strip().lower())
    if relation is None:
        peft = str(card.get("library_name") or "").lower() == "peft"
        relation = Relation.MERGE if len(bases) > 1 else Relation.ADAPTER if peft else Relation.FINETUNE
    found = [(base, relation) for base in bases]
    return found + [(f"datasets/{d}", Relation.TRAINED_ON) for d in _texts(card.get("datasets"))]


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, (list, tuple)) else [value]
    return [t.strip() for t in items if isinstance(t, str) and t.strip()][:_MOST_PARENTS]


__all__ = ["Entry", "Identified", "check_card", "declared_branches", "declared_entries", "identify", "offers_unknown"]
