"""What is owed: the duties of every text that binds a work, each with the work that it came from. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ecotone.licences.composition import DERIVING, UNTOLD
from ecotone.licences.decision import Duty, Reason
from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.evaluate import PUBLISHING, Bound
from ecotone.licences.family import Family, Node, Use
from ecotone.licences.identify import declared_branches
from ecotone.licences.judge import judge
from ecotone.licences.outbound import check
from ecotone.licences.weighing import answers, composed
from ecotone.vocabulary import EdgeStatus, Relation

HIDDEN = "hidden"
_NO_LICENCE = ("unknown", "none")
_MADE_FROM = DERIVING | {Relation.ADAPTER}


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """One duty. `nodes` are the works whose text asks for it; `relation` what the subject is to the first of them."""

    duty: str
    entry: str
    clause: str
    means: str
    text: str | None = None
    where: tuple[str, ...] = ()
    ref: str | None = None
    file: str | None = None
    to: str | None = None
    nodes: tuple[str, ...] = ()
    relation: str | None = None
    variables: tuple[str, ...] = ()


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """A work of whose licence nothing sure is known, and what to do about it."""

    node: str
    reason: str
    todo: str


class Bearing(msgspec.Struct, frozen=True, kw_only=True):
    """A text that binds the work: its entry, and the works that are under it."""

    entry: str
    title: str
    nodes: tuple[str, ...]


class Owing(msgspec.Struct, frozen=True, kw_only=True):
    """All that a work owes under a use.

    Attributes:
        name: what the work is called; `named` is False where that is only what its folder is called.
        owed: duties that arise.
        possible: those that arise if something holds that was not told (`variables`).
        unknown: works whose licence is not known: what they ask for is not among the duties.
        refused: why the licence that the card declares may not stand: entry, clause, means.
        notes: what was assumed.
        reasons: what speaks against the use, should it not be allowed.
    """

    family: Family
    use: Use
    name: str
    verdict: str
    owed: tuple[Owed, ...]
    possible: tuple[Owed, ...]
    texts: tuple[Bearing, ...]
    unknown: tuple[Unknown, ...] = ()
    refused: tuple[Owed, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    named: bool = True


def owing(
    knowledge: KnowledgeBase,
    family: Family,
    use: Use,
    positions: Mapping[str, str] | None = None,
    *,
    declared: str | None = None,
) -> Owing:
    """What a work owes.

    A parent of unknown licence is taken to be, beside that, under what the card of its child declares: a derivative
    that says "llama3.1" is then at least named and noticed as that asks. It stays in `unknown`.

    Args:
        knowledge: the entries.
        family: the work with its ancestors.
        use: what is done with it; `variables["name"]` is the name that it is published under.
        positions: choices where law is disputed; else the stricter.
        declared: the licence that the card declares, as written; by default the work's instruments stand for it.
    """
    chosen = knowledge.default_positions() | dict(positions or {})
    made, assumed = _filled(knowledge, family)
    derived = _made_from(family)
    found: dict[tuple[Any, ...], Owed] = {}
    possible: dict[tuple[Any, ...], Owed] = {}
    bearing: dict[str, list[str]] = {}
    said = list(answers(knowledge, made, use, chosen))
    inherited = [b.entry for b, _ in said if b.path and b.visible and (b.facts is None or b.entry.kind == "policy")]
    for bound, answer in said:
        if not bound.path and derived and any(_repeats(bound.entry, e) for e in inherited):
            continue  # what was made of the parent decides, not that the child repeats its label
        if bound.entry.kind not in _NO_LICENCE and bound.facts is None and bound.visible:
            bearing.setdefault(bound.entry.id, []).append(bound.node)
        for duties, into in ((answer.duties, found), (answer.possible, possible)):
            for duty in duties:
                _add(into, _owed(knowledge, bound, duty))
    decision = judge(knowledge, family, use, chosen)
    for duty in decision.possible_duties:
        if duty.entry == "unknown":  # data of which no licence is known: no text speaks of it
            _add(possible, _plain(family, duty))
    name = str(use.variables.get("name") or family.subject.rsplit("/", 1)[-1])
    return Owing(
        family=family,
        use=use,
        name=name,
        verdict=str(decision.verdict),
        owed=tuple(found.values()),
        possible=tuple(one for key, one in possible.items() if key not in found),
        texts=tuple(
            Bearing(entry=i, title=knowledge.entry(i).title, nodes=tuple(dict.fromkeys(nodes)))
            for i, nodes in bearing.items()
        ),
        unknown=_unknown(family),
        refused=_refused(knowledge, family, use, chosen, declared),
        notes=tuple(dict.fromkeys((*assumed, *decision.warnings))),
        reasons=tuple(r for r in decision.reasons if r.evaluation != "true"),
    )


def _repeats(own: Entry, inherited: Entry) -> bool:
    """Whether a label says what came down already: the same text, or one of the versions that its Hub id stands for."""
    return own.id == inherited.id or (own.family == inherited.family and bool({*own.names.hf} & {*inherited.names.hf}))


def _filled(knowledge: KnowledgeBase, family: Family) -> tuple[Family, list[str]]:
    """The family with the child's own texts put on direct parents whose licence is not known."""
    own = tuple(i for i in family.node(family.subject).instruments if i not in _NO_LICENCE and i in knowledge.entries)
    nodes, notes = dict(family.nodes), []
    for edge in family.edges:
        if edge.child != family.subject or edge.relation not in _MADE_FROM or not own:
            continue
        parent = family.node(edge.parent)
        if set(parent.instruments or _NO_LICENCE) <= set(_NO_LICENCE):
            nodes[parent.id] = msgspec.structs.replace(parent, instruments=own)
            shown = parent.id if parent.visible else UNTOLD
            notes.append(
                f"the licence of {shown} is not known here; taken to be at least {' and '.join(own)}, as the card of "
                "its child says"
            )
    return msgspec.structs.replace(family, nodes=nodes), notes


