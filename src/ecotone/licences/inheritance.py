"""Sets of inherited instruments, interned: what `compose` finds by walking a family, as arithmetic on bit sets.

A strand is one instrument as it has come down so far: the entry, the relations on its way, and what was made of the
ancestor. Strands that no later relation and no condition of their text can tell apart are one, so a graph of a million
nodes knows few sets. Sets are numbers; `crossed` and `joined` are memoised. Knows no nodes.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ecotone.licences.composition import Composition, Descent
from ecotone.licences.conditions import compared
from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.evaluate import Bound
from ecotone.licences.family import Edge, Node
from ecotone.vocabulary import EdgeStatus, Relation

RELATIONS = tuple(r for r in Relation if r is not Relation.EVALUATED_ON)
ANCESTOR = "an ancestor"
_SOURCED = frozenset({Relation.TRAINED_ON, Relation.GENERATED_BY})
_ONE_WORK = frozenset({Relation.MIRROR_OF, Relation.ADAPTER, Relation.COMPONENT_OF})  # nothing new was made yet
_LATER = (frozenset[Relation](), *(frozenset({r}) for r in _SOURCED), _SOURCED)
_TRANSFORMS = (Relation.QUANTISED, Relation.CONVERTED)
_SUSPICION = Edge("a descendant", ANCESTOR, Relation.FINETUNE, EdgeStatus.SUSPECTED)
_CODE = "code"
_SUSPECTED = 0  # the strand that says: some ancestry is only suspected
EMPTY = 0


class Strand(NamedTuple):
    """An instrument on its way down from a node of a kind; `made` is None at that node itself."""

    entry: int
    kind: str
    relations: frozenset[Relation]
    made: Relation | None
    told: str


class Bind(NamedTuple):
    """How a strand binds whoever it has come down to, if at all."""

    bound: Bound | None
    unknown_data: bool


class Inheritance:
    """Interned sets of strands under one reading (see `Descent`)."""

    def __init__(
        self,
        knowledge: KnowledgeBase,
        *,
        publishing: bool = False,
        positions: Mapping[str, str] | None = None,
        target_model: str | None = None,
    ) -> None:
        self._knowledge = knowledge
        self._descent = Descent(
            publishing=publishing,
            positions=knowledge.default_positions() | dict(positions or {}),
            target_model=target_model,
        )
        self._entries = tuple(knowledge.entries.values())
        self._index = {e.id: i for i, e in enumerate(self._entries)}
        self._tales = tuple(_Tale.of(knowledge, e) for e in self._entries)
        self._strands: list[Strand] = [Strand(-1, "", frozenset(), None, "")]
        self._number: dict[Any, int] = {}
        self._steps: dict[tuple[int, Relation], int] = {}
        self.masks: list[int] = [0]
        self._sets: dict[int, int] = {0: EMPTY}
        self._crossed: dict[tuple[int, int], int] = {}
        self._joined: dict[tuple[int, int], int] = {}
        self._fresh: dict[tuple[tuple[str, ...], str, str], int] = {}
        self._meanings: dict[Any, int] = {}
        self._meant: dict[int, int] = {}

    # -- sets --------------------------------------------------------------------------------------------------------
    def own(self, node: Node) -> int:
        """The set that a node's own instruments give to its children."""
        told = json.dumps(node.facts, sort_keys=True, default=str) if node.facts else ""
        found = self._fresh.get((node.instruments, node.kind, told))
        if found is None:
            mask = 0
            for instrument in node.instruments or ("none",):
                index = self._index.get(instrument, self._index["unknown"])
                kept = self._tales[index].told(node.facts) if told else ""
                mask |= 1 << self._strand(Strand(index, node.kind, frozenset(), None, kept))
            found = self._fresh[node.instruments, node.kind, told] = self.intern(mask)
        return found

    def suspected(self) -> int:
        """The set that says: some of this ancestry is only suspected."""
        return self.intern(1 << _SUSPECTED)

    def crossed(self, number: int, relation: int) -> int:
        """What comes down an edge; `relation` counts in `RELATIONS`."""
        found = self._crossed.get((number, relation))
        if found is None:
            mask = 0
            for bit in _bits(self.masks[number]):
                step = self._step(bit, RELATIONS[relation])
                if step >= 0:
                    mask |= 1 << step
            found = self._crossed[number, relation] = self.intern(mask)
        return found

    def joined(self, one: int, other: int) -> int:
        """The union of two sets."""
        if one == other or not other:
            return one
        if not one:
            return other
        found = self._joined.get((one, other))
        if found is None:
            found = self._joined[one, other] = self.intern(self.masks[one] | self.masks[other])
        return found

    def intern(self, mask: int) -> int:
        found = self._sets.get(mask)
        if found is None:
            found = self._sets[mask] = len(self.masks)
            self.masks.append(mask)
        return found

    # -- what a set means --------------------------------------------------------------------------------------------
    def instruments(self, number: int) -> frozenset[str]:
        """Ids of the entries that bind through a set."""
        return frozenset(b.entry.id for b in self.bounds(number))

    def bounds(self, number: int) -> tuple[Bound, ...]:
        return tuple(bind.bound for bind in self._binds(number) if bind.bound is not None)

    def composition(self, node: Node, number: int) -> Composition:
        """The composition of a node whose inherited set is known, with ancestors that have no names."""
        binds = self._binds(number)
        return Composition(
            own=self._descent.own(self._knowledge, node),
            inherited=tuple(bind.bound for bind in binds if bind.bound is not None),
            derived=False,
            adapter=False,
            suspected=(_SUSPICION,) if self.masks[number] & 1 << _SUSPECTED else (),
            unknown_data=(ANCESTOR,) if any(bind.unknown_data for bind in binds) else (),
        )

    def _binds(self, number: int) -> list[Bind]:
        return [self._bind(self._strands[bit]) for bit in _bits(self.masks[number]) if bit != _SUSPECTED]

    def meaning(self, number: int) -> int:
        """A number that is equal for two sets under which every verdict is equal."""
        found = 0
        for bit in _bits(self.masks[number]):
            meant = self._meant.get(bit)
            found |= self._meaning_of(bit) if meant is None else meant
        return found

    def _meaning_of(self, bit: int) -> int:
        """One bit for each way of binding; none for a strand that binds to nothing so far."""
        key: Any = _SUSPECTED
        if bit != _SUSPECTED:
            key = _key(self._bind(self._strands[bit]), self._strands[bit].told)
        found = 0 if key is None else 1 << self._meanings.setdefault(key, len(self._meanings))
        self._meant[bit] = found
        return found

    def each(self) -> Iterable[tuple[int, Composition]]:
        """Every strand that binds as the mask of it alone, with the composition that holds nothing else."""
        for bit in range(1, len(self._strands)):
            if self._strands[bit].made is not None:
                bound = self._bind(self._strands[bit]).bound
                if bound is not None:
                    yield 1 << bit, Composition((), (bound,), derived=False, adapter=False)

    # -- strands -----------------------------------------------------------------------------------------------------
    def _step(self, bit: int, relation: Relation) -> int:
        """The strand after one more relation; -1 when nothing of it can come down any more."""
        found = self._steps.get((bit, relation))
        if found is None:
            found = bit if bit == _SUSPECTED else self._stepped(self._strands[bit], relation)
            self._steps[bit, relation] = found
        return found

    def _stepped(self, strand: Strand, relation: Relation) -> int:
        made = self._tales[strand.entry].made(self._descent.telling(relation, strand.made))
        after = strand._replace(relations=strand.relations | {relation}, made=made)
        return self._strand(after) if self._alive(after) else -1

    def _strand(self, strand: Strand) -> int:
        """The number of a strand, the same for all that behave alike from here on."""
        key: tuple[Any, ...] = (strand.entry, strand.made, strand.told)
        if strand.made is None:
            key += (strand.kind,)
        elif strand.kind == _CODE:
            key += (strand.kind, strand.relations)
        else:
            kept = strand.relations if strand.relations <= _ONE_WORK else strand.relations & _SOURCED
            key += (kept, *(_key(self._bind(later), "") for later in _later(strand)))
        found = self._number.get(key)
        if found is None:
            found = self._number[key] = len(self._strands)
            self._strands.append(strand)
        return found

    def _alive(self, strand: Strand) -> bool:
        """Whether anything of it binds now or may after further relations: each only takes away, but for data made by
        a model and then trained on, which is being distilled from it. Code counts otherwise once weights are made."""
        if strand.kind == _CODE or self._entries[strand.entry].kind in ("unknown", "none"):
            return True
        return any(self._bind(later).bound is not None for later in _later(strand))

    def _bind(self, strand: Strand) -> Bind:
        assert strand.made is not None
        told = json.loads(strand.told) if strand.told else {}
        node = Node(ANCESTOR, instruments=(self._entries[strand.entry].id,), kind=strand.kind, facts=told)
        return Bind(*self._descent.bind(self._knowledge, node, strand.relations, strand.made))


