"""What the organisation has decided, as it stands at one moment: rules, profile, positions. Judges with them; pure.

Overrides stand before the licence engine, in this order: an agreement held by the organisation takes the place of an
entry for named models, a concluded licence that of what a model declares. A waiver stands behind it: it changes the
decision and never the verdict.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from ecotone.accounts import KeptProfile
from ecotone.licences import Decision, Entry, Family, KnowledgeBase, Node, Use, identify, judge
from ecotone.licences.composition import compose
from ecotone.licences.decision import traced
from ecotone.licences.entries import Clause, Fact
from ecotone.licences.evaluate import ACTIONS
from ecotone.policy.decide import Outcome, decide
from ecotone.policy.rules import Action, Rule, RuleKind, names_of


@dataclass(frozen=True, slots=True)
class Stance:
    """Rules and profile read together, so that a whole page or snapshot is judged by the same ones."""

    rules: tuple[Rule, ...]
    kept: KeptProfile
    knowledge: KnowledgeBase
    today: date

    @property
    def positions(self) -> dict[str, str]:
        """The organisation's choices where law is disputed: those of the profile, then rules of their own."""
        ruled = {
            rule.subject: rule.value
            for rule in self.rules
            if rule.kind is RuleKind.POSITION and rule.value and rule.in_force(self.today)
        }
        return self.kept.profile.choices() | ruled

    @property
    def mark(self) -> tuple[Any, ...]:
        """Equal for two stances whenever they answer alike."""
        return (self.rules, self.kept.profile, self.today, self.knowledge.version, self.knowledge.digest)

    def family(self, family: Family) -> Family:
        """The family with agreements and concluded licences in the place of what they override."""
        overriding = [
            r for r in self.rules if r.kind in (RuleKind.AGREEMENT, RuleKind.CONCLUDED) and r.in_force(self.today)
        ]
        if not overriding:
            return family
        nodes = {name: self._overridden(node, overriding) for name, node in family.nodes.items()}
        return msgspec.structs.replace(family, nodes=nodes)

    def overrides(self, family: Family) -> list[Rule]:
        """The agreements and concluded licences that take the place of something in a family."""
        kinds = (RuleKind.AGREEMENT, RuleKind.CONCLUDED)
        names = {name for node in family.nodes.values() if node.visible for name in node_names(node)}
        return [r for r in self.rules if r.kind in kinds and r.in_force(self.today) and r.speaks_of(names)]

    def _overridden(self, node: Node, rules: list[Rule]) -> Node:
        names = node_names(node)
        spoken = [r for r in rules if r.speaks_of(names)]
        agreements = {replaced_entry(r.value): agreement_id(r) for r in spoken if r.kind is RuleKind.AGREEMENT}
        concluded = [r for r in spoken if r.kind is RuleKind.CONCLUDED]
        instruments = node.instruments
        if concluded:
            instruments = identify(self.knowledge, {"license": concluded[-1].value}).instruments
        if agreements:
            instruments = tuple(dict.fromkeys(agreements.get(i, i) for i in instruments))
        return node if instruments == node.instruments else msgspec.structs.replace(node, instruments=instruments)

    def judge_family(self, family: Family, use: Use) -> Decision:
        """The licence engine's answer, with the profile's figures where the use tells none.

        The decision names the figures that were taken from the profile and does not show them: they are the
        organisation's own, and whoever may read a verdict may not always read those.
        """
        figures = {n: v for n, v in self.kept.profile.variables().items() if n not in use.variables}
        whole = msgspec.structs.replace(use, variables=figures | use.variables) if figures else use
        decision = judge(self.knowledge, self.family(family), whole, self.positions)
        if not figures:
            return decision
        shown = {name: value for name, value in decision.use.items() if name != "variables"}
        shown |= {"variables": use.variables} if use.variables else {}
        return traced(
            msgspec.structs.replace(decision, use={**shown, "from_profile": sorted(figures)}), self.knowledge.digest
        )

    def subjects(self, family: Family) -> tuple[str, ...]:
        """Names under which rules may speak of a family's subject: its own, and those of the texts that bind it."""
        own = node_names(family.node(family.subject))
        overridden = self.family(family)
        composition = compose(self.knowledge, overridden, positions=self.knowledge.default_positions() | self.positions)
        entries = {b.entry.id: b.entry for b in (*composition.own, *composition.inherited) if b.visible}
        texts = [name for e in entries.values() for name in (f"licence:{e.id}", f"kind:{e.kind}")]
        return tuple(dict.fromkeys([*own, *texts]))

    def outcome(self, decision: Decision, action: Action, family: Family, also: tuple[str, ...] = ()) -> Outcome:
        """The decision on an action, with the rules that speak of the family's subject, or of it by another name."""
        subjects = (*self.subjects(family), *also)
        return decide(decision.to_json(), action, self.rules, subjects=subjects, today=self.today)


