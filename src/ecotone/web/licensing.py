"""What a model page says about licences: verdicts for common uses, the outbound licence, clauses. Decides nothing."""

from dataclasses import dataclass
from typing import Any

from ecotone.licences import Decision, Edge, Entry, Family, KnowledgeBase, Node, Outbound, Reason, Use, outbound
from ecotone.policy import Rule, Stance
from ecotone.vocabulary import Mode, Purpose, Relation, Verdict

VERDICT_WORDS = {
    Verdict.ALLOW: "Allowed",
    Verdict.ALLOW_WITH_DUTIES: "Allowed with duties",
    Verdict.ASK_LICENCE: "Ask the licensor first",
    Verdict.DENY: "Not allowed",
    Verdict.UNKNOWN: "Not known",
}
VERDICT_MARKS = {
    Verdict.ALLOW: "✓",
    Verdict.ALLOW_WITH_DUTIES: "✓",
    Verdict.ASK_LICENCE: "!",
    Verdict.DENY: "✕",
    Verdict.UNKNOWN: "?",
}
_KIND_WORDS = {
    "permissive": "permissive",
    "weak_copyleft": "weak copyleft",
    "strong_copyleft": "copyleft",
    "network_copyleft": "network copyleft",
    "rail": "open with use limits",
    "community": "community terms",
    "research": "research only",
    "api_terms": "provider terms",
    "policy": "use policy",
    "none": "no licence found",
    "unknown": "not known to the knowledge base",
}
_OPEN = ("permissive", "weak_copyleft", "strong_copyleft", "network_copyleft")
_MODALITIES = {
    "permit": "Grants",
    "require": "Duties",
    "prohibit": "Prohibits",
    "limit": "Limits",
    "terminate": "Ends when",
    "disclaim": "Disclaims",
}
_USES = {
    "weights": (
        ("Run it inside a company", Mode.RUN, Purpose.INTERNAL_COMMERCIAL),
        ("Serve it to customers for money", Mode.SERVE_API, Purpose.COMMERCIAL),
        ("Publish a fine-tune of it", Mode.PUBLISH_WEIGHTS, Purpose.NONCOMMERCIAL),
        ("Train another model on its outputs", Mode.TRAIN_ON_OUTPUTS, Purpose.COMMERCIAL),
    ),
    "api": (
        ("Call it for work inside a company", Mode.RUN, Purpose.INTERNAL_COMMERCIAL),
        ("Build a product for customers on it", Mode.SERVE_API, Purpose.COMMERCIAL),
        ("Train another model on its outputs", Mode.TRAIN_ON_OUTPUTS, Purpose.COMMERCIAL),
    ),
}
_FINE_TUNE = "a fine-tune"


@dataclass(frozen=True, slots=True)
class Badge:
    """A licence in two words. `tone`: open, limited, terms or unknown."""

    label: str
    word: str
    tone: str


@dataclass(frozen=True, slots=True)
class JudgedUse:
    """A use and the decision on it."""

    title: str
    decision: Decision
    may_carry: str | None = None

    @property
    def word(self) -> str:
        return VERDICT_WORDS[self.decision.verdict]

    @property
    def mark(self) -> str:
        return VERDICT_MARKS[self.decision.verdict]

    @property
    def reasons(self) -> list[tuple[Reason, tuple[str, ...]]]:
        """Each reason once, with the other members of the family that bring it; none when it is the model's own."""
        own = (self.decision.subject.get("model"), _FINE_TUNE)
        merged: dict[tuple[str, str, str, str], tuple[Reason, list[str]]] = {}
        for reason in self.decision.reasons:
            key = (reason.entry, reason.clause, reason.means, reason.evaluation)
            merged.setdefault(key, (reason, []))[1].append(reason.node)
        return [
            (reason, () if any(n in own for n in nodes) else tuple(dict.fromkeys(nodes)))
            for reason, nodes in merged.values()
        ]