class _Tale(NamedTuple):
    """What the conditions of an entry and of its policies read: names of relations, and variables."""

    relations: frozenset[str]
    variables: frozenset[str]

    @classmethod
    def of(cls, knowledge: KnowledgeBase, entry: Entry) -> "_Tale":
        texts = [entry, *(knowledge.entries[p.ref] for p in entry.incorporates if p.ref in knowledge.entries)]
        facts = [fact for text in texts for fact in text.facts]
        relations = {str(v) for fact in facts for c in fact.conditions for v in compared(c, "relation")}
        return cls(frozenset(relations), frozenset().union(*(fact.reads for fact in facts)))

    def made(self, relation: Relation) -> Relation:
        """The first relation that no condition tells apart from this one, and that covers others as it does."""
        if relation in self.relations:
            return relation
        alike = (r for r in RELATIONS if (r in _TRANSFORMS) is (relation in _TRANSFORMS) and r not in self.relations)
        return next(alike)

    def told(self, facts: Mapping[str, Any]) -> str:
        """The facts of a node that the text reads, as text."""
        kept = {name: value for name, value in facts.items() if name in self.variables}
        return json.dumps(kept, sort_keys=True, default=str) if kept else ""


def _later(strand: Strand) -> Iterable[Strand]:
    """The strand as it is, and as it would be after the relations that work together."""
    return (strand._replace(relations=strand.relations | more) for more in _LATER)


def _key(bind: Bind, told: str) -> Any:
    """What a verdict can see of a binding; None when it can see nothing."""
    bound = bind.bound
    if bound is None:
        return bind.unknown_data or None
    linked = frozenset(bound.path) if _ONE_WORK.issuperset(bound.path) else Relation.TRAINED_ON in bound.path
    asked = (bound.facts, bound.objects, bound.through_outputs, bound.relation)
    return bound.entry.id, asked, linked, told, bind.unknown_data


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
