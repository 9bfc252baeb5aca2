"""The family graph of a whole hub: what binds each of a million nodes, kept up to date as nodes and edges change.

Parents come before children; the members of a cycle share what comes down to any of them. Inherited sets are interned
(`Inheritance`), so a node costs a few look-ups. Nodes under which every verdict is equal are of one legal class, and a
use is judged once for each class. A change is followed down only as far as sets change.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import Any

from ecotone.licences.composition import Composition
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.evaluate import PUBLISHING, worse
from ecotone.licences.family import Edge, Family, Node, Use
from ecotone.licences.inheritance import EMPTY, RELATIONS, Inheritance
from ecotone.licences.order import SHIFT, ordered
from ecotone.licences.weighing import weigh
from ecotone.vocabulary import EdgeStatus, Relation, Verdict

_CODES: Mapping[Relation, int] = {relation: i for i, relation in enumerate(RELATIONS)}
_SUSPECTED = 1
_UNKNOWN = ("unknown",)


class FamilyGraph:
    """Nodes by number and by id, with what they inherit.

    Args:
        knowledge: the entries.
        positions: the organisation's choices where law is disputed; else the stricter.
        publishing: read for modes that publish (see `compose`), not for those that use.
        target_model: what kind of model was made from outputs, where that was told.
    """

    def __init__(
        self,
        knowledge: KnowledgeBase,
        *,
        positions: Mapping[str, str] | None = None,
        publishing: bool = False,
        target_model: str | None = None,
    ) -> None:
        self._knowledge = knowledge
        self._positions = knowledge.default_positions() | dict(positions or {})
        self._publishing, self._target = publishing, target_model
        self.sets = Inheritance(knowledge, publishing=publishing, positions=self._positions, target_model=target_model)
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []
        self._parents: list[list[int]] = []
        self._children: list[list[int] | None] = []
        self._own: list[int] = []
        self._owns: list[tuple[Node, int]] = []
        self._own_numbers: dict[Any, int] = {}
        self._inherited: list[int] = []
        self._down: list[int] = []
        self._rank: list[int] = []
        self._next_rank = 0
        self._cycles: dict[int, tuple[int, ...]] = {}
        self._stale = False
        self._classes: dict[tuple[int, int], int] = {}
        self._class_of: dict[Any, int] = {}
        self._sample: list[tuple[int, int]] = []
        self._suspicion = self.sets.suspected()

    def __len__(self) -> int:
        return len(self._ids)

    @classmethod
    def of(
        cls, knowledge: KnowledgeBase, nodes: Iterable[Node], edges: Iterable[Edge], **reading: Any
    ) -> "FamilyGraph":
        """The graph of these nodes and edges, computed. A parent that is no node has unknown instruments."""
        graph = cls(knowledge, **reading)
        graph.load(nodes, edges)
        graph.recompute()
        return graph

    # -- reading -----------------------------------------------------------------------------------------------------
    def inherited(self, node_id: str) -> tuple[str, ...]:
        """Ids of all instruments that bind a node, its own first, sorted within each group (as `inherited` does)."""
        number = self._at(node_id)
        composition = self.sets.composition(self._owns[self._own[number]][0], self._inherited[number])
        own = sorted({b.entry.id for b in composition.own})
        return (*own, *sorted({b.entry.id for b in composition.inherited} - set(own)))

    def legal_class(self, node_id: str) -> int:
        """A number that is equal for two nodes only when every verdict on them under this reading is equal."""
        number = self._at(node_id)
        return self._class(self._own[number], self._inherited[number])

    def classes(self) -> list[int]:
        """The legal class of every node, in the order in which nodes were added."""
        self._refresh()
        known, found = self._classes, []
        for pair in zip(self._own, self._inherited, strict=True):
            number = known.get(pair)
            found.append(self._class(*pair) if number is None else number)
        return found

    def verdict(self, node_id: str, use: Use) -> Verdict:
        return self.verdict_of(self.legal_class(node_id), use)

    def verdicts(self, use: Use) -> dict[int, Verdict]:
        """The verdict on every legal class that some node has.

        Where nothing is published, the worst answer of all that binds is the answer: each strand is judged once, and a
        class is answered by its bits. Publishing asks what stands beside what, so each class is judged whole.
        """
        classes = sorted(set(self.classes()))
        if self._publishing:
            return {number: self.verdict_of(number, use) for number in classes}
        self._check(use)
        owns: dict[int, Verdict] = {}
        reached: dict[str, list[tuple[Verdict, int]]] = {}
        found = {}
        for number in classes:
            own, inherited = self._sample[number]
            if own not in owns:
                node = self._owns[own][0]
                owns[own] = self._weigh(own, self.sets.composition(node, EMPTY), use)
                if node.kind not in reached:
                    reached[node.kind] = self._strands_reaching(own, use)
            mask, bits = self.sets.masks[inherited], reached[self._owns[own][0].kind]
            found[number] = worse(owns[own], next((v for v, strands in bits if mask & strands), Verdict.ALLOW))
        return found

    def _strands_reaching(self, own: int, use: Use) -> list[tuple[Verdict, int]]:
        """The strands that lead nodes of this kind to each verdict but the best, worst first."""
        found = dict.fromkeys(Verdict, 0)
        for mask, composition in self.sets.each():
            found[self._weigh(own, composition, use)] |= mask
        return [(verdict, mask) for verdict, mask in found.items() if verdict is not Verdict.ALLOW]

    def verdict_of(self, legal_class: int, use: Use) -> Verdict:
        """The verdict on a legal class.

        Raises:
            ValueError: when the use is of the other reading than the graph.
        """
        self._check(use)
        own, inherited = self._sample[legal_class]
        return self._weigh(own, self.sets.composition(self._owns[own][0], inherited), use)

    def _check(self, use: Use) -> None:
        target = use.variables.get("target_model")
        told = target if isinstance(target, str) else None
        if (use.mode in PUBLISHING) is not self._publishing or told != self._target:
            raise ValueError("The use publishes, or makes another kind of model, than the graph was read for.")

    def _weigh(self, own: int, composition: Composition, use: Use) -> Verdict:
        node = self._owns[own][0]
        family = Family(node.id, {node.id: node})
        return weigh(self._knowledge, family, use, self._positions, composition=composition).verdict

    def cyclic(self, node_id: str) -> bool:
        """Whether the node is a member of a cycle."""
        number = self._at(node_id)
        return number in self._cycles.get(self._rank[number], ())

    # -- changing ----------------------------------------------------------------------------------------------------
    def load(self, nodes: Iterable[Node], edges: Iterable[Edge]) -> None:
        """Take in many nodes and edges; what they inherit is computed at the next question."""
        for node in nodes:
            self._place(node)
        for edge in edges:
            self._connect(edge)
        self._stale = True

    def put(self, node: Node, edges: Iterable[Edge] | None = None) -> int:
        """Add a node or change its instruments, kind or facts, and its edges to parents if given; follow the change.

        Returns:
            How many nodes were looked at anew.
        """
        self._refresh()
        number = self._place(node)
        if edges is not None:
            for code in self._parents[number]:
                siblings = self._children[code >> SHIFT]
                if siblings is not None and number in siblings:
                    siblings.remove(number)
            self._parents[number] = []
            for edge in edges:
                self._connect(edge)
            self._order(number)
        return len(self) if self._stale else self._follow([number])

    def _place(self, node: Node) -> int:
        kind = (node.instruments, node.kind, repr(sorted(node.facts.items())) if node.facts else "")
        own = self._own_numbers.get(kind)
        if own is None:
            own = self._own_numbers[kind] = len(self._owns)
            alike = Node("a node", instruments=node.instruments, kind=node.kind, facts=node.facts)
            self._owns.append((alike, self.sets.own(alike)))
        number = self._numbers.get(node.id)
        if number is not None:
            self._own[number] = own
            return number
        number = self._numbers[node.id] = len(self._ids)
        self._ids.append(node.id)
        self._parents.append([])
        self._children.append(None)
        self._own.append(own)
        self._inherited.append(EMPTY)
        self._down.append(self._owns[own][1])
        self._rank.append(self._next_rank)
        self._next_rank += 1
        return number

    def _connect(self, edge: Edge) -> None:
        if edge.status is EdgeStatus.REFUTED or edge.relation is Relation.EVALUATED_ON or edge.child == edge.parent:
            return
        child, parent = (self._number(name) for name in (edge.child, edge.parent))
        code = parent << SHIFT | _CODES[edge.relation] << 1 | (edge.status is EdgeStatus.SUSPECTED)
        self._parents[child].append(code)
        children = self._children[parent]
        if children is None:
            self._children[parent] = [child]
        else:
            children.append(child)

    def _number(self, node_id: str) -> int:
        found = self._numbers.get(node_id)
        return self._place(Node(node_id, instruments=_UNKNOWN)) if found is None else found

    def _at(self, node_id: str) -> int:
        self._refresh()
        return self._numbers[node_id]

    def _refresh(self) -> None:
        if self._stale:
            self.recompute()

    # -- computing ---------------------------------------------------------------------------------------------------
    def recompute(self) -> None:
        """Everything anew, parents before children, the members of a cycle together."""
        self._stale = False
        self._cycles = {}
        order, members = ordered(self._parents, self._children)
        for rank, number in enumerate(order):
            self._rank[number] = rank
        self._next_rank = len(order)
        for cycle in members:
            first = min(self._rank[n] for n in cycle)
            self._cycles[first] = cycle
            for number in cycle:
                self._rank[number] = first
        inherited, down, ranks, cycles = self._inherited, self._down, self._rank, self._cycles
        for number in order:
            if cycles and ranks[number] in cycles:
                if number == cycles[ranks[number]][0]:
                    self._settle(cycles[ranks[number]])
                continue
            found = inherited[number] = self._arriving(number) if self._parents[number] else EMPTY
            down[number] = self.sets.joined(found, self._owns[self._own[number]][1])

    def _arriving(self, number: int) -> int:
        """The set that comes down to a node from its parents as they are now."""
        sets, down = self.sets, self._down
        found = [
            self._suspicion if code & _SUSPECTED else sets.crossed(down[code >> SHIFT], code >> 1 & 31)
            for code in self._parents[number]
        ]
        if len(found) == 1:
            return found[0]
        if len(found) == 2:
            return sets.joined(*found)
        mask = 0
        for one in set(found):
            mask |= sets.masks[one]
        return sets.intern(mask)

    def _settle(self, cycle: tuple[int, ...]) -> None:
        """The least sets that agree around a cycle."""
        for number in cycle:
            self._inherited[number] = EMPTY
            self._down[number] = self._owns[self._own[number]][1]
        within = set(cycle)
        waiting = dict.fromkeys(cycle)
        while waiting:
            number = next(iter(waiting))
            del waiting[number]
            found = self._arriving(number)
            if found != self._inherited[number]:
                self._inherited[number] = found
                self._down[number] = self.sets.joined(found, self._owns[self._own[number]][1])
                waiting |= dict.fromkeys(c for c in self._children[number] or () if c in within)

    def _follow(self, changed: Iterable[int]) -> int:
        """Look at nodes and, where what they hand down has changed, at their children; parents first."""
        queue = [(self._rank[n], n) for n in changed]
        waiting = {n for _, n in queue}
        heapq.heapify(queue)
        looked = 0
        while queue:
            rank, number = heapq.heappop(queue)
            if number not in waiting:
                continue
            group = self._cycles.get(rank, (number,))
            before = [self._down[n] for n in group]
            waiting.difference_update(group)
            looked += len(group)
            if len(group) > 1:
                self._settle(group)
            else:
                self._inherited[number] = self._arriving(number) if self._parents[number] else EMPTY
                self._down[number] = self.sets.joined(self._inherited[number], self._owns[self._own[number]][1])
            for member, down in zip(group, before, strict=True):
                if self._down[member] != down:
                    for child in self._children[member] or ():
                        if child not in waiting and child not in group:
                            waiting.add(child)
                            heapq.heappush(queue, (self._rank[child], child))
        return looked

    def _order(self, number: int) -> None:
        """Keep parents before children after a node got new ones: where one stands later, the node and all below it
        move to the end. A new cycle, which no honest card has, makes everything be computed anew."""
        late = {c >> SHIFT for c in self._parents[number] if self._rank[c >> SHIFT] >= self._rank[number]}
        if not late:
            return
        below = {number}
        stack = [number]
        while stack:
            for child in self._children[stack.pop()] or ():
                if child not in below:
                    below.add(child)
                    stack.append(child)
        if not late.isdisjoint(below):
            self._stale = True
            return
        places: dict[int, int] = {}
        for member in sorted(below, key=lambda n: self._rank[n]):
            old = self._rank[member]
            if old not in places:
                places[old] = self._next_rank
                self._next_rank += 1
                if old in self._cycles:
                    self._cycles[places[old]] = self._cycles.pop(old)
            self._rank[member] = places[old]

    def _class(self, own: int, inherited: int) -> int:
        found = self._classes.get((own, inherited))
        if found is None:
            meaning = (own, self.sets.meaning(inherited))
            found = self._class_of.setdefault(meaning, len(self._sample))
            if found == len(self._sample):
                self._sample.append((own, inherited))
            self._classes[own, inherited] = found
        return found
