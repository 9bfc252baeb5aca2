"""From what a card declares to knowledge-base entries. A declared name is a claim; what is not known stays unknown."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from license_expression import ExpressionError, LicenseSymbol, Licensing

from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.family import Family, Node, Use

if TYPE_CHECKING:
    from ecotone.licences.decision import Decision


class Identified(msgspec.Struct, frozen=True, kw_only=True):
    """Instruments found for a card, the declaration as written, and what contradicts itself."""

    instruments: tuple[str, ...]
    declared: str | None
    conflicts: tuple[str, ...] = ()


_LONGEST = 500
_OTHER = ("other", "unknown", "")


def identify(knowledge: KnowledgeBase, card: Mapping[str, Any], *, date: Any = None) -> Identified:
    """Instruments for the card's `license`, `license_name` and `license_link`.

    Hub ids are compared without case. `other` is resolved by nothing but a known id in `license_name` that the text
    would have to confirm, so it stays unknown here. A list of ids is taken as all of them, the stricter reading.

    Args:
        knowledge: the entries.
        card: front matter of a model card; any junk is answered with `unknown`.
        date: day of the revision (ISO), which picks a version where an id stands for several.
    """
    declared = card.get("license")
    if declared is None or declared in ("", [], {}):
        return Identified(instruments=("none",), declared=None)
    if isinstance(declared, (list, tuple)):
        parts = [identify(knowledge, {**card, "license": d}, date=date) for d in declared[:20]]
        instruments = tuple(dict.fromkeys(i for p in parts for i in p.instruments if i != "none")) or ("unknown",)
        conflict = ("several licences are declared without saying how they combine; all are taken",)
        return Identified(
            instruments=instruments, declared=", ".join(str(d) for d in declared)[:_LONGEST], conflicts=conflict
        )
    text = str(declared).strip()[:_LONGEST]
    if text.lower() in _OTHER:
        name = card.get("license_name")
        label = f"{text} ({str(name)[:100]})" if name else text
        return Identified(instruments=("unknown",), declared=label)
    entries = declared_entries(knowledge, text, date=date)
    conflicts: tuple[str, ...] = ()
    if len(entries) > 1 and " and " not in text.lower():
        conflicts = (f"{text} stands for {' or '.join(e.id for e in entries)}; the stricter answer is taken",)
    return Identified(instruments=tuple(e.id for e in entries) or ("unknown",), declared=text, conflicts=conflicts)


def declared_entries(knowledge: KnowledgeBase, declared: str | None, *, date: Any = None) -> tuple[Entry, ...]:
    """Entries for a declared licence: an id of the knowledge base, a Hub id, or an SPDX expression; empty if unknown.

    In an expression `OR` lets any one branch be chosen: the first branch that is known is taken.
    """
    if not declared:
        return ()
    text = declared.strip()
    found = _names(knowledge).get(text.lower())
    if found is not None:
        return tuple(knowledge.entry(i) for i in _of_day(knowledge, found, date))
    try:
        parsed = _licensing(knowledge).parse(text, validate=False)
    except (ExpressionError, ValueError, RecursionError):
        return ()
    return () if parsed is None else _from_expression(knowledge, parsed)


def _from_expression(knowledge: KnowledgeBase, node: Any) -> tuple[Entry, ...]:
    operator = type(node).__name__
    if operator == "OR":
        branches = [_from_expression(knowledge, part) for part in node.args]
        return next((b for b in branches if b), ())
    if operator == "AND":
        parts = [_from_expression(knowledge, part) for part in node.args]
        return tuple(e for p in parts for e in p) if all(parts) else ()
    if operator == "LicenseWithExceptionSymbol":
        return ()
    found = _names(knowledge).get(str(getattr(node, "key", "")).lower(), ())
    return tuple(knowledge.entry(i) for i in found)


def _of_day(knowledge: KnowledgeBase, ids: tuple[str, ...], date: Any) -> tuple[str, ...]:
    """Of versions of one family, those in effect on the day; all when the day is not told."""
    families = {knowledge.entry(i).family for i in ids}
    if date is None or len(ids) < 2 or len(families) > 1:
        return ids
    day = str(date)[:10]
    begun = [i for i in ids if str(knowledge.entry(i).effective.since or "") <= day]
    latest = max(begun, key=lambda i: str(knowledge.entry(i).effective.since or ""), default=None)
    return (latest,) if latest else ids


@functools.cache
def _names(knowledge: KnowledgeBase) -> dict[str, tuple[str, ...]]:
    """Lower-case names that stand for entries: ids, Hub ids, SPDX ids, `LicenseRef-` forms. No hints."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in knowledge.entries.values():
        if entry.kind == "policy":
            continue
        names = {entry.id, f"LicenseRef-{entry.id}", entry.names.spdx or entry.id, *entry.names.hf}
        for name in {n.lower() for n in names}:
            found[name] = (*found.get(name, ()), entry.id)
    return found


@functools.cache
def _licensing(knowledge: KnowledgeBase) -> Licensing:
    return Licensing([LicenseSymbol(e.expression) for e in knowledge.entries.values() if e.kind != "policy"])


def check_card(knowledge: KnowledgeBase, card: Mapping[str, Any], use: Use, *, name: str = "this model") -> "Decision":
    """The decision on a model of which only the card is known, without its parents' cards: they stay unknown."""
    from ecotone.licences.judge import judge

    found = identify(knowledge, card)
    return judge(knowledge, Family(name, {name: Node(name, instruments=found.instruments)}), use)
