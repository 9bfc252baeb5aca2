"""What differs between two knowledge bases: entries, facts with their clauses, and answers that change with them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ecotone.licences.composition import compose, legal_class
from ecotone.licences.decision import NOTICE, today
from ecotone.licences.entries import Entry, Fact, KnowledgeBase
from ecotone.licences.family import Family, Use
from ecotone.licences.weighing import weigh
from ecotone.vocabulary import Verdict

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


class Pinned(msgspec.Struct, frozen=True):
    """The state of knowledge that an answer rests on."""

    version: str
    digest: str


class FactChange(msgspec.Struct, frozen=True, kw_only=True):
    """A fact that came, went or says something else. `fields` has the old and the new value of each that differs."""

    fact: str
    change: str
    clause: str
    means: str
    fields: dict[str, tuple[Any, Any]] = {}


class EntryChange(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that came, went or says something else; `text_sha256` of the old and of the new text."""

    entry: str
    change: str
    title: str
    text_sha256: tuple[str | None, str | None]
    fields: dict[str, tuple[Any, Any]] = {}
    facts: tuple[FactChange, ...] = ()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The whole difference. `positions` are those whose choices or default differ."""

    old: Pinned
    new: Pinned
    entries: tuple[EntryChange, ...] = ()
    positions: dict[str, tuple[Any, Any]] = {}
    notice: str = NOTICE


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question that both knowledge bases answer: a family under the use of somebody, named for the list."""

    family: Family
    use: Use
    who: str


class AnswerChange(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that differs; `because` are the changed entries that bind the model, and policies of theirs."""

    model: str
    revision: str | None
    who: str
    mode: str
    before: Verdict
    after: Verdict
    duties_added: tuple[str, ...] = ()
    duties_removed: tuple[str, ...] = ()
    because: tuple[str, ...] = ()
    text_sha256: dict[str, str | None] = {}


def compare(old: KnowledgeBase, new: KnowledgeBase) -> Difference:
    """Entries and facts that differ, sorted by id."""
    changes = []
    for entry_id in sorted({*old.entries, *new.entries}, key=str.lower):
        before, after = old.entries.get(entry_id), new.entries.get(entry_id)
        if before != after:
            changes.append(_entry_change(entry_id, before, after))
    positions = {
        name: (old.positions.get(name), new.positions.get(name))
        for name in sorted({*old.positions, *new.positions})
        if old.positions.get(name) != new.positions.get(name)
    }
    return Difference(
        old=Pinned(old.version, old.digest),
        new=Pinned(new.version, new.digest),
        entries=tuple(changes),
        positions=positions,
    )


def _entry_change(entry_id: str, before: Entry | None, after: Entry | None) -> EntryChange:
    shown = after or before
    assert shown is not None
    hashes = (before.text.sha256 if before else None, after.text.sha256 if after else None)
    if before is None or after is None:
        change = ADDED if before is None else REMOVED
        return EntryChange(entry=entry_id, change=change, title=shown.title, text_sha256=hashes)
    return EntryChange(
        entry=entry_id,
        change=CHANGED,
        title=after.title,
        text_sha256=hashes,
        fields=_fields(before, after, leaving={"facts"}),
        facts=tuple(_fact_changes(before, after)),
    )


def _fact_changes(before: Entry, after: Entry) -> Iterator[FactChange]:
    old, new = ({f.id: f for f in entry.facts} for entry in (before, after))
    for fact_id in {**old, **new}:
        one, other = old.get(fact_id), new.get(fact_id)
        shown = other or one
        if one == other or shown is None:
            continue
        change = ADDED if one is None else REMOVED if other is None else CHANGED
        fields = _fields(one, other) if one is not None and other is not None else {}
        yield FactChange(fact=fact_id, change=change, clause=shown.clause.sec, means=shown.means, fields=fields)


def _fields(one: Entry | Fact, other: Entry | Fact, leaving: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
    old, new = msgspec.to_builtins(one), msgspec.to_builtins(other)
    return {name: (old[name], new[name]) for name in old if name not in leaving and old[name] != new[name]}


class Answers:
    """Verdict and duties under one knowledge base, each legal class and use weighed once."""

    def __init__(self, knowledge: KnowledgeBase, positions: Mapping[str, str]) -> None:
        self.knowledge = knowledge
        self._given = {k: v for k, v in positions.items() if k in knowledge.positions}
        self._positions = knowledge.default_positions() | self._given
        self._known: dict[tuple[str, bytes], tuple[Verdict, frozenset[str]]] = {}

    def of(self, asked: Asked) -> tuple[Verdict, frozenset[str]]:
        legal = legal_class(self.knowledge, asked.family, positions=self._given)
        key = (legal, msgspec.json.encode(asked.use, order="sorted"))
        found = self._known.get(key)
        if found is None:
            weighed = weigh(self.knowledge, asked.family, asked.use, self._positions)
            duties = (
                f"{d.duty}{f' {d.text!r}' if d.text else ''} ({d.entry} {d.clause})" for d in weighed.total.duties
            )
            found = self._known[key] = (weighed.verdict, frozenset(duties))
        return found


def changed_answers(
    difference: Difference,
    old: KnowledgeBase,
    new: KnowledgeBase,
    asked: Iterable[Asked],
    positions: Mapping[str, str],
) -> Iterator[AnswerChange]:
    """Those questions whose verdict or duties differ between two knowledge bases, on the same day and positions."""
    before, after = Answers(old, positions), Answers(new, positions)
    changed = {c.entry for c in difference.entries}
    day = today()
    for question in asked:
        if question.use.date is None:
            question = msgspec.structs.replace(question, use=msgspec.structs.replace(question.use, date=day))
        one, other = before.of(question), after.of(question)
        if one == other:
            continue
        subject = question.family.node(question.family.subject)
        hashes = _binding(old, question.family)
        hashes |= {name: sha for name, sha in _binding(new, question.family).items() if sha or name not in hashes}
        yield AnswerChange(
            model=subject.id,
            revision=subject.revision,
            who=question.who,
            mode=str(question.use.mode),
            before=one[0],
            after=other[0],
            duties_added=tuple(sorted(other[1] - one[1])),
            duties_removed=tuple(sorted(one[1] - other[1])),
            because=tuple(sorted(changed & hashes.keys())),
            text_sha256={name: sha for name, sha in hashes.items() if name in changed},
        )


def _binding(knowledge: KnowledgeBase, family: Family) -> dict[str, str | None]:
    """The entries that bind a family's subject, as its nodes name them, with policies and the hashes of texts."""
    composition = compose(knowledge, family)
    bound = [b.entry for b in (*composition.own, *composition.inherited) if b.visible]
    policies = [knowledge.entries[p.ref] for e in bound for p in e.incorporates if p.ref in knowledge.entries]
    named = dict.fromkeys(i for node in family.nodes.values() if node.visible for i in node.instruments)
    return dict(named) | {e.id: e.text.sha256 for e in (*bound, *policies)}
