"""What would make it yes: single changes of the use, tried for real, smallest first.

Facts that nobody can change (domicile, users in a month that is past, revenue) are never proposed as changes; declaring
one that is missing is.
"""

from collections.abc import Mapping

import msgspec

from ecotone.licences.composition import DERIVING, UNTOLD, Composition, relabelled
from ecotone.licences.conditions import GROUPS
from ecotone.licences.decision import Decision, Reason, Way
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.evaluate import Bound
from ecotone.licences.family import Edge, Family, Use
from ecotone.licences.weighing import HIDDEN, Weighed, weigh
from ecotone.vocabulary import Purpose, Relation, Verdict

_MOST = 6
_MOST_LEFT_OUT = 32  # of more parents than these, leaving out a single one is no advice
_SMALL = 1
_OUTSIDE = "US"
_UNKNOWN = ("unknown", "none")
_DATA = (Relation.TRAINED_ON, Relation.DISTILLED_OUTPUTS, Relation.DISTILLED_LOGITS, Relation.GENERATED_BY)


def ways_to_yes(
    knowledge: KnowledgeBase,
    family: Family,
    use: Use,
    positions: Mapping[str, str],
    weighed: Weighed,
    decision: Decision,
) -> tuple[Way, ...]:
    """Changes after which the answer passes, each with the verdict that it leads to."""
    search = _Search(knowledge, family, use, positions, weighed, decision)
    search.rename()
    search.declare()
    if not search.tell():  # where telling figures is enough, no larger change is proposed
        search.change()
    return tuple(search.found[:_MOST])


