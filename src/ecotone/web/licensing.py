"""What a model page says about licences: verdicts for common uses, the outbound licence, clauses. Decides nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecotone.licences import Decision, Edge, Entry, Family, KnowledgeBase, Node, Outbound, Reason, Use, outbound
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
    "weak_copyleft": "copyleft",
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
_MODE_CHOICES = (
    (Mode.RUN, "run it"),
    (Mode.SERVE_API, "serve it to others"),
    (Mode.EMBED_PRODUCT, "ship it in a product"),
    (Mode.FINETUNE, "fine-tune it"),
    (Mode.PUBLISH_WEIGHTS, "publish its weights"),
    (Mode.TRAIN_ON_OUTPUTS, "train on its outputs"),
)
_PURPOSE_CHOICES = (
    (Purpose.COMMERCIAL, "commercially"),
    (Purpose.INTERNAL_COMMERCIAL, "inside a company"),
    (Purpose.NONCOMMERCIAL, "without commerce"),
    (Purpose.RESEARCH, "for research"),
)
_FINE_TUNE = "a fine-tune"
_COUNTED = re.compile(r"(?:org|product)\.[a-z_]{1,40}(?:\.\d{4}-\d{2})?\Z")


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


@dataclass(frozen=True, slots=True)
class Choices:
    """The form with which a visitor asks about a use of their own, and what was chosen."""

    mode: str
    purpose: str
    users: str
    modes: tuple[tuple[str, str], ...] = _MODE_CHOICES
    purposes: tuple[tuple[str, str], ...] = _PURPOSE_CHOICES


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


def common_uses(policy: Any, knowledge: KnowledgeBase, family: Family) -> list[JudgedUse]:
    """The uses people ask about first, each judged."""
    kind = family.node(family.subject).kind
    return [_judged(policy, knowledge, family, *use) for use in _USES.get(kind, ())]


def own_use(
    policy: Any, knowledge: KnowledgeBase, family: Family, query: Mapping[str, str]
) -> tuple[Choices, JudgedUse | None]:
    """The use that the query of the page asks about; None when it asks about none, or about nonsense."""
    choices = Choices(query.get("mode", ""), query.get("purpose", ""), query.get("users", "")[:15].strip())
    try:
        mode, purpose = Mode(choices.mode), Purpose(choices.purpose)
    except ValueError:
        return choices, None
    users = _number(choices.users)
    variables: dict[str, Any] = {} if users is None else {"org.mau": users, "product.mau": users}
    told = ((name, _number(value)) for name, value in list(query.items())[:20] if _COUNTED.match(name))
    variables |= {name: value for name, value in told if value is not None}
    return choices, _judged(policy, knowledge, family, "Your use", mode, purpose, variables)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def asked(uses: list[JudgedUse], query: Mapping[str, str]) -> list[tuple[str, str]]:
    """The figures that verdicts lack, or that the query told: name and value, for the form to ask for."""
    names = [m.what for use in uses for m in use.decision.missing if _COUNTED.match(m.what)]
    told = [name for name in list(query)[:20] if _COUNTED.match(name)]
    known = ("org.mau", "product.mau")
    return [(name, query.get(name, "")[:15]) for name in dict.fromkeys([*names, *told]) if name not in known][:6]


def _judged(
    policy: Any,
    knowledge: KnowledgeBase,
    family: Family,
    title: str,
    mode: Mode,
    purpose: Purpose,
    variables: dict[str, Any] | None = None,
) -> JudgedUse:
    use = Use(mode=mode, purpose=purpose, variables=variables or {})
    if mode is not Mode.PUBLISH_WEIGHTS or family.node(family.subject).kind != "weights":
        return JudgedUse(title, policy.judge_family(family, use))
    found, child = _child(knowledge, family)
    decision = policy.judge_family(
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


def clauses(entry: Entry) -> list[tuple[str, list[tuple[str, str]]]]:
    """The facts of an entry by what they do: heading, then (clause, meaning) of each."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for fact in entry.facts:
        groups.setdefault(_MODALITIES.get(fact.modality, fact.modality), []).append((fact.clause.sec, fact.means))
    return list(groups.items())
