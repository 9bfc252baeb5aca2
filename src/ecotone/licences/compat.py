"""`compat`: may a work made from one licence by a relation be published under another? Names no licence.

"Compatible?" without the relation has no answer: a library's text may refuse a derivative and welcome a link. So the
relation is asked for, and the texts are evaluated as over a family of two works. Who publishes is taken to stay inside
the limits that the texts draw around users, revenue, places and purposes; the conditions name those limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ecotone.licences.composition import DERIVING, Composition, compose
from ecotone.licences.conditions import Facts
from ecotone.licences.decision import NOTICE, Duty, Missing, Reason
from ecotone.licences.entries import Entry, Fact, KnowledgeBase
from ecotone.licences.evaluate import Bound, evaluate, worse
from ecotone.licences.expressions import Branch
from ecotone.licences.family import Edge, Family, Node
from ecotone.licences.outbound import check as check_outbound
from ecotone.licences.sides import Side, read_side
from ecotone.vocabulary import LicenceRelation, Mode, Purpose, Relation, Verdict

RELATIONS = (*LicenceRelation, *Relation)
_LINEAGE: Mapping[LicenceRelation, Relation] = {
    LicenceRelation.DERIVE: Relation.FINETUNE,
    LicenceRelation.LINK: Relation.COMPONENT_OF,
    LicenceRelation.TRAIN_ON: Relation.TRAINED_ON,
    LicenceRelation.GENERATE: Relation.GENERATED_BY,
}
_ALONE: Mapping[str, tuple[str, ...]] = {
    LicenceRelation.AGGREGATE: ("redistribute_weights",),
    LicenceRelation.HOST: ("run", "serve_api"),
}
_REACHES_ALL = DERIVING | {Relation.COMPONENT_OF, Relation.MIRROR_OF}
_UNTOLD = frozenset({"unknown", "none", "family"})
_NO_CHILD = _UNTOLD | {"api_terms", "policy"}
_OWN_TERMS = "own_terms"
_PARENT, _CHILD = "parent", "child"


class Compatibility(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `parent` and `child` are the entries that were weighed (of an OR, the branch chosen for the parent);
    `conditions` are limits of the parent's text inside which the answer holds; `disputed` what another position in law
    would answer."""

    verdict: Verdict
    relation: str
    parent: tuple[str, ...]
    child: tuple[tuple[str, ...], ...]
    reasons: tuple[Reason, ...] = ()
    duties: tuple[Duty, ...] = ()
    possible_duties: tuple[Duty, ...] = ()
    conditions: tuple[Reason, ...] = ()
    missing: tuple[Missing, ...] = ()
    warnings: tuple[str, ...] = ()
    secondary_facts: tuple[str, ...] = ()
    positions: dict[str, str] = {}
    disputed: tuple[dict[str, str], ...] = ()
    knowledge_base: str = ""
    notice: str = NOTICE

    def to_json(self) -> dict[str, Any]:
        """The JSON form; a missing text or variable is its name."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["missing"] = [m.what for m in self.missing]
        return found


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of every parent branch."""

    knowledge: KnowledgeBase
    offered: Side
    relation: str
    positions: Mapping[str, str]
    variables: Mapping[str, Any]

    @property
    def lineage(self) -> Relation | None:
        """The lineage relation that stands for the one asked; None for those that make no child."""
        if self.relation in _ALONE:
            return None
        named = self.relation in tuple(Relation)
        return Relation(self.relation) if named else _LINEAGE[LicenceRelation(self.relation)]


@dataclass(slots=True)
class _Weighed:
    """One parent branch against the children, as it is being weighed."""

    parent: Branch
    verdict: Verdict = Verdict.ALLOW
    refusals: list[Reason] = field(default_factory=list)
    grants: list[Reason] = field(default_factory=list)
    conditions: list[Reason] = field(default_factory=list)
    duties: list[Duty] = field(default_factory=list)
    possible: list[Duty] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    secondary: list[str] = field(default_factory=list)
    mattered: set[str] = field(default_factory=set)

    def lower(self, verdict: Verdict) -> None:
        self.verdict = worse(self.verdict, verdict)


