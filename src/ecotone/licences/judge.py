"""`judge`: the answer to (family, use), the worst over every instrument that binds the subject."""

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ecotone.licences.composition import Composition, legal_class
from ecotone.licences.counterfactuals import ways_to_yes
from ecotone.licences.decision import Decision, Missing, Reason, today, traced
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.family import Family, Use
from ecotone.licences.weighing import Weighed, weigh
from ecotone.vocabulary import Verdict


def judge(knowledge: KnowledgeBase, family: Family, use: Use, positions: Mapping[str, str] | None = None) -> Decision:
    """May the subject of the family be used so?

    Args:
        knowledge: the entries.
        family: the subject with its ancestors and their instruments.
        use: what is wanted; a variable it does not tell is unknown. Who publishes and declares a licence
            (`declared_licence`) is the subject's own publisher, whom its own licence does not bind.
        positions: the organisation's choices where law is disputed; else the stricter.

    Returns:
        The decision, with reasons, duties, what is missing, and the changes that would make it yes.
    """
    chosen = knowledge.default_positions() | dict(positions or {})
    weighed = weigh(knowledge, family, use, chosen)
    verdict, composition, total = weighed.verdict, weighed.composition, weighed.total
    decision = Decision(
        verdict=verdict,
        subject={"model": family.subject, "revision": family.node(family.subject).revision},
        use=_use(use),
        reasons=_unique((*_worst_first(total.against), *total.grants)),
        duties=_unique(total.duties),
        possible_duties=_unique(total.possible),
        missing=_unique_missing(total.missing) if not verdict.passes else (),
        positions={p: chosen[p] for p in sorted(total.positions) if p in chosen},
        conflicts=_conflicts(use, composition) if weighed.publishing else (),
        secondary_facts=tuple(dict.fromkeys(total.secondary)),
        disputed=_disputed(knowledge, family, use, chosen, weighed),
        assumptions=weighed.assumed,
        warnings=tuple(dict.fromkeys(weighed.warnings)),
        knowledge_base=knowledge.version,
        text_sha256={b.entry.id: b.entry.text.sha256 for b in (*composition.own, *composition.inherited) if b.visible},
    )
    if not verdict.passes:
        ways = ways_to_yes(knowledge, family, use, chosen, weighed, decision)
        decision = msgspec.structs.replace(decision, would_allow=ways)
    return traced(decision, knowledge.digest)


class Verdicts:
    """Verdicts by legal class and use, each pair judged once for the day.

    Args:
        knowledge: the entries.
        positions: the organisation's choices where law is disputed; else the stricter.
    """

    def __init__(self, knowledge: KnowledgeBase, positions: Mapping[str, str] | None = None) -> None:
        self._knowledge = knowledge
        self._given = dict(positions or {})
        self._positions = knowledge.default_positions() | self._given
        self._known: dict[tuple[str, bytes, datetime.date], Verdict] = {}

    def of(self, family: Family, use: Use) -> Verdict:
        """The verdict on the subject of a family."""
        return self.of_class(legal_class(self._knowledge, family, positions=self._given), use, lambda: family)

    def of_class(self, legal: str, use: Use, member: Callable[[], Family]) -> Verdict:
        """The verdict on a legal class; `member` gives the family of one of its models, should nobody have asked."""
        key = (legal, msgspec.json.encode(use, order="sorted"), use.date or today())
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = weigh(self._knowledge, member(), use, self._positions).verdict
        return found


def _disputed(
    knowledge: KnowledgeBase, family: Family, use: Use, chosen: Mapping[str, str], weighed: Weighed
) -> tuple[dict[str, Any], ...]:
    """The verdict under each other choice of the positions that matter here, where it differs."""
    found: list[dict[str, Any]] = []
    for name in sorted(weighed.total.positions):
        for value in knowledge.positions.get(name, {}).get("values", ()):
            if value == chosen.get(name):
                continue
            kept = weighed.composition if name not in weighed.composition.positions else None
            other = weigh(knowledge, family, use, {**chosen, name: value}, composition=kept).verdict
            if other is not weighed.verdict:
                found.append({"position": name, "value": value, "verdict": other, "chosen": chosen.get(name)})
    if weighed.composition.suspected:
        holding = weigh(knowledge, family, use, chosen, with_suspected=True).verdict
        found.append({"position": "suspected ancestry", "value": "holds", "verdict": holding, "chosen": "not counted"})
    return tuple(found)


def _conflicts(use: Use, composition: Composition) -> tuple[dict[str, Any], ...]:
    """Texts that stay on a derivative and that the declared licence does not name."""
    declared = use.declared_licence or " AND ".join(b.entry.id for b in composition.own)
    own = {b.entry.id for b in composition.own}
    return tuple(
        {"field": "licence", "declared": declared, "detected": None, "concluded": entry.expression}
        for entry in {
            b.entry.id: b.entry
            for b in composition.inherited
            if b.visible and b.facts is None and b.entry.outbound.derivative != "own_terms" and b.entry.id not in own
        }.values()
        if entry.kind not in ("unknown", "none")
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


_ORDER = {"false": 0, Verdict.ASK_LICENCE.value: 1, "unknown": 2}


def _worst_first(reasons: list[Reason]) -> list[Reason]:
    return sorted(reasons, key=lambda r: _ORDER.get(r.evaluation, 3))


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))


def _unique_missing(items: list[Missing]) -> tuple[Missing, ...]:
    return tuple({item.what: item for item in items}.values())
