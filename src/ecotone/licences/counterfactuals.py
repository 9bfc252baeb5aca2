"""What would make it yes: single changes of the use, tried for real, smallest first.

Facts that nobody can change (domicile, users in a month that is past, revenue) are never proposed as changes; declaring
one that is missing is.
"""

from collections.abc import Callable, Mapping

import msgspec

from ecotone.licences.composition import compose
from ecotone.licences.decision import Decision, Way
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.evaluate import PUBLISHING
from ecotone.licences.family import Family, Use
from ecotone.vocabulary import Purpose, Verdict

_MOST = 6
_SMALL = 1


def ways_to_yes(
    family: Family, use: Use, decision: Decision, again: Callable[[Use], Decision], knowledge: KnowledgeBase
) -> tuple[Way, ...]:
    """Changes after which the answer passes, each with the verdict that it leads to."""
    found: list[Way] = []

    def attempt(change: str, other: Use) -> None:
        if len(found) < _MOST and (verdict := again(other).verdict).passes:
            found.append(Way(change=change, verdict=verdict))

    if use.mode in PUBLISHING:
        _declare(family, use, decision, attempt, knowledge)
    _tell(use, decision, attempt)
    for tier in ("paid", "zero_retention"):
        if use.variables.get("account.tier") not in (None, tier):
            attempt(f"call the provider under the tier {tier}", _with(use, {"account.tier": tier}))
    for purpose in (Purpose.INTERNAL_COMMERCIAL, Purpose.NONCOMMERCIAL, Purpose.RESEARCH):
        if use.purpose is not purpose and use.purpose in (Purpose.COMMERCIAL, Purpose.INTERNAL_COMMERCIAL):
            attempt(f"use it for purpose {purpose.value}", msgspec.structs.replace(use, purpose=purpose))
    refusing = [r for r in decision.reasons if r.evaluation in ("false", "ask_licence", "unknown")]
    if refusing:
        first = refusing[0]
        if first.entry in ("unknown", "none"):
            change = f"find out the licence of {first.node} and state it in its card with the licence's text"
        else:
            owner = first.entry
            title = knowledge.entries[owner].title if owner in knowledge.entries else owner
            change = f"obtain a licence for this use from the licensor of {first.node} ({title})"
        found.append(Way(change=change, verdict=Verdict.ALLOW))
    return tuple(found[:_MOST])


def _declare(
    family: Family,
    use: Use,
    decision: Decision,
    attempt: Callable[[str, Use], None],
    knowledge: KnowledgeBase,
) -> None:
    """Publishing: declare what the parents demand."""
    composition = compose(knowledge, family, publishing=True, positions=decision.positions)
    demanding = {b.entry.id: b.entry for b in composition.inherited if b.facts is None}
    for entry in demanding.values():
        if entry.kind in ("unknown", "none"):
            continue
        other = msgspec.structs.replace(use, declared_licence=entry.id)
        label = entry.names.hf[0] if entry.names.hf else entry.expression
        attempt(f"declare `license: {label}` and ship its text, notice and policy", other)
        # what else is unknown about the use may hide that the label is the remedy: say so with what is to be told
        told = {m.what: _SMALL for m in decision.missing if "." in m.what}
        if told:
            change = f"declare `license: {label}`, ship its text, notice and policy, and tell {', '.join(sorted(told))}"
            attempt(change, _with(other, told))


def _tell(use: Use, decision: Decision, attempt: Callable[[str, Use], None]) -> None:
    """Declare what is missing, with values that keep below the thresholds of the texts."""
    numbers = [m for m in decision.missing if m.what.startswith(("org.", "product."))]
    if numbers:
        told = {m.what: _SMALL for m in numbers}
        where = ", ".join(sorted({f"{m.entry} {m.clause}" for m in numbers if m.clause}))
        attempt(f"declare {', '.join(sorted(told))} below the threshold of {where}", _with(use, told))
    if any(m.what == "account.tier" for m in decision.missing):
        attempt("declare account.tier as paid", _with(use, {"account.tier": "paid"}))


def _with(use: Use, variables: Mapping[str, object]) -> Use:
    return msgspec.structs.replace(use, variables={**use.variables, **variables})
