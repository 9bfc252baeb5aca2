"""Which instruments bind a subject: its own and those that its parents' texts carry down the family graph.

    inherited(node) = own(node) + union over parent edges e of { (i, path + e) : i in inherited(parent), carries(i, e) }

Relabelling never removes an inherited instrument. Cycles are walked once. A refuted edge carries nothing; a suspected
one only when asked for.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    "dataset": frozenset({"data"}),
    "weights": frozenset({"weights"}),
}
UNTOLD = "a parent you may not see"


def licence_relation(relation: Relation) -> LicenceRelation | None:
    """How the licence engine reads a lineage relation; None for those that carry nothing or everything."""
    return _READING.get(relation)


@dataclass(frozen=True, slots=True)
class Composition:
    """All bound instruments of a subject, and what the graph showed."""

    own: tuple[Bound, ...]
    inherited: tuple[Bound, ...]
    derived: bool
    adapter: bool
    suspected: tuple[Edge, ...] = ()
    unknown_data: tuple[str, ...] = ()
    cyclic: bool = False


def compose(
    knowledge: KnowledgeBase,
    family: Family,
    *,
    publishing: bool = False,
    positions: Mapping[str, str] | None = None,
    with_suspected: bool = False,
) -> Composition:
    """Bind the subject's own instruments and those that come down to it.

    Args:
        knowledge: the entries.
        family: the subject and its ancestors.
        publishing: an adapter file alone is published (its base's text counts as the position says), instead of being
            loaded together with its base (then both bind).
        positions: choices where law is disputed.
        with_suspected: walk suspected edges as if they were verified.
    """
    chosen = positions or {}
    parents: dict[str, list[Edge]] = defaultdict(list)
    for edge in family.edges:
        parents[edge.child].append(edge)
    subject = family.node(family.subject)
    found: dict[tuple[str, str, frozenset[str] | None], Bound] = {}
    unknown_data: list[str] = []
    suspected: list[Edge] = []
    cyclic = False
    # walk up from the subject; `facts` is what would still come down along the path walked so far
    stack: list[tuple[str, tuple[Edge, ...]]] = [(family.subject, ())]
    walked: set[tuple[str, tuple[Relation, ...]]] = set()
    while stack:
        node_id, path = stack.pop()
        for edge in parents[node_id]:
            if edge.status is EdgeStatus.REFUTED or edge.relation is Relation.EVALUATED_ON:
                continue
            if edge.status is EdgeStatus.SUSPECTED and not with_suspected:
                suspected.append(edge)
                continue
            if edge.parent == family.subject or any(edge.parent == e.parent for e in path):
                cyclic = True
                continue
            longer = (*path, edge)
            mark = (edge.parent, tuple(e.relation for e in longer))
            if mark in walked:
                continue
            walked.add(mark)
            node = family.node(edge.parent)
            for bound in _bind(knowledge, node, longer, publishing, chosen, unknown_data):
                found.setdefault((bound.entry.id, bound.node, bound.facts), bound)
            stack.append((edge.parent, longer))
    first = parents[family.subject]
    return Composition(
        own=tuple(_own(knowledge, subject)),
        inherited=tuple(found.values()),
        derived=any(e.relation in DERIVING and e.status is not EdgeStatus.REFUTED for e in first),
        adapter=any(e.relation is Relation.ADAPTER for e in first),
        suspected=tuple(suspected),
        unknown_data=tuple(dict.fromkeys(unknown_data)),
        cyclic=cyclic,
    )


def _own(knowledge: KnowledgeBase, node: Node) -> Iterable[Bound]:
    objects = _OBJECTS.get(node.kind, _OBJECTS["weights"])
    for instrument in node.instruments or ("none",):
        entry = knowledge.entries.get(instrument) or knowledge.entry("unknown")
        yield Bound(entry, node.id, (), None, objects, node.visible)


def _bind(
    knowledge: KnowledgeBase,
    node: Node,
    path: tuple[Edge, ...],
    publishing: bool,
    positions: Mapping[str, str],
    unknown_data: list[str],
) -> Iterable[Bound]:
    """The parent's own instruments, as far as they come down along the whole path."""
    relations = tuple(str(e.relation) for e in reversed(path))
    name = node.id if node.visible else UNTOLD
    for instrument in node.instruments or ("none",):
        entry = knowledge.entries.get(instrument) or knowledge.entry("unknown")
        facts: frozenset[str] | None = None
        carried = True
        for edge in reversed(path):  # from the parent down to the subject
            here = _carries(entry, edge.relation, publishing, positions)
            if here is None:
                carried = False
                break
            if isinstance(here, frozenset):
                facts = here if facts is None else facts & here
        if not carried:
            if entry.id in ("unknown", "none") and licence_relation(path[-1].relation) is LicenceRelation.TRAIN_ON:
                unknown_data.append(name)
            continue
        linked = all(licence_relation(e.relation) is LicenceRelation.LINK for e in path)
        objects = frozenset({"weights"}) if linked and not publishing else frozenset({"weights", "derivative"})
        if linked and publishing:
            objects = frozenset({"derivative", "adapter"})
        yield Bound(entry, name, relations, facts, objects, node.visible)


def _carries(
    entry: Entry, relation: Relation, publishing: bool, positions: Mapping[str, str]
) -> frozenset[str] | str | None:
    """Which facts come down: "all", some ids, or None for nothing."""
    if relation is Relation.MIRROR_OF:
        return "all"
    if relation in (Relation.ADAPTER, Relation.COMPONENT_OF):
        if not publishing:
            return "all"  # loaded together, each keeps its licence: the use must satisfy both
        if relation is Relation.COMPONENT_OF:
            return "all"
        named = "adapter" in entry.definitions.derivative_includes
        return "all" if named or positions.get("adapter_is_derivative") == "yes" else None
    some: set[str] = set()
    for rule in entry.propagates:
        if relation in rule.via:
            if rule.what == "all":
                return "all"
            some |= set(rule.what)
    return frozenset(some) if some else None


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
        f"{','.join(sorted(b.objects))}"
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
