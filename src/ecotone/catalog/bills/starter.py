"""What the starter catalogue knows of a model: its licence and its parents, each with a source."""

import re
from collections.abc import Iterable
from datetime import datetime

from ecotone.catalog.entities import LineageEdge
from ecotone.catalog.starter import StarterModel, starter_model
from ecotone.licences import Edge, Family, Node
from ecotone.licences.bom.checking import KnownModel
from ecotone.licences.bom.facts import DATASETS, OF_DATA, Descent, Licensing, ModelFacts, Work, why_unknown

SOURCE = "starter catalogue"
UNKNOWN = ("unknown",)
_MOST_NODES = 256


def known_starter(model_id: str, revision: str | None = None) -> KnownModel | None:
    """A model of the starter catalogue as documents are checked against it; its revisions are not told apart."""
    found = starter_model(model_id)
    if found is None:
        return None
    parents = tuple(p.parent for p in found.parents if p.relation not in OF_DATA)
    return KnownModel(id=found.id, instruments=found.instruments, parents=parents, source=SOURCE)


def starter_work(model_id: str) -> Work | None:
    """What a bill says of a model that only the starter catalogue knows."""
    found = starter_model(model_id)
    if found is None:
        return None
    reason = why_unknown(found.instruments, found.licence_label)
    return Work(
        id=found.id,
        kind=found.kind.value,
        hub="" if _on_the_public_hub(found) else None,
        released=_moment(found.released),
        licensing=Licensing(declared=found.licence_label, concluded=found.instruments, reason=reason),
        model=ModelFacts(
            task=found.pipeline_tag,
            parameters=found.parameters.value if found.parameters else None,
            context=found.context.value if found.context else None,
        ),
        source=f"{SOURCE}; licence: {found.licence_source.source} ({found.licence_source.as_of})",
    )


def _on_the_public_hub(model: StarterModel) -> bool:
    """Whether some source is the model's own page there; an id alone does not say so."""
    page = re.compile(rf"https://huggingface\.co/{re.escape(model.id)}(?:/.*)?", re.I)
    sources = (model.licence_source, model.card, model.parameters, model.context, *model.facts, *model.notes)
    return any(s is not None and s.link is not None and page.fullmatch(s.link) is not None for s in sources)


def _moment(day: str | None) -> str | None:
    try:
        return f"{datetime.fromisoformat(day).date().isoformat()}T00:00:00Z" if day else None
    except ValueError:
        return None


def family_above(subject: Node, edges: Iterable[LineageEdge]) -> tuple[Family, list[Work], list[Descent]]:
    """The family of a subject whose own edges are given, with all that the starter catalogue knows above them."""
    nodes = {subject.id: subject}
    works: dict[str, Work] = {}
    found: list[Edge] = []
    told: list[Descent] = []
    ring = list(edges)
    while ring:
        edge = ring.pop(0)
        data = edge.relation in OF_DATA
        work = None if data else starter_work(edge.parent)
        parent = (DATASETS if data else "") + (work.id if work else edge.parent)
        if parent.casefold() == edge.child.casefold():
            continue
        made = Edge(edge.child, parent, edge.relation, edge.status)
        if made in found:
            continue
        found.append(made)
        told.append(descent_of(edge, edge.child, parent))
        if parent in nodes or len(nodes) >= _MOST_NODES:
            continue
        instruments = work.licensing.concluded if work else UNKNOWN
        kind = "dataset" if data else work.kind if work else "weights"
        nodes[parent] = Node(parent, instruments=instruments, kind=kind)
        if work is not None:
            works[parent] = work
            ring += above(parent)
    return Family(subject.id, nodes, tuple(found)), list(works.values()), told


def above(model_id: str) -> list[LineageEdge]:
    """Edges that the starter catalogue states for a model."""
    found = starter_model(model_id)
    if found is None:
        return []
    return [
        LineageEdge(child=found.id, parent=p.parent, relation=p.relation, asserted_by=SOURCE, evidence=p.source)
        for p in found.parents
    ]


def descent_of(edge: LineageEdge, child: str, parent: str) -> Descent:
    """An edge of the catalogue as a bill has it, between the ids that the family uses."""
    return Descent(
        child=child,
        parent=parent,
        relation=edge.relation,
        parent_revision=edge.parent_revision,
        status=edge.status,
        asserted_by=edge.asserted_by,
        evidence=edge.evidence,
    )