def badge(knowledge: KnowledgeBase, label: str | None, instruments: tuple[str, ...]) -> Badge:
    """The badge of a model by its label and the knowledge-base entries it was identified as."""
    kinds = [knowledge.entries[i].kind for i in instruments if i in knowledge.entries] or ["unknown"]
    entries = [knowledge.entries[i] for i in instruments if i in knowledge.entries and i not in ("unknown", "none")]
    shown = label or (entries[0].title if entries else "no licence")
    if len(entries) == 1 and label and label.lower() in (n.lower() for n in (*entries[0].names.hf, entries[0].id)):
        shown = entries[0].names.spdx or _short(entries[0])
    worst = next((k for k in ("unknown", "none", "api_terms", "research", "community", "rail", "cc") if k in kinds), "")
    if worst in ("unknown", "none"):
        return Badge(
            shown, "not in the knowledge base" if worst == "unknown" and label else _KIND_WORDS[worst], "unknown"
        )
    if worst == "cc":
        limited = any("noncommercial" in e.restricts for e in entries)
        return Badge(shown, "non-commercial" if limited else "attribution", "limited" if limited else "open")
    if worst:
        return Badge(shown, _KIND_WORDS[worst], "terms" if worst == "api_terms" else "limited")
    return Badge(
        shown, _KIND_WORDS.get(kinds[0], kinds[0].replace("_", " ")), "open" if kinds[0] in _OPEN else "limited"
    )


def _short(entry: Entry) -> str:
    return entry.title.replace(" Community License Agreement", " Community License").replace(" Agreement", "")


def common_uses(stance: Stance, family: Family) -> list[JudgedUse]:
    """The uses people ask about first, each judged."""
    kind = family.node(family.subject).kind
    return [judged(stance, family, *use) for use in _USES.get(kind, ())]


def judged(
    stance: Stance,
    family: Family,
    title: str,
    mode: Mode,
    purpose: Purpose,
    variables: dict[str, Any] | None = None,
) -> JudgedUse:
    """A use judged; to publish weights is to publish a fine-tune of one's own, under the licence that it may carry."""
    use = Use(mode=mode, purpose=purpose, variables=variables or {})
    if mode is not Mode.PUBLISH_WEIGHTS or family.node(family.subject).kind != "weights":
        return JudgedUse(title, stance.judge_family(family, use))
    found, child = _child(stance.knowledge, stance.family(family))
    decision = stance.judge_family(
        child,
        Use(mode=mode, purpose=purpose, modified=True, declared_licence=found.licence, variables=variables or {}),
    )
    return JudgedUse(title, decision, found.licence if decision.verdict.passes or decision.duties else None)


def _child(knowledge: KnowledgeBase, family: Family) -> tuple[Outbound, Family]:
    """The licence that somebody's fine-tune of the subject may carry, and the family of that fine-tune."""
    edge = Edge(child=_FINE_TUNE, parent=family.subject, relation=Relation.FINETUNE)

    def with_child(*instruments: str) -> Family:
        node = Node(id=_FINE_TUNE, instruments=instruments)
        return Family(_FINE_TUNE, {**family.nodes, _FINE_TUNE: node}, (*family.edges, edge))

    found = outbound(knowledge, with_child())
    return found, with_child(*([found.entry] if found.entry else []))


def binding_entries(knowledge: KnowledgeBase, family: Family) -> list[tuple[Entry, tuple[str, ...]]]:
    """The entries that bind the subject through its visible family, each with the members that bring it."""
    brought: dict[str, list[str]] = {}
    for node in family.nodes.values():
        for instrument in node.instruments if node.visible else ():
            brought.setdefault(instrument, []).append(node.id)
    return [(knowledge.entries[i], tuple(nodes)) for i, nodes in brought.items() if i in knowledge.entries]


@dataclass(frozen=True, slots=True)
class Clause:
    """A fact as a page shows it. `doubts` say what keeps it from being plain: secondary, inferred, disputed."""

    where: str
    means: str
    about: str
    doubts: tuple[str, ...] = ()


def clauses(entry: Entry) -> list[tuple[str, list[Clause]]]:
    """The facts of an entry by what they do: heading, then each with its clause."""
    groups: dict[str, list[Clause]] = {}
    for fact in entry.facts:
        doubts = []
        if entry.authority(fact) == "secondary":
            doubts.append("secondary source")
        if fact.confidence == "inferred":
            doubts.append("inferred")
        if fact.position:
            doubts.append(f"disputed: {fact.position}")
        about = fact.duty or ", ".join(fact.action)
        shown = Clause(fact.clause.sec, fact.means, about.replace("_", " "), tuple(doubts))
        groups.setdefault(_MODALITIES.get(fact.modality, fact.modality), []).append(shown)
    return list(groups.items())


def rules_about(stance: Stance, family: Family) -> list[tuple[Rule, str]]:
    """Rules that speak of a family's subject, or of the texts that bind it, each with its state."""
    subjects = stance.subjects(family)
    return [(rule, rule.state(stance.today)) for rule in stance.rules if rule.speaks_of(subjects)]


def kind_word(kind: str) -> str:
    """The kind of an entry as people read it."""
    return _KIND_WORDS.get(kind, kind.replace("_", " "))
