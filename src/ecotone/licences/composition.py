"""Which instruments bind a subject: its own and those that its parents' texts carry down the family graph.

    inherited(node) = own(node) + union over parent edges e of { (i, path + e) : i in inherited(parent), carries(i, e) }

Relabelling never removes an inherited instrument. Members of a cycle share what comes down to any of them. A refuted
edge carries nothing; a suspected one only when asked for.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.evaluate import Bound
from ecotone.licences.family import Edge, Family, Node
from ecotone.vocabulary import EdgeStatus, LicenceRelation, Relation

DERIVING = frozenset(
    {
        Relation.FINETUNE,
        Relation.CONTINUED_PRETRAIN,
        Relation.ADAPTER_MERGED,
        Relation.MERGE,
        Relation.QUANTISED,
        Relation.CONVERTED,
        Relation.PRUNED,
        Relation.DEPTH_PRUNED,
        Relation.UPCYCLED,
        Relation.VOCAB_EXTENDED,
        Relation.CODE_FROM,
    }
)
_READING: Mapping[Relation, LicenceRelation] = {
    **dict.fromkeys(DERIVING, LicenceRelation.DERIVE),
    Relation.ADAPTER: LicenceRelation.LINK,
    Relation.COMPONENT_OF: LicenceRelation.LINK,
    Relation.TRAINED_ON: LicenceRelation.TRAIN_ON,
    Relation.DISTILLED_LOGITS: LicenceRelation.TRAIN_ON,
    Relation.DISTILLED_OUTPUTS: LicenceRelation.TRAIN_ON,
    Relation.GENERATED_BY: LicenceRelation.GENERATE,
}
_OBJECTS: Mapping[str, frozenset[str]] = {
    "api": frozenset({"service"}),
    "code": frozenset({"code"}),
    "dataset": frozenset({"data"}),
    "weights": frozenset({"weights"}),
}
UNTOLD = "a parent you may not see"
_ALL = "all"
_LINKING = frozenset({Relation.ADAPTER, Relation.COMPONENT_OF})
_SAME = frozenset({Relation.MIRROR_OF, *_LINKING})
_TRANSFORMS = frozenset({Relation.QUANTISED, Relation.CONVERTED})
_FROM_OUTPUTS = frozenset({Relation.DISTILLED_OUTPUTS, Relation.DISTILLED_LOGITS, Relation.GENERATED_BY})
_GENERATED_DATA = frozenset({Relation.TRAINED_ON, Relation.GENERATED_BY})
_NOT_SIMILAR = frozenset({"classifier_internal"})


def licence_relation(relation: Relation) -> LicenceRelation | None:
    """How the licence engine reads a lineage relation; None for those that carry nothing or everything."""
    return _READING.get(relation)


@dataclass(frozen=True, slots=True)
class Composition:
    """All bound instruments of a subject, and what the graph showed. `positions`: choices that mattered on the way."""

    own: tuple[Bound, ...]
    inherited: tuple[Bound, ...]
    derived: bool
    adapter: bool
    suspected: tuple[Edge, ...] = ()
    unknown_data: tuple[str, ...] = ()
    cyclic: bool = False
    positions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Reading:
    """What decides whether an instrument comes down a path."""

    publishing: bool
    positions: Mapping[str, str]
    target_model: str | None
    mattered: set[str]


def compose(
    knowledge: KnowledgeBase,
    family: Family,
    *,
    publishing: bool = False,
    positions: Mapping[str, str] | None = None,
    with_suspected: bool = False,
    target_model: str | None = None,
) -> Composition:
    """Bind the subject's own instruments and those that come down to it.

    Args:
        knowledge: the entries.
        family: the subject and its ancestors.
        publishing: an adapter file alone is published (its base's text counts as the position says), instead of being
            loaded together with its base (then both bind).
        positions: choices where law is disputed.
        with_suspected: walk suspected edges as if they were verified.
        target_model: what kind of model was made from outputs, where that was told: texts that reach only models made
            to perform similarly do not reach a classifier for use inside.
    """
    parents: dict[str, list[Edge]] = {}
    suspected: list[Edge] = []
    for edge in family.edges:
        if edge.status is EdgeStatus.REFUTED or edge.relation is Relation.EVALUATED_ON:
            continue
        parents.setdefault(edge.child, []).append(edge)
    reading = _Reading(publishing, positions or {}, target_model, set())
    found: dict[Any, Bound] = {}
    unknown_data: dict[str, None] = {}
    for node_id, path in _paths(family.subject, parents, suspected, with_suspected):
        for bound in _bind(knowledge, family.node(node_id), path, reading, unknown_data):
            sourced = Relation.TRAINED_ON in path
            arrived = (bound.facts, bound.objects, bound.relation, bound.through_outputs, sourced, id(bound.told))
            found.setdefault((bound.entry.id, bound.node, arrived), bound)
    first = parents.get(family.subject, ())
    return Composition(
        own=tuple(_own(knowledge, family.node(family.subject))),
        inherited=tuple(found.values()),
        derived=any(e.relation in DERIVING for e in first),
        adapter=any(e.relation is Relation.ADAPTER for e in first),
        suspected=tuple(dict.fromkeys(suspected)),
        unknown_data=tuple(unknown_data),
        cyclic=_cyclic(family.subject, parents),
        positions=frozenset(reading.mattered),
    )


def _paths(
    subject: str, parents: Mapping[str, list[Edge]], suspected: list[Edge], with_suspected: bool
) -> Iterator[tuple[str, tuple[Relation, ...]]]:
    """Each ancestor with the relations from it down to the subject, shortest paths first.

    What comes down a path depends on the set of its relations, and a path with fewer of them carries at least as much.
    So a longer path to the same node is walked only while it lacks a relation of every shorter one: the work stays
    small on graphs whose paths cannot be counted, and cycles end.
    """
    queue: deque[tuple[str, tuple[Relation, ...]]] = deque([(subject, ())])
    walked: dict[str, list[tuple[frozenset[Relation], Any]]] = {}
    while queue:
        node_id, path = queue.popleft()
        for edge in parents.get(node_id, ()):
            if edge.status is EdgeStatus.SUSPECTED and not with_suspected:
                suspected.append(edge)
                continue
            if edge.parent == subject:
                continue
            longer = (edge.relation, *path)
            relations = frozenset(longer)
            told = (_telling(longer), _kind_of_path(relations))
            before = walked.setdefault(edge.parent, [])
            if any(known <= relations and same == told for known, same in before):
                continue
            before.append((relations, told))
            yield edge.parent, longer
            queue.append((edge.parent, longer))


def _kind_of_path(relations: frozenset[Relation]) -> tuple[object, ...]:
    """What decides how a text is asked at the end of a path, beside which of its facts come down."""
    joined = _joined(relations)
    return (
        _objects(joined, "weights", publishing=False),
        not _FROM_OUTPUTS.isdisjoint(joined),
        relations & _GENERATED_DATA,
    )


def _joined(path: Iterable[Relation]) -> frozenset[Relation]:
    """The relations of a path; being trained on data that a model generated is being distilled from its outputs."""
    relations = frozenset(path)
    if relations >= _GENERATED_DATA:
        return relations - _GENERATED_DATA | {Relation.DISTILLED_OUTPUTS}
    return relations


def _telling(path: tuple[Relation, ...]) -> Relation:
    """The relation that says what was made of the parent: a quantised fine-tune is a fine-tune first."""
    return next((r for r in reversed(path) if r not in _TRANSFORMS), path[-1])


def _cyclic(subject: str, parents: Mapping[str, list[Edge]]) -> bool:
    """Whether the ancestors of the subject hold a cycle: some node is never free of unvisited children."""
    reach = {subject}
    stack = [subject]
    tree = True
    while stack:
        for edge in parents.get(stack.pop(), ()):
            if edge.parent in reach:
                tree = False
                continue
            reach.add(edge.parent)
            stack.append(edge.parent)
    if tree:
        return False
    children = Counter(edge.parent for node in reach for edge in parents.get(node, ()))
    free = [node for node in reach if not children[node]]
    seen = 0
    while free:
        seen += 1
        for edge in parents.get(free.pop(), ()):
            children[edge.parent] -= 1
            if not children[edge.parent]:
                free.append(edge.parent)
    return seen < len(reach)


def _own(knowledge: KnowledgeBase, node: Node) -> Iterable[Bound]:
    objects = _OBJECTS.get(node.kind, _OBJECTS["weights"])
    for instrument in node.instruments or ("none",):
        entry = knowledge.entries.get(instrument) or knowledge.entry("unknown")
        yield Bound(entry, node.id, (), None, objects, node.visible, told=node.facts)


def _bind(
    knowledge: KnowledgeBase,
    node: Node,
    path: tuple[Relation, ...],
    reading: _Reading,
    unknown_data: dict[str, None],
) -> Iterable[Bound]:
    """The parent's own instruments, as far as they come down the whole path (parent first)."""
    name = node.id if node.visible else UNTOLD
    relations = _joined(path)
    software = node.kind == "code" and relations <= _LINKING
    if software and reading.publishing:
        return  # weights are published without the software that runs them
    shown = tuple(str(r) for r in path)
    for instrument in node.instruments or ("none",):
        entry = knowledge.entries.get(instrument) or knowledge.entry("unknown")
        facts = _carried(entry, relations, reading)
        if facts is None:
            trains = Relation.TRAINED_ON in relations and reading.positions.get("dataset_propagation") != "none"
            if trains and entry.kind in ("unknown", "none"):
                unknown_data[name] = None
            continue
        yield Bound(
            entry,
            name,
            shown,
            None if facts == _ALL else frozenset(facts),
            _OBJECTS["code"] if software else _objects(relations, node.kind, publishing=reading.publishing),
            node.visible,
            through_outputs=not _FROM_OUTPUTS.isdisjoint(relations),
            relation=str(_telling(path)),
            told=node.facts,
        )


def _objects(relations: frozenset[Relation], kind: str, *, publishing: bool) -> frozenset[str]:
    """What the subject is to the text of a parent of this kind."""
    if Relation.TRAINED_ON in relations:
        return frozenset({"derivative"})  # the model is no copy of the data
    if relations <= _SAME:
        if publishing and Relation.ADAPTER in relations:
            return frozenset({"derivative", "adapter"})
        return _OBJECTS["dataset" if kind == "dataset" else "weights"]
    return frozenset({"data" if kind == "dataset" else "weights", "derivative"})


def _carried(entry: Entry, relations: frozenset[Relation], reading: _Reading) -> frozenset[str] | str | None:
    """Which facts of an entry come down over all these relations: "all", some ids, or None for nothing."""
    facts: frozenset[str] | str = _ALL
    for relation in relations:
        here = _carries(entry, relation, reading)
        if here is None:
            return None
        if isinstance(here, frozenset):
            facts = here if isinstance(facts, str) else facts & here
    return facts


def _carries(entry: Entry, relation: Relation, reading: _Reading) -> frozenset[str] | str | None:
    if relation is Relation.MIRROR_OF:
        return _ALL
    if relation is Relation.ADAPTER and reading.publishing and "adapter" not in entry.definitions.derivative_includes:
        reading.mattered.add("adapter_is_derivative")
        return _ALL if reading.positions.get("adapter_is_derivative") == "yes" else None
    if relation in _LINKING:
        return _ALL  # loaded together, each keeps its licence: the use must satisfy both
    if relation is Relation.TRAINED_ON:
        reading.mattered.add("dataset_propagation")
        choice = reading.positions.get("dataset_propagation")
        if choice in ("none", "full"):
            return None if choice == "none" else _ALL
    if relation in _FROM_OUTPUTS:
        test = entry.definitions.derivative_test
        if test == "perform_similarly" and reading.target_model in _NOT_SIMILAR:
            return None
        if entry.kind == "api_terms":
            reading.mattered.add("api_terms_bind_downstream")
            if reading.positions.get("api_terms_bind_downstream") == "no":
                return None
    some: set[str] = set()
    for rule in entry.propagates:
        if relation in rule.via:
            if rule.what == _ALL:
                return _ALL
            some |= set(rule.what)
    return frozenset(some) if some else None


def relabelled(knowledge: KnowledgeBase, family: Family, composition: Composition) -> Composition:
    """The composition of a family that differs only in the instruments of the subject itself."""
    return replace(composition, own=tuple(_own(knowledge, family.node(family.subject))))


class Descent:
    """How texts come down paths under one reading, for whoever keeps sets of them instead of walking a family."""

    def __init__(
        self, *, publishing: bool = False, positions: Mapping[str, str] | None = None, target_model: str | None = None
    ) -> None:
        self._reading = _Reading(publishing, positions or {}, target_model, set())

    def bind(
        self, knowledge: KnowledgeBase, node: Node, relations: frozenset[Relation], telling: Relation
    ) -> tuple[Bound | None, bool]:
        """The one instrument of a node at the end of a path over these relations; `telling` says what was made of it.

        Returns:
            What binds, None when nothing comes down; and whether the path ends at data of which no licence is known.
        """
        unknown_data: dict[str, None] = {}
        for bound in _bind(knowledge, node, tuple(sorted(relations)), self._reading, unknown_data):
            return replace(bound, relation=str(telling)), bool(unknown_data)
        return None, bool(unknown_data)

    def own(self, knowledge: KnowledgeBase, node: Node) -> tuple[Bound, ...]:
        """The node's own instruments as they bind it."""
        return tuple(_own(knowledge, node))

    def telling(self, relation: Relation, before: Relation | None) -> Relation:
        """What was made of the ancestor when one more relation leads down from what was made `before`."""
        return _telling((relation,) if before is None else (before, relation))


def inherited(knowledge: KnowledgeBase, family: Family) -> tuple[str, ...]:
    """Ids of all instruments that bind the subject, its own first, sorted within each group."""
    composition = compose(knowledge, family)
    own = sorted({b.entry.id for b in composition.own})
    return (*own, *sorted({b.entry.id for b in composition.inherited} - set(own)))


def legal_class(knowledge: KnowledgeBase, family: Family, *, positions: Mapping[str, str] | None = None) -> str:
    """A hash that is equal for two subjects whenever every verdict on them must be equal.

    It covers the instruments with the paths on which and the facts with which they arrive, the kind of the subject, and
    the exact content of the knowledge base.
    """
    composition = compose(knowledge, family, positions=positions)
    parts = sorted(
        f"{b.entry.id}|{'>'.join(b.path)}|{','.join(sorted(b.facts)) if b.facts is not None else '*'}|"
        f"{','.join(sorted(b.objects))}|{b.relation}|{sorted(b.told.items()) if b.told else ''}"
        for b in (*composition.own, *composition.inherited)
    )
    flags = [
        family.node(family.subject).kind,
        str(composition.derived),
        str(composition.adapter),
        str(len(composition.suspected) > 0),
        str(len(composition.unknown_data) > 0),
        knowledge.digest,
        *(f"{k}={v}" for k, v in sorted((positions or {}).items())),
    ]
    return hashlib.sha256("\n".join([*parts, *flags]).encode()).hexdigest()[:24]
