"""Which licence may a derivative carry, and why not the others. Names no licence: all comes from the entries."""

from collections.abc import Iterable, Mapping

import msgspec

from ecotone.licences.composition import Composition, compose
from ecotone.licences.conditions import Facts
from ecotone.licences.decision import Duty, Reason
from ecotone.licences.entries import Entry, Fact, KnowledgeBase
from ecotone.licences.evaluate import Bound, evaluate
from ecotone.licences.family import Family
from ecotone.vocabulary import Mode, Relation

# restrictions that a licence withholds from everybody downstream: a label without them would grant what is not there
WITHHOLDING = frozenset(
    {"noncommercial", "use_restriction", "field_of_use", "territory", "mau", "revenue", "no_competing_models"}
)
_LICENCE_KINDS = ("permissive", "weak_copyleft", "cc", "rail", "community", "strong_copyleft", "network_copyleft")
_WHOLE = frozenset({"strong_copyleft", "network_copyleft"})
_NO_LICENCE = frozenset({"unknown", "none", "family", "api_terms"})
_TAGGED_DUTIES: Mapping[str, tuple[str, ...]] = {
    "advertising": ("display_text",),
    "documentation_attribution": ("display_text",),
    "naming": ("name_prefix", "no_endorse"),
    "change_summary": ("document_changes", "state_changes"),
    "use_restriction": ("flow_down_use", "comply_policy"),
    "policy_flow_down": ("flow_down_use", "comply_policy"),
}
_TAGGED_SUITS: Mapping[str, str] = {
    "patent_termination": "patent_suit_over_work",
    "copyright_termination": "copyright_suit_over_work",
}
_LINKS = frozenset({Relation.ADAPTER, Relation.COMPONENT_OF})


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """Why a licence may not stand on the subject: the inherited entry and its clause."""

    licence: str
    entry: str
    node: str
    clause: str
    means: str


