"""Verdicts on a whole clan: each legal class under each use is judged once, however many members are of it. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ecotone.catalog import Clan, Member
from ecotone.licences import Decision, Edge, Family, Node, Use
from ecotone.licences.evaluate import PUBLISHING
from ecotone.licences.graph import FamilyGraph
from ecotone.policy.decide import Outcome, decide
from ecotone.policy.rules import Action
from ecotone.policy.stance import Stance, node_names


class ClanVerdicts:
    """Decisions on the members of a clan, as an organisation judges at one moment.

    Args:
        stance: the organisation's rules, figures and positions.
        clan: who descends from whom.
        replaced: instruments in the place of a member's own, by its key.
    """

    def __init__(self, stance: Stance, clan: Clan, replaced: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._stance, self._clan = stance, clan
        given = replaced or {}
        self._nodes = {key: self._node(member, given.get(key)) for key, member in clan.members.items()}
        self._graphs: dict[tuple[bool, str | None], FamilyGraph] = {}
        self._decisions: dict[tuple[Any, ...], Decision] = {}
        self._texts: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._outcomes: dict[tuple[Any, ...], Outcome] = {}

    def _node(self, member: Member, replaced: tuple[str, ...] | None) -> Node:
        """The member as it is judged: with agreements and concluded licences, which speak of its name."""
        node = member.node()
        if replaced is not None:
            node = msgspec.structs.replace(node, instruments=replaced)
        named = msgspec.structs.replace(node, id=member.name)
        overridden = self._stance.family(Family(named.id, {named.id: named})).nodes[named.id]
        return msgspec.structs.replace(overridden, id=member.key)

    def class_of(self, key: str, use: Use) -> tuple[Any, ...]:
        """Equal for two members only when every answer on them for such a use is equal."""
        told = use.variables.get("target_model")
        reading = (use.mode in PUBLISHING, told if isinstance(told, str) else None)
        graph = self._graphs.get(reading)
        if graph is None:
            graph = self._graphs[reading] = FamilyGraph.of(
                self._stance.knowledge,
                self._nodes.values(),
                (Edge(b.child, b.parent, b.edge.relation, b.edge.status) for b in self._clan.bonds),
                positions=self._stance.positions,
                publishing=reading[0],
                target_model=reading[1],
            )
        return (*reading, graph.legal_class(key))

    def decision(self, key: str, use: Use) -> Decision:
        """The decision on a member of the same legal class: verdict, duties and clauses are this one's too, the names
        in it are not."""
        mark = (self.class_of(key, use), _written(use))
        found = self._decisions.get(mark)
        if found is None:
            found = self._decisions[mark] = self._stance.judge_family(self._clan.family(key, self._nodes), use)
        return found

    def outcome(self, key: str, use: Use, action: Action = Action.CALL) -> Outcome:
        """What the organisation's rules make of it."""
        decision = self.decision(key, use)
        legal = self.class_of(key, use)
        texts = self._texts.get(legal)
        if texts is None:
            subjects = self._stance.subjects(self._clan.family(key, self._nodes))
            texts = self._texts[legal] = tuple(s for s in subjects if s.startswith(("licence:", "kind:")))
        member = self._clan.members[key]
        own = node_names(msgspec.structs.replace(member.node(), id=member.name))
        spoken = tuple(r.id for r in self._stance.rules if r.speaks_of(own))
        mark = (legal, _written(use), action, spoken)
        found = self._outcomes.get(mark)
        if found is None:
            found = self._outcomes[mark] = decide(
                decision.to_json(), action, self._stance.rules, subjects=(*own, *texts), today=self._stance.today
            )
        return found


def _written(use: Use) -> bytes:
    return msgspec.json.encode(use, order="sorted")