def compat(
    knowledge: KnowledgeBase,
    parent: str,
    child: str,
    relation: str = LicenceRelation.DERIVE,
    positions: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Compatibility:
    """May a work made from `parent` by `relation` be published under `child`?

    Args:
        knowledge: the entries.
        parent: an id of the knowledge base, a Hub id or an SPDX expression; of an OR any branch may be chosen.
        child: the same; of an OR each branch is offered to everybody, so each must be in order.
        relation: a licence relation (derive, link, aggregate, train_on, generate, host) or a lineage relation.
        positions: choices where law is disputed; else the stricter.
        variables: what else is known, such as `target_model` of a distillation, by the knowledge base's names.

    Raises:
        ValueError: the relation is neither.
    """
    if relation not in RELATIONS:
        raise ValueError(f"{relation!r} is no relation; there are {', '.join(map(str, RELATIONS))}")
    chosen = knowledge.default_positions() | dict(positions or {})
    question = _Question(knowledge, read_side(knowledge, child), relation, chosen, dict(variables or {}))
    inbound, offered = read_side(knowledge, parent), question.offered
    found = _best(question, inbound)
    disputed = []
    for name in sorted(found.mattered & knowledge.positions.keys()):
        for value in knowledge.positions[name]["values"]:
            if value != chosen[name]:
                other = _best(replace(question, positions=chosen | {name: value}), inbound).verdict
                if other is not found.verdict:
                    disputed.append({"position": name, "value": str(value), "verdict": str(other)})
    return Compatibility(
        verdict=found.verdict,
        relation=str(relation),
        parent=tuple(e.id for e in found.parent),
        child=tuple(tuple(e.id for e in branch) for branch in offered.branches),
        reasons=tuple(dict.fromkeys([*found.refusals, *found.grants])),
        duties=tuple(dict.fromkeys(found.duties)),
        possible_duties=tuple(dict.fromkeys(found.possible)),
        conditions=tuple(dict.fromkeys(found.conditions)),
        missing=tuple(dict.fromkeys(found.missing)),
        warnings=(*inbound.notes, *offered.notes),
        secondary_facts=tuple(dict.fromkeys(found.secondary)),
        positions={name: chosen[name] for name in sorted(found.mattered) if name in chosen},
        disputed=tuple(disputed),
        knowledge_base=knowledge.version,
    )


def _best(question: _Question, inbound: Side) -> _Weighed:
    """The parent branch with the best answer."""
    found: _Weighed | None = None
    for branch in inbound.branches:
        weighed = _weigh(question, branch)
        if found is None or weighed.verdict.rank > found.verdict.rank:
            found = weighed
    return found or _unread(question.knowledge, inbound)


def _weigh(question: _Question, branch: Branch) -> _Weighed:
    found = _Weighed(branch)
    lineage = question.lineage
    if lineage is Relation.EVALUATED_ON:
        found.grants.append(_said(branch[0], "nothing comes down to what was only measured"))
        return found
    composition = _composition(question, branch)
    found.mattered |= composition.positions
    if lineage is None:
        for bound in composition.own:
            _evaluate(found, bound, _ALONE[question.relation], question)
    else:
        for bound in composition.inherited:
            _evaluate(found, bound, _actions(bound), question)
        _unreached(found, composition, lineage)
        for declared in question.offered.branches:
            _offer(question.knowledge, found, declared, composition)
        _child_untold(found, question.offered)
    if found.verdict is Verdict.ALLOW and found.duties:
        found.verdict = Verdict.ALLOW_WITH_DUTIES
    return found


def _composition(question: _Question, branch: Branch) -> Composition:
    """The instruments of the parent as they bind the child; for relations that make no child, the parent's own."""
    lineage = question.lineage
    kind = "dataset" if lineage is Relation.TRAINED_ON else "weights"
    if any(e.kind == "api_terms" for e in branch):
        kind = "api"
    parent = Node(_PARENT, instruments=tuple(e.id for e in branch), kind=kind)
    if lineage is None:
        return compose(question.knowledge, Family(_PARENT, {_PARENT: parent}), positions=question.positions)
    child = Node(_CHILD, kind="dataset" if lineage is Relation.GENERATED_BY else "weights")
    target = question.variables.get("target_model")
    return compose(
        question.knowledge,
        Family(_CHILD, {_PARENT: parent, _CHILD: child}, (Edge(_CHILD, _PARENT, lineage),)),
        publishing=True,
        positions=question.positions,
        target_model=target if isinstance(target, str) else None,
    )


def _actions(bound: Bound) -> tuple[str, ...]:
    """What the parent's text must allow: to pass on what was made of it, or to have used its outputs so."""
    if bound.through_outputs and bound.facts is not None:
        return ("use_outputs", "publish_outputs" if Relation.GENERATED_BY in bound.path else "train_on_outputs")
    return ("redistribute_derivative",) if "derivative" in bound.objects else ("redistribute_weights",)


def _evaluate(found: _Weighed, bound: Bound, actions: tuple[str, ...], question: _Question) -> None:
    """Join what the text says of the actions. A limit around the publisher's own circumstances becomes a condition."""
    hosting = question.relation == LicenceRelation.HOST
    if hosting and "hosted_service" in bound.entry.definitions.distribution_includes:
        actions = (*actions, "redistribute_weights")
    answer = evaluate(bound, actions, Facts(_told(bound, question, hosting=hosting)))
    open_limits = [
        r
        for r in answer.against
        if r.evaluation == "unknown" and (f := bound.entry.fact(r.fact)) is not None and f.modality == "limit"
    ]
    if answer.verdict is Verdict.UNKNOWN and len(open_limits) == len(answer.against) and not answer.secondary:
        found.conditions += open_limits
    else:
        found.lower(answer.verdict)
        found.refusals += answer.against
        found.missing += answer.missing
    found.grants += answer.grants
    told = {r.fact for r in answer.against}
    narrowing = [f for f in bound.entry.facts if f.id not in told and _narrows(f, bound)]
    found.conditions += [_said(bound.entry, f.means, fact=f, evaluation="condition") for f in narrowing]
    found.duties += answer.duties
    found.possible += answer.possible
    found.secondary += answer.secondary
    found.mattered |= answer.positions


def _told(bound: Bound, question: _Question, *, hosting: bool) -> dict[str, Any]:
    """The variables of the use: somebody publishes without commerce, or hosts, and has told nothing of themselves."""
    told: dict[str, Any] = {
        "mode": str(Mode.SERVE_API if hosting else Mode.PUBLISH_WEIGHTS),
        "purpose": str(Purpose.NONCOMMERCIAL),
        "relation": bound.relation,
    }
    if not hosting:
        told |= {"modified": "derivative" in bound.objects, "target.distributed": True}
    told |= {f"policy.{name}": value for name, value in question.positions.items()}
    return told | dict(question.variables)


def _narrows(fact: Fact, bound: Bound) -> bool:
    """Whether the answer holds inside this fact only: a grant for some purposes, a ban that travels with outputs."""
    if bound.facts is not None:
        return (bound.facts is None or fact.id in bound.facts) and fact.modality in ("prohibit", "limit")
    return fact.modality == "permit" and "purpose" in fact.reads and "outputs" not in fact.object


def _unreached(found: _Weighed, composition: Composition, lineage: Relation) -> None:
    """A text that no rule carries down: of data and outputs it says nothing, of a derivative nobody read it."""
    reached = {b.entry.id for b in composition.inherited}
    for entry in found.parent:
        if entry.id in reached:
            continue
        if lineage in _REACHES_ALL:
            found.lower(Verdict.UNKNOWN)
            found.refusals.append(
                _said(entry, "the text does not speak of works made from it so", evaluation="unknown")
            )
        else:
            found.grants.append(_said(entry, "no clause reaches what was made so", evaluation="true"))


def _offer(knowledge: KnowledgeBase, found: _Weighed, declared: Branch, composition: Composition) -> None:
    """Whether this one choice of the child may stand on the parent."""
    if any(e.kind in _NO_CHILD for e in declared):
        found.lower(Verdict.UNKNOWN)
        unread = [e for e in declared if e.kind in _NO_CHILD]
        found.missing += [Missing(what="the licence of the child", entry=e.id) for e in unread]
        found.refusals += [
            _said(e, "what this label grants is not known", node=_CHILD, evaluation="unknown") for e in unread
        ]
        return
    refusals = check_outbound(knowledge, declared, composition)
    if refusals:
        found.lower(Verdict.DENY)
        found.refusals[:0] = refusals
        found.secondary += [f"{r.entry}:{r.fact}" for r in refusals if r.authority == "secondary"]
        return
    binding = [b for b in composition.inherited if b.facts is None]
    found.grants += [reason for b in binding if (reason := _door(b, declared)) is not None]
    for entry in declared:
        leans = any(b.entry.id != entry.id and _leans(b.entry) for b in binding)
        if entry.status.authority == "secondary" and leans:
            found.lower(Verdict.UNKNOWN)
            found.secondary.append(f"{entry.id}:outbound")
            found.missing.append(Missing(what=f"primary text of {entry.id}", entry=entry.id))


def _leans(parent: Entry) -> bool:
    """Whether a yes rests on the child's text as well: the parent asks something of it, or restricts something."""
    return parent.outbound.derivative != _OWN_TERMS or bool(parent.restricts) or parent.outbound.no_further_restrictions


def _door(bound: Bound, declared: Branch) -> Reason | None:
    """The clause by which a text that stays on derivatives lets this other licence stand."""
    text = bound.entry
    ids = {e.id for e in declared}
    if text.id in ids:
        return _said(text, "the licence stays the same", evaluation="true")
    if not text.outbound.derivative.startswith("same_") or ids.isdisjoint(
        {*text.outbound.listed, *text.outbound.upgrade}
    ):
        return None
    ways = [f for f in text.facts if f.modality == "permit" and "relicense" in f.action]
    later = [f for f in ways if f.id == "later"] if ids & set(text.outbound.upgrade) else []
    fact = next(iter([*later, *ways]), None)
    return _said(text, fact.means if fact else "this licence is named as compatible", fact=fact, evaluation="true")


def _child_untold(found: _Weighed, offered: Side) -> None:
    """Some of what the child offers could not be read, so a yes is not known to hold for all of it."""
    minded = not offered.exact and any(_leans(e) for e in found.parent)  # an exception gives away more
    if offered.branches and not offered.cut and not minded:
        return
    found.lower(Verdict.UNKNOWN)
    found.missing.append(Missing(what="the licence of the child", entry="unknown"))


def _unread(knowledge: KnowledgeBase, inbound: Side) -> _Weighed:
    """The answer where nothing of the parent could be read."""
    unknown = knowledge.entry("unknown")
    found = _Weighed((unknown,), Verdict.UNKNOWN)
    words = next(iter(inbound.notes), "the parent's licence is not known")
    found.refusals.append(_said(unknown, words, evaluation="unknown"))
    found.missing.append(Missing(what="the licence of the parent", entry=unknown.id))
    return found


def _said(
    entry: Entry, means: str, *, fact: Fact | None = None, node: str = _PARENT, evaluation: str = "true"
) -> Reason:
    return Reason(
        node=node,
        path=(),
        entry=entry.id,
        fact=fact.id if fact else "outbound",
        clause=fact.clause.sec if fact else "whole text",
        means=means,
        evaluation=evaluation,
        authority=entry.authority(fact) if fact else entry.status.authority,
    )