class _Search:
    """Tries changes in the order of how small they are; a change that only lacks an untold figure is joined with it."""

    def __init__(
        self,
        knowledge: KnowledgeBase,
        family: Family,
        use: Use,
        positions: Mapping[str, str],
        weighed: Weighed,
        decision: Decision,
    ) -> None:
        self.knowledge, self.family, self.use, self.positions = knowledge, family, use, positions
        self.weighed = weighed
        self.missing = decision.missing
        self.refusing = [r for r in decision.reasons if r.evaluation != "true"]
        self.figures = {m.what: _harmless(m.what) for m in decision.missing if _harmless(m.what) is not None}
        self.found: list[Way] = []
        self.bounds: dict[str, list[Bound]] = {}
        for bound in (*weighed.composition.own, *weighed.composition.inherited):
            self.bounds.setdefault(bound.node if bound.visible else UNTOLD, []).append(bound)

    def attempt(
        self,
        change: str,
        use: Use | None = None,
        family: Family | None = None,
        licensed: frozenset[tuple[str, str]] = frozenset(),
        kind: str = "change",
    ) -> bool:
        """Keep the change if it leads to yes, if need be together with the figures that nobody told."""
        if len(self.found) >= _MOST:
            return False
        other, graph = use or self.use, family or self.family
        verdict = self._verdict(graph, other, licensed)
        if not verdict.passes and self.figures:
            verdict = self._verdict(graph, _with(other, self.figures), licensed)
            change = f"{change}, and declare {self._figures()}"
        if verdict.passes:
            self.found.append(Way(change=change, verdict=verdict, kind=kind))
        return verdict.passes

    def _verdict(self, graph: Family, use: Use, licensed: frozenset[tuple[str, str]]) -> Verdict:
        kept: Composition | None = self.weighed.composition
        if use.variables.get("target_model") != self.use.variables.get("target_model"):
            kept = None
        elif graph is not self.family:
            kept = (
                relabelled(self.knowledge, graph, self.weighed.composition)
                if graph.edges is self.family.edges
                else None
            )
        elif self.weighed.refused and not licensed:
            return Verdict.DENY  # the declared licence may not stand, whatever it is used for
        return weigh(
            self.knowledge, graph, use, self.positions, licensed=licensed, composition=kept, hurried=True
        ).verdict

    def _figures(self) -> str:
        numbers = sorted(n for n, value in self.figures.items() if value == _SMALL)
        others = sorted(n for n, value in self.figures.items() if value != _SMALL)
        told = [f"{', '.join(numbers)} below the threshold"] if numbers else []
        told += [f"{', '.join(others)} outside what is excluded"] if others else []
        return " and ".join(told)

    def rename(self) -> None:
        for prefix in {d.text for d in self.weighed.total.duties if d.duty == "name_prefix" and d.status == "missing"}:
            name = f"{prefix}-{self.family.subject.rsplit('/', 1)[-1]}"
            self.attempt(f"rename it so that its name begins with {prefix!r}", _with(self.use, {"name": name}))

    def declare(self) -> None:
        """Publishing: declare what the parents demand."""
        if not self.weighed.publishing:
            return
        demanding = {b.entry.id: b for b in self.weighed.composition.inherited if b.facts is None}
        for bound in demanding.values():
            entry = bound.entry
            if entry.kind in _UNKNOWN or not bound.visible:
                continue
            label = entry.names.hf[0] if entry.names.hf else entry.expression
            other = msgspec.structs.replace(self.use, declared_licence=entry.id)
            graph = self._labelled(entry.id)
            self.attempt(f"declare `license: {label}` and ship its text, notice and policy", other, graph)

    def _labelled(self, entry_id: str) -> Family:
        node = msgspec.structs.replace(self.family.node(self.family.subject), instruments=(entry_id,))
        return msgspec.structs.replace(self.family, nodes={**self.family.nodes, self.family.subject: node})

    def change(self) -> None:
        """Larger changes, in their order."""
        self.tier()
        self.drop_data()
        self.leave_territory()
        self.purpose()
        self.classifier()
        self.drop_parent()
        self.obtain()

    def tell(self) -> bool:
        """Declare what is missing, with values that keep below the thresholds of the texts."""
        if self.figures:
            where = {f"{m.entry} {m.clause}" for m in self.missing if m.what in self.figures and m.entry != HIDDEN}
            of = f" of {', '.join(sorted(where))}" if where else ""
            change = f"declare {self._figures()}{of}"
            told, self.figures = self.figures, {}
            enough = self.attempt(change, _with(self.use, told))
            self.figures = told
            return enough
        return False

    def tier(self) -> None:
        if any(m.what == "account.tier" for m in self.missing):
            self.attempt("declare account.tier as paid", _with(self.use, {"account.tier": "paid"}))
        for tier in ("paid", "zero_retention"):
            if self.use.variables.get("account.tier") not in (None, tier):
                self.attempt(f"call the provider under the tier {tier}", _with(self.use, {"account.tier": tier}))

    def drop_data(self) -> None:
        """Leave out or replace data, one source at a time."""
        edges = [e for e in self._own_edges() if e.relation in _DATA]
        for edge in edges if len(edges) <= _MOST_LEFT_OUT else ():
            self.attempt(f"train without {self._shown(edge)}, or replace it", family=self._without(edge))

    def leave_territory(self) -> None:
        told = self.use.variables.get("territory")
        places = [str(p) for p in told] if isinstance(told, (list, tuple)) else []
        left = [p for p in places if p.upper() not in GROUPS["EEA"] | {"CH", "GB", "UK", "EU", "EEA"}]
        for place in places if len(places) > 1 else ():
            rest = [p for p in places if p != place]
            if self.attempt(f"leave {place} out of the territory", _with(self.use, {"territory": rest})):
                return
        if left and len(left) < len(places) - 1:
            self.attempt("leave the EEA, Switzerland and the UK out", _with(self.use, {"territory": left}))

    def purpose(self) -> None:
        if self.use.purpose not in (Purpose.COMMERCIAL, Purpose.INTERNAL_COMMERCIAL):
            others: tuple[Purpose, ...] = (Purpose.RESEARCH,) if self.use.purpose is Purpose.NONCOMMERCIAL else ()
        else:
            others = (Purpose.INTERNAL_COMMERCIAL, Purpose.NONCOMMERCIAL, Purpose.RESEARCH)
        for purpose in others:
            if purpose is not self.use.purpose:
                change = f"use it for purpose {purpose.value}"
                self.attempt(change, msgspec.structs.replace(self.use, purpose=purpose))

    def classifier(self) -> None:
        told = {"target_model": "classifier_internal", "target.distributed": False}
        if any(r.entry in self.knowledge.entries and _reads_target(self.knowledge, r) for r in self.refusing):
            change = (
                "make a classifier or embedding model for use inside, not to be passed on, and declare target_model"
            )
            self.attempt(f"{change} as classifier_internal", _with(self.use, told))

    def drop_parent(self) -> None:
        edges = [e for e in self._own_edges() if e.relation in DERIVING]
        for edge in edges if 1 < len(edges) <= _MOST_LEFT_OUT else ():
            self.attempt(f"make it without {self._shown(edge)}", family=self._without(edge))

    def obtain(self) -> None:
        """Permission of those who refuse, all of them: what then still refuses was tried above."""
        names: dict[str, None] = {}
        pairs: set[tuple[str, str]] = set()
        for reason in self.refusing:
            pairs |= self._behind(reason)
            names[self._wanted(reason)] = None
        if self.weighed.composition.suspected:
            rest = msgspec.structs.replace(
                self.family, edges=tuple(e for e in self.family.edges if e not in self.weighed.composition.suspected)
            )
            self.attempt("refute the suspected ancestry with evidence", family=rest)
        if names:
            self.attempt("; ".join(list(names)[:3]), licensed=frozenset(pairs), kind="obtain")

    def _behind(self, reason: Reason) -> set[tuple[str, str]]:
        """The instruments behind a reason: a policy's reason is its agreement's, a hidden one any hidden one's."""
        return {
            (b.node, b.entry.id)
            for b in self.bounds.get(reason.node, ())
            if reason.entry in (b.entry.id, HIDDEN) or any(part.ref == reason.entry for part in b.entry.incorporates)
        }

    def _wanted(self, reason: Reason) -> str:
        if reason.entry in _UNKNOWN:
            found = f"find out the licence of {reason.node}, which must permit this use"
            return f"{found}, and state it in its card with its text"
        entry = self.knowledge.entries.get(reason.entry)
        title = f" ({entry.title})" if entry else ""
        return f"obtain a licence for this use from the licensor of {reason.node}{title}"

    def _own_edges(self) -> list[Edge]:
        return [e for e in self.family.edges if e.child == self.family.subject]

    def _shown(self, edge: Edge) -> str:
        return edge.parent if self.family.node(edge.parent).visible else UNTOLD

    def _without(self, edge: Edge) -> Family:
        return msgspec.structs.replace(self.family, edges=tuple(e for e in self.family.edges if e != edge))


def _harmless(name: str) -> object:
    """A value that no text limits, for what somebody could declare; None for what is not theirs to declare."""
    if name in ("org.domicile", "org.principal_place", "territory"):
        return _OUTSIDE
    if name in ("product.competes_with", "org.core_business"):
        return []
    if name == "model.modality":
        return ["text"]
    return _SMALL if name.startswith(("org.", "product.")) else None


def _reads_target(knowledge: KnowledgeBase, reason: Reason) -> bool:
    fact = knowledge.entry(reason.entry).fact(reason.fact)
    return fact is not None and "target_model" in fact.reads


def _with(use: Use, variables: Mapping[str, object]) -> Use:
    return msgspec.structs.replace(use, variables={**use.variables, **variables})
