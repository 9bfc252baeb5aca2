"""`judge`: the answer to (family, use), the worst over every instrument that binds the subject."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ecotone.licences import outbound as outbound_rules
from ecotone.licences.composition import UNTOLD, Composition, compose
from ecotone.licences.conditions import Facts
from ecotone.licences.counterfactuals import ways_to_yes
from ecotone.licences.decision import Decision, Duty, Missing, Reason, today
from ecotone.licences.entries import Entry, KnowledgeBase
from ecotone.licences.evaluate import PUBLISHING, Answer, Bound, actions_of, evaluate
from ecotone.licences.family import Family, Use
from ecotone.licences.identify import declared_entries
from ecotone.vocabulary import Verdict


def judge(knowledge: KnowledgeBase, family: Family, use: Use, positions: Mapping[str, str] | None = None) -> Decision:
    """May the subject of the family be used so?

    Args:
        knowledge: the entries.
        family: the subject with its ancestors and their instruments.
        use: what is wanted; a variable it does not tell is unknown.
        positions: the organisation's choices where law is disputed; else the stricter.

    Returns:
        The decision, with reasons, duties, what is missing, and the changes that would make it yes.
    """
    chosen = knowledge.default_positions() | dict(positions or {})
    decision, touched = _decide(knowledge, family, use, chosen)
    disputed = _disputed(knowledge, family, use, chosen, decision, touched)
    ways = (
        ()
        if decision.verdict.passes
        else ways_to_yes(family, use, decision, lambda u: _decide(knowledge, family, u, chosen)[0], knowledge)
    )
    return msgspec.structs.replace(
        decision, would_allow=ways, disputed=disputed, positions={p: chosen[p] for p in sorted(touched) if p in chosen}
    )


def _decide(
    knowledge: KnowledgeBase, family: Family, use: Use, positions: Mapping[str, str]
) -> tuple[Decision, set[str]]:
    publishing = use.mode in PUBLISHING
    composition = compose(knowledge, family, publishing=publishing, positions=positions)
    subject = family.node(family.subject)
    base = _variables(use, positions)
    binding = _binding(composition, publishing)
    total = Answer()
    verdicts: list[Verdict] = []
    assumed: dict[str, Any] = {}
    warnings: list[str] = []
    for bound in binding:
        for entry_bound in _with_policies(knowledge, bound, warnings):
            modified = use.modified or "derivative" in bound.objects
            hosting = "hosted_service" in bound.entry.definitions.distribution_includes
            kind = "api" if "service" in bound.objects else "weights"
            actions = actions_of(use.mode, kind, modified=modified, hosting_distributes=hosting)
            relation = bound.path[-1] if bound.path else None
            facts = Facts({**base, "modified": modified, **({"relation": relation} if relation else {})})
            answer = evaluate(entry_bound, actions, facts)
            verdicts.append(answer.verdict)
            assumed |= facts.assumed
            _add(total, answer, visible=bound.visible)
    if publishing:
        _judge_outbound(knowledge, family, use, composition, total, verdicts)
    if not binding and publishing:
        total.grants += _own_work(composition)
    if composition.unknown_data:
        total.possible.append(_unknown_data(composition.unknown_data))
        if positions.get("dataset_propagation") == "full":
            verdicts.append(Verdict.UNKNOWN)
    if composition.suspected:
        total.missing.append(Missing(what="whether the suspected ancestry holds", entry="lineage"))
        if publishing:
            verdicts.append(Verdict.UNKNOWN)
    if composition.cyclic:
        warnings.append("the declared family has a cycle")
    verdict = min(verdicts, key=lambda v: v.rank, default=Verdict.ALLOW)
    if verdict is Verdict.ALLOW and total.duties:
        verdict = Verdict.ALLOW_WITH_DUTIES
    decision = Decision(
        verdict=verdict,
        subject={"model": family.subject, "revision": subject.revision},
        use=_use(use),
        reasons=_unique((*_worst_first(total.against), *total.grants)),
        duties=_unique(total.duties),
        possible_duties=_unique(total.possible),
        missing=_unique_missing(total.missing) if not verdict.passes else (),
        conflicts=_conflicts(knowledge, use, composition) if publishing else (),
        secondary_facts=tuple(dict.fromkeys(total.secondary)),
        assumptions=assumed,
        warnings=tuple(dict.fromkeys(warnings)),
        knowledge_base=knowledge.version,
        text_sha256={b.entry.id: b.entry.text.sha256 for b in (*composition.own, *composition.inherited) if b.visible},
        trace_id=_trace(knowledge, family, use),
    )
    return decision, total.positions


def _binding(composition: Composition, publishing: bool) -> list[Bound]:
    """A publisher is not bound by the licence that it gives its own work, but must have named one."""
    if not publishing:
        return [*composition.own, *composition.inherited]
    unnamed = [b for b in composition.own if b.entry.kind in ("unknown", "none")]
    return [*unnamed, *composition.inherited]


def _variables(use: Use, positions: Mapping[str, str]) -> dict[str, Any]:
    day = use.date or today()
    values: dict[str, Any] = {
        "purpose": use.purpose.value if hasattr(use.purpose, "value") else use.purpose,
        "mode": str(use.mode),
        "modified": use.modified,
        "date": day.isoformat(),
        "target.distributed": use.mode in PUBLISHING or use.variables.get("target.distributed"),
    }
    values |= {f"policy.{name}": choice for name, choice in positions.items()}
    return values | use.variables


def _with_policies(knowledge: KnowledgeBase, bound: Bound, warnings: list[str]) -> Iterable[Bound]:
    """The instrument and the use policies that it incorporates, which win where they are stricter."""
    yield bound
    for part in bound.entry.incorporates:
        policy = knowledge.entries.get(part.ref)
        if policy is None:
            continue
        if part.dynamic:
            warnings.append(
                f"{bound.entry.id} {part.clause} follows the latest version of {policy.title}; "
                f"answered with that of {policy.effective.since or policy.status.reviewed}"
            )
        duties = frozenset(f.id for f in policy.facts if f.modality != "permit")
        yield Bound(policy, bound.node, bound.path, duties, bound.objects, bound.visible)


def _judge_outbound(
    knowledge: KnowledgeBase,
    family: Family,
    use: Use,
    composition: Composition,
    total: Answer,
    verdicts: list[Verdict],
) -> None:
    declared = declared_entries(knowledge, use.declared_licence) or tuple(
        b.entry for b in composition.own if b.entry.kind not in ("unknown", "none")
    )
    if not declared:
        return
    refusals = outbound_rules.check(knowledge, declared, composition)
    if refusals:
        verdicts.append(Verdict.DENY)
        total.against[:0] = refusals


def _own_work(composition: Composition) -> list[Reason]:
    return [
        Reason(
            node=b.node,
            path=(),
            entry=b.entry.id,
            fact="own-work",
            clause="declared licence",
            means="the publisher's own work, offered under this licence, which binds those who receive it",
            evaluation="true",
            authority=b.entry.status.authority,
        )
        for b in composition.own
    ]


def _unknown_data(names: tuple[str, ...]) -> Duty:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Duty(
        duty="attribution",
        text=None,
        where=("model card",),
        entry="unknown",
        clause="licence of the data",
        means=f"the licence of training data is not known: {shown}",
        variables=("licence of the data",),
    )


def _add(total: Answer, answer: Answer, *, visible: bool) -> None:
    if visible:
        total.against += answer.against
        total.grants += answer.grants
    else:  # the duties and the answer of a parent that the asker may not see apply; its clauses are not told
        total.against += [
            msgspec.structs.replace(r, node=UNTOLD, entry="hidden", clause="not shown", means="it does not allow this")
            for r in answer.against
        ]
    total.duties += answer.duties
    total.possible += answer.possible
    total.missing += answer.missing
    total.secondary += answer.secondary
    total.positions |= answer.positions


def _disputed(
    knowledge: KnowledgeBase,
    family: Family,
    use: Use,
    chosen: Mapping[str, str],
    decision: Decision,
    touched: set[str],
) -> tuple[dict[str, Any], ...]:
    """The verdict under each other choice of the positions that matter here, where it differs."""
    found = []
    for name in sorted(touched | ({"adapter_is_derivative"} if use.mode in PUBLISHING else set())):
        for value in knowledge.positions.get(name, {}).get("values", ()):
            if value != chosen.get(name):
                other = _decide(knowledge, family, use, {**chosen, name: value})[0]
                if other.verdict is not decision.verdict:
                    found.append(
                        {"position": name, "value": value, "verdict": other.verdict, "chosen": chosen.get(name)}
                    )
    return tuple(found)


def _conflicts(knowledge: KnowledgeBase, use: Use, composition: Composition) -> tuple[dict[str, Any], ...]:
    declared = use.declared_licence or " AND ".join(b.entry.id for b in composition.own)
    wanted = [b.entry for b in composition.inherited if b.entry.outbound.derivative != "own_terms" and b.facts is None]
    keep = [e for e in wanted if e.kind not in ("unknown", "none") and all(e.id != b.entry.id for b in composition.own)]
    return tuple(
        {"field": "licence", "declared": declared, "detected": None, "concluded": entry.expression}
        for entry in {e.id: e for e in keep}.values()
    )


def _use(use: Use) -> dict[str, Any]:
    return {
        "mode": str(use.mode),
        "purpose": str(use.purpose),
        "modified": use.modified,
        "declared_licence": use.declared_licence,
        "date": (use.date or today()).isoformat(),
        **({"variables": use.variables} if use.variables else {}),
    }


_ORDER = {"false": 0, "ask_licence": 1, "unknown": 2}


def _worst_first(reasons: list[Reason]) -> list[Reason]:
    return sorted(reasons, key=lambda r: _ORDER.get(r.evaluation, 3))


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({repr(item): item for item in items}.values())


def _unique_missing(items: list[Missing]) -> tuple[Missing, ...]:
    return tuple({item.what: item for item in items}.values())


def _trace(knowledge: KnowledgeBase, family: Family, use: Use) -> str:
    packed = msgspec.json.encode([family, use, knowledge.digest], order="sorted")
    return hashlib.sha256(packed).hexdigest()[:16]


__all__ = ["Entry", "judge"]