def node_names(node: Node) -> tuple[str, ...]:
    """Names of one member: its id, its namespace, and for a provider's model the backend. One of a revision, or under
    terms, of its own (`ID@...`) goes by the same names."""
    name = node.id.partition("@")[0]
    if node.kind != "api":
        return names_of(name)
    return (*names_of(name), f"backend:{name.partition('/')[0]}")


def replaced_entry(value: str | None) -> str:
    """The entry that an agreement takes the place of: `ENTRY`, or `ENTRY=ACTION,ACTION`."""
    return (value or "").partition("=")[0].strip()


def granted_actions(value: str | None) -> tuple[str, ...]:
    """The actions that an agreement grants; any when it names none."""
    named = (value or "").partition("=")[2]
    return tuple(word.strip() for word in named.split(",") if word.strip()) or ("any",)


def agreement_id(rule: Rule) -> str:
    return f"agreement-{rule.id}"


def with_agreements(knowledge: KnowledgeBase, rules: tuple[Rule, ...]) -> KnowledgeBase:
    """The knowledge base with an entry for each agreement; itself when there is none.

    What stands in such an entry may be read by whoever reads verdicts, so the contract is named by its rule alone.
    """
    made = {
        agreement_id(r): _entry(r, knowledge.entries) for r in rules if replaced_entry(r.value) in knowledge.entries
    }
    if not made:
        return knowledge
    digest = hashlib.sha256(knowledge.digest.encode() + msgspec.json.encode(rules)).hexdigest()
    entries = {**knowledge.entries, **made}
    return KnowledgeBase(entries, version=knowledge.version, digest=digest, positions=knowledge.positions)


def _entry(rule: Rule, entries: Mapping[str, Entry]) -> Entry:
    """What holds under an agreement: its grant, and where it names actions, for all others what the entry says."""
    replaced = entries[replaced_entry(rule.value)]
    granted = set(granted_actions(rule.value))
    if "any" not in granted:
        return _beside(rule, replaced, granted)
    via = sorted({relation for p in replaced.propagates for relation in p.via})
    grant = {
        "id": "grant",
        "modality": "permit",
        "action": list(granted_actions(rule.value)),
        "clause": {"sec": f"rule {rule.id}"},
        "means": f"an agreement that the organisation holds grants it, until {rule.expires}",
    }
    return msgspec.convert(
        {
            "schema": 1,
            "id": agreement_id(rule),
            "title": f"Agreement in the place of {replaced.title}",
            "family": "agreement",
            "version": (rule.approved or rule.created)[:10],
            "names": {},
            "kind": "agreement",
            "governs": list(replaced.governs),
            "text": {},
            "definitions": {
                "derivative_includes": list(replaced.definitions.derivative_includes),
                "derivative_test": replaced.definitions.derivative_test,
            },
            "facts": [grant],
            "propagates": [{"via": via, "what": "all"}] if via else [],
            "restricts": [],
            "outbound": {"derivative": "own_terms"},
            "complete": True,
            "status": {"authority": "primary", "reviewed": (rule.approved or rule.created)[:10]},
        },
        Entry,
    )


def _beside(rule: Rule, replaced: Entry, granted: set[str]) -> Entry:
    grant = Fact(
        id=f"agreement-{rule.id}",
        modality="permit",
        action=tuple(sorted(granted)),
        clause=Clause(f"rule {rule.id}"),
        means=f"an agreement that the organisation holds grants it, until {rule.expires}",
        authority="primary",
    )
    kept: list[Fact] = []
    for fact in replaced.facts:
        if fact.modality in ("prohibit", "limit", "terminate"):
            named = _EVERY_ACTION if not fact.action or "any" in fact.action else set(fact.action)
            if not named - granted:
                continue
            fact = msgspec.structs.replace(fact, action=tuple(sorted(named - granted))) if named & granted else fact
        kept.append(fact)
    return msgspec.structs.replace(
        replaced, id=agreement_id(rule), title=f"{replaced.title}, with an agreement", facts=(grant, *kept)
    )


_EVERY_ACTION = {action for actions in ACTIONS.values() for action in actions} | {"redistribute_derivative", "distil"}
