"""What tests of the traps ask with: a small family, a use with every figure told and below its limits, one question."""

from pathlib import Path
from typing import Any

from ecotone import licences
from ecotone.licences import Decision, Edge, Family, KnowledgeBase, Node, Use, judge
from ecotone.vocabulary import Mode, Purpose, Relation

KB = KnowledgeBase.load()
ENTRIES = Path(licences.__file__).with_name("entries")
MONTHS = ("2023-06", "2024-03", "2024-06", "2024-08", "2024-11", "2024-12", "2025-03")
BELOW: dict[str, Any] = {f"org.mau_at.{m}": 1 for m in MONTHS} | {
    "org.mau": 1,
    "product.mau": 1,
    "product.monthly_revenue": 1,
    "org.annual_revenue": 1,
    "product.competes_with": [],
    "org.core_business": ["retail"],
    "territory": ["US"],
    "model.modality": ["text"],
    "org.principal_place": "US",
}
Parent = tuple[str, tuple[str, ...], Relation]


def family(own: tuple[str, ...], *parents: Parent, kind: str = "weights") -> Family:
    nodes = {"me/x": Node("me/x", instruments=own, kind=kind)}
    nodes |= {name: Node(name, instruments=instruments) for name, instruments, _ in parents}
    return Family("me/x", nodes, tuple(Edge("me/x", name, relation) for name, _, relation in parents))


def use(mode: str = "serve_api", purpose: str = "commercial", told: dict[str, Any] | None = None, **more: Any) -> Use:
    return Use(mode=Mode(mode), purpose=Purpose(purpose), variables=BELOW | (told or {}), **more)


def ask(own: str, mode: str = "serve_api", purpose: str = "commercial", **told: Any) -> Decision:
    return judge(KB, family((own,)), use(mode, purpose, {n.replace("__", "."): v for n, v in told.items()}))


def publish(own: str, *parents: Parent, told: dict[str, Any] | None = None) -> Decision:
    asked = use("publish_weights", "noncommercial", told, declared_licence=own)
    return judge(KB, family((own,), *parents), asked)


def duties(decision: Decision) -> set[str]:
    return {d.duty for d in decision.duties}