def _made_from(family: Family) -> bool:
    return any(
        e.child == family.subject and e.relation in _MADE_FROM and e.status is not EdgeStatus.REFUTED
        for e in family.edges
    )


def _unknown(family: Family) -> tuple[Unknown, ...]:
    """Works that were passed on with the subject or in it and of which no licence is known. Data sets of unknown
    licence are a matter of position, and stand among the possible duties."""
    found = []
    bearing = {e.parent for e in family.edges if e.relation not in (Relation.TRAINED_ON, Relation.EVALUATED_ON)}
    for node in _nodes(family):
        if node.id != family.subject and node.id not in bearing:
            continue
        instruments = set(node.instruments or ("none",))
        if instruments.isdisjoint(_NO_LICENCE):
            continue
        none = "none" in instruments
        own = node.id == family.subject
        shown = node.id if node.visible else UNTOLD
        todo = (
            "declare `license` in its card, with the licence file"
            if own
            else f"let its card declare it, or, for a folder, give its files or licence: --parent {shown}=DIR"
        )
        why = "it declares no licence" if none else "its licence is not one that is known here"
        found.append(Unknown(node=shown, reason=why, todo=todo))
    return tuple(found)


def _nodes(family: Family) -> list[Node]:
    ids = dict.fromkeys([family.subject, *family.nodes, *(e.parent for e in family.edges)])
    return [family.node(i) for i in ids]


def _owed(knowledge: KnowledgeBase, bound: Bound, duty: Duty) -> Owed:
    if not bound.visible:
        return Owed(
            duty=duty.duty,
            entry=HIDDEN,
            clause="not shown",
            means=f"asked by {UNTOLD}",
            nodes=(UNTOLD,),
            relation=bound.relation,
            variables=duty.variables,
        )
    params = _params(bound.entry, duty)
    return Owed(
        duty=duty.duty,
        entry=duty.entry,
        clause=duty.clause,
        means=duty.means,
        text=_string(params.get("text")),
        where=duty.where,
        ref=_string(params.get("ref")) if params.get("ref") in knowledge.entries else None,
        file=_string(params.get("file")),
        to=_string(params.get("to")),
        nodes=(bound.node,),
        relation=bound.relation,
        variables=duty.variables,
    )


def _plain(family: Family, duty: Duty) -> Owed:
    return Owed(
        duty=duty.duty,
        entry=duty.entry,
        clause=duty.clause,
        means=duty.means,
        where=duty.where,
        nodes=(family.subject,),
        variables=duty.variables,
    )


def _params(entry: Entry, duty: Duty) -> Mapping[str, Any]:
    """Parameters of the fact that a duty was made of."""
    for fact in entry.facts:
        if (fact.modality, fact.duty, fact.clause.sec, fact.means) == (
            "require",
            duty.duty,
            duty.clause,
            duty.means,
        ):
            return fact.params
    return {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _add(found: dict[tuple[Any, ...], Owed], one: Owed) -> None:
    key = (one.duty, one.entry, one.clause, one.text, one.means)
    before = found.get(key)
    if before is None:
        found[key] = one
    elif not set(one.nodes) <= set(before.nodes):
        found[key] = msgspec.structs.replace(before, nodes=(*before.nodes, *one.nodes))


def _refused(
    knowledge: KnowledgeBase, family: Family, use: Use, positions: Mapping[str, str], declared: str | None
) -> tuple[Owed, ...]:
    """The inherited texts that the declared licence may not stand beside, once each."""
    if use.mode not in PUBLISHING:
        return ()
    composition = composed(knowledge, family, use, positions)
    own = tuple(b.entry for b in composition.own if b.entry.kind not in _NO_LICENCE)
    branches = declared_branches(knowledge, declared) or ((own,) if own else ())
    hidden = {(b.node, b.entry.id) for b in composition.inherited if not b.visible}
    reasons = [r for branch in branches for r in check(knowledge, branch, composition)]
    found: dict[str, Owed] = {}
    for reason in reasons:
        if (reason.node, reason.entry) not in hidden:
            found.setdefault(
                reason.entry,
                Owed(
                    duty="declared_licence",
                    entry=reason.entry,
                    clause=reason.clause,
                    means=reason.means,
                    where=("model_card",),
                    nodes=(reason.node,),
                ),
            )
    return tuple(found.values())