class Outbound(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the search. `licence` is the Hub's id for the card; None when no single licence will do, and then
    `expression` is the bundle to ship."""

    licence: str | None
    entry: str | None
    expression: str
    duties: tuple[Duty, ...] = ()
    rejected: tuple[Rejection, ...] = ()


def check(knowledge: KnowledgeBase, declared: tuple[Entry, ...], composition: Composition) -> list[Reason]:
    """Reasons for which the declared licence may not stand on the subject; empty when it may."""
    found = []
    for bound in composition.inherited:
        trained = bound.entry.kind == "dataset" and Relation.TRAINED_ON in bound.path
        if bound.entry.kind in _NO_LICENCE or trained or bound.facts is not None:
            continue
        rejection = _rejects(bound, declared)
        if rejection is not None:
            found.append(_as_reason(bound, *rejection))
    return found


def outbound(knowledge: KnowledgeBase, family: Family, positions: Mapping[str, str] | None = None) -> Outbound:
    """Search the licence that a derivative of the subject's parents may carry.

    Licences of the parents are tried first, so that a derivative keeps what its parent had where it may.
    """
    chosen = knowledge.default_positions() | dict(positions or {})
    composition = compose(knowledge, family, publishing=True, positions=chosen)
    binding = [b for b in composition.inherited if b.facts is None]
    names = list(dict.fromkeys(b.entry.id for b in binding))
    others = sorted(
        (e.id for e in knowledge.entries.values() if e.kind in _LICENCE_KINDS and "weights" in e.governs),
        key=lambda i: (_LICENCE_KINDS.index(knowledge.entry(i).kind), len(knowledge.entry(i).restricts), i),
    )
    rejected: list[Rejection] = []
    for candidate in dict.fromkeys([*names, *others]):
        entry = knowledge.entry(candidate)
        if entry.kind not in _LICENCE_KINDS or not entry.names.hf:
            continue
        reasons = check(knowledge, (entry,), composition)
        if not reasons:
            return Outbound(
                licence=entry.names.hf[0],
                entry=entry.id,
                expression=entry.expression,
                duties=_duties(composition),
                rejected=tuple(rejected),
            )
        first = reasons[0]
        rejected.append(
            Rejection(licence=entry.id, entry=first.entry, node=first.node, clause=first.clause, means=first.means)
        )
    expression = " AND ".join(knowledge.entry(i).expression for i in names) or "NOASSERTION"
    return Outbound(
        licence=None, entry=None, expression=expression, duties=_duties(composition), rejected=tuple(rejected)
    )


def _duties(composition: Composition) -> tuple[Duty, ...]:
    """What the inherited texts ask of whoever publishes the derivative."""
    found: dict[Duty, None] = {}
    for bound in composition.inherited:
        told = {"mode": str(Mode.PUBLISH_WEIGHTS), "modified": True, "target.distributed": True}
        answer = evaluate(bound, ("redistribute_derivative",), Facts(told | {"relation": bound.relation}))
        found |= dict.fromkeys(answer.duties)
    return tuple(found)


def _rejects(bound: Bound, declared: tuple[Entry, ...]) -> tuple[Fact | None, str] | None:
    """The fact (or None) and words with which an inherited text rejects the declared one; None when it does not."""
    text = bound.entry
    terms = text.outbound
    if text.kind not in _WHOLE and _linked(bound):
        return _clashes(text, tuple(e for e in declared if e.kind in _WHOLE), text_too=False)
    ids = {e.id for e in declared}
    if text.id in ids:
        return _clashes(text, declared)
    fact = _first(text, terms.flow_down)
    if terms.derivative == "none":
        return _first(text, [f.id for f in text.facts if f.modality == "prohibit"]), "forbids passing on derivatives"
    if terms.derivative == "keep_agreement":
        return fact, f"{text.title} stays on every derivative: {_label(declared)} alone may not stand on it"
    if terms.derivative.startswith("same_"):
        listed = {*terms.listed, *terms.upgrade}
        if ids & listed:
            return None
        return fact, f"a derivative stays under {text.title}: {_label(declared)} may not stand on it"
    kept = set().union(*(e.restricts for e in declared)) if declared else set()
    lost = sorted(WITHHOLDING & set(text.restricts) - kept)
    if lost:
        return fact, f"{_label(declared)} would drop what {text.title} withholds ({', '.join(lost)})"
    return _clashes(text, declared)


def _linked(bound: Bound) -> bool:
    """Whether the subject only runs together with the inherited work, so that each keeps its own licence. Texts of
    strong copyleft take such a whole for one work."""
    relations = {Relation(r) for r in bound.path} - {Relation.MIRROR_OF}
    return bool(relations) and relations <= _LINKS and "derivative" not in bound.objects


def _clashes(text: Entry, declared: tuple[Entry, ...], *, text_too: bool = True) -> tuple[Fact | None, str] | None:
    """Clauses against further restrictions: of the declared texts against the inherited one, and the other way."""
    for other in declared:
        if other.id == text.id:
            continue
        for strict, loose in ((other, text), (text, other)):
            extra = sorted(set(loose.restricts) - set(strict.outbound.tolerates))
            if not strict.outbound.no_further_restrictions or not extra or (strict is text and not text_too):
                continue
            closed, more = _closing(strict), next((f for t in extra if (f := _restricting(loose, t))), None)
            words = f"{strict.title}{_at(closed)} takes no further restrictions, {loose.title}{_at(more)} has "
            return (more if loose is text else closed), words + ", ".join(t.replace("_", " ") for t in extra)
    return None


def _closing(text: Entry) -> Fact | None:
    """The clause that keeps out further restrictions."""
    bans = (f for f in text.facts if f.modality == "prohibit" and "sublicense" in f.action)
    return next(bans, None) or _first(text, text.outbound.flow_down)


def _restricting(text: Entry, tag: str) -> Fact | None:
    """The fact of a text that a tag of its restrictions stands for, where one of the usual kinds does."""
    for fact in text.facts:
        reads = fact.reads
        if (
            (fact.duty in _TAGGED_DUTIES.get(tag, ()))
            or (fact.modality == "terminate" and _TAGGED_SUITS.get(tag) in reads)
            or (tag == "noncommercial" and "purpose" in reads)
        ):
            return fact
    return None


def _at(fact: Fact | None) -> str:
    return f" ({fact.clause.sec})" if fact else ""


def _first(entry: Entry, fact_ids: Iterable[str]) -> Fact | None:
    return next((f for i in fact_ids if (f := entry.fact(i)) is not None), None)


def _label(declared: tuple[Entry, ...]) -> str:
    return " and ".join(e.names.spdx or e.title for e in declared) or "no licence"


def _as_reason(bound: Bound, fact: Fact | None, words: str) -> Reason:
    return Reason(
        node=bound.node,
        path=bound.path,
        entry=bound.entry.id,
        fact=fact.id if fact else "outbound",
        clause=fact.clause.sec if fact else "whole text",
        means=f"{fact.means}; {words}" if fact else words,
        evaluation="false",
        authority=bound.entry.authority(fact) if fact else bound.entry.status.authority,
        position=None,
    )
