"""Families: the graph of a revision's ancestors across tables and starter catalogue, as the licence engine reads it.

A parent counts as it was at the revision that the edge names, else as it is now. One that nobody here knows binds as
`unknown`. A deleted parent still binds through its tombstone, a private one binds without being shown. To whoever may
not read it, one that a card names looks like one that nobody here has. Walks are bounded in nodes and depth and visit
each model once.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog.entities import LineageEdge, Model, Revision
from ecotone.catalog.history import edge_of
from ecotone.catalog.models import EdgeRow, ModelRow, RevisionRow
from ecotone.catalog.names import key_of
from ecotone.catalog.part import Part, visible
from ecotone.catalog.settled import as_declared, is_shown
from ecotone.licences import Edge, Family, Node
from ecotone.licences.providers import is_provider, terms_of_outputs
from ecotone.vocabulary import EdgeStatus, ModelKind, Relation, RepoType

MOST_NODES = 256
MOST_DEPTH = 32
MOST_COMMITS = 500
UNKNOWN = ("unknown",)
DATASET_PREFIX = "datasets/"
_OF_DATASETS = (Relation.TRAINED_ON, Relation.EVALUATED_ON)


class _Told(Enum):
    """How a parent is told: as it is, as one that nobody here has, or without a name."""

    OPEN = "open"
    ABSENT = "absent"
    UNNAMED = "unnamed"


class _Member(NamedTuple):
    node: Node
    edges: tuple[LineageEdge, ...]


class Families(Part):
    """Services over lineage edges."""

    def family(
        self, model: Model, revision: Revision | None, *, viewer: Actor = SYSTEM, binding: bool = False
    ) -> Family:
        """The family of a revision (of a starter entry when None), its own declared licence included; see
        `compose_family`."""
        kind = _node_kind(model)
        node = Node(
            id=model.id,
            revision=revision.id if revision else None,
            instruments=_bound(model.instruments if revision is None else self._own(model, revision)),
            kind=kind,
            facts=_facts_of(self._starter.get(key_of(model.id))) if kind != "dataset" else {},
        )
        edges = revision.edges if revision is not None else starter_edges(model)
        return self.compose_family(node, edges, viewer=viewer, binding=binding)

    def _own(self, model: Model, revision: Revision) -> tuple[str, ...]:
        """What a revision's card says, and for a reserved id what the starter catalogue knows beside it."""
        starter = self._starter.get(key_of(model.id)) if model.repo_type is RepoType.MODEL else None
        return tuple(dict.fromkeys([*(starter.instruments if starter else ()), *revision.instruments]))

    def compose_family(
        self, subject: Node, edges: Iterable[LineageEdge], *, viewer: Actor = SYSTEM, binding: bool = False
    ) -> Family:
        """The family of a subject whose own edges are given; publishing asks before the revision exists. Edges that an
        administrator rejected are no part of it.

        Args:
            viewer: who is told of it. A parent that a card names and the viewer may not read is like one that nobody
                here has.
            binding: such a parent binds by its own terms, unnamed; for decisions that are in force for all.
        """
        closed = not binding and not viewer.may_read_private
        nodes = {subject.id: subject}
        names = {key_of(subject.id): subject.id}
        found: dict[Edge, None] = {}
        with self._database.reading() as session:
            ring = deque((edge, subject.id, 1) for edge in edges if not edge.rejected)
            while ring:
                edge, child, depth = ring.popleft()
                dataset = edge.relation in _OF_DATASETS
                wanted = DATASET_PREFIX + edge.parent if dataset else edge.parent
                variant = _variant(edge, nodes.get(names.get(key_of(wanted), "")))
                how = self._told_how(session, edge, dataset, viewer, nodes[child]) if closed else _Told.OPEN
                key = ("\0" if how is _Told.UNNAMED else "") + key_of(wanted) + variant
                if key == key_of(child):
                    continue
                if key not in names:
                    if len(nodes) >= MOST_NODES or depth > MOST_DEPTH:
                        member = _Member(Node(id=wanted, instruments=UNKNOWN, visible=how is not _Told.UNNAMED), ())
                    else:
                        member = self._member(session, edge, dataset, viewer, how)
                    name = member.node.id + variant
                    name = names[key] = name if name not in nodes else f"{name} ({len(nodes)})"  # unnamed beside named
                    nodes[name] = msgspec.structs.replace(member.node, id=name)
                    held = [inner for inner in member.edges if not inner.rejected]
                    ring += [(inner, name, depth + 1) for inner in held if len(nodes) < 2 * MOST_NODES]
                status = as_declared(edge).status if how is _Told.ABSENT else edge.status
                made = Edge(child=child, parent=names[key], relation=edge.relation, status=status)
                if made.child != made.parent:
                    found[made] = None
        return Family(subject=subject.id, nodes=nodes, edges=tuple(found))

    def _told_how(self, session: Session, edge: LineageEdge, dataset: bool, viewer: Actor, child: Node) -> "_Told":
        """How a parent is told to somebody who may not read private models."""
        starter = None if dataset else self._starter.get(key_of(edge.parent))
        row = self._standing(session, edge.parent, RepoType.DATASET if dataset else RepoType.MODEL)
        if edge.terms or (row is None and starter is not None) or (row is not None and visible(row.private, viewer)):
            return _Told.OPEN
        return _Told.UNNAMED if is_shown(edge) or not child.visible else _Told.ABSENT

    def _standing(self, session: Session, model_id: str, repo_type: RepoType) -> ModelRow | None:
        return self._row(session, model_id, repo_type) or self._tombstone(session, model_id, repo_type)

    def _member(self, session: Session, edge: LineageEdge, dataset: bool, viewer: Actor, how: "_Told") -> _Member:
        parent = edge.parent
        if edge.terms:  # what a provider gave under its terms of that day
            return _Member(Node(id=parent, instruments=edge.terms, kind="api"), ())
        repo_type = RepoType.DATASET if dataset else RepoType.MODEL
        prefix = DATASET_PREFIX if dataset else ""
        row = None if how is _Told.ABSENT else self._standing(session, parent, repo_type)
        starter = None if dataset else self._starter.get(key_of(parent))
        if row is None and starter is None:
            kind, named = "dataset" if dataset else "weights", how is not _Told.UNNAMED
            return _Member(Node(id=prefix + parent, instruments=UNKNOWN, kind=kind, visible=named), ())
        if row is None and starter is not None:
            node = Node(
                id=starter.id,
                instruments=_bound(self._at_the_time(starter, edge)),
                kind=_node_kind(starter),
                facts=_facts_of(starter),
            )
            return _Member(node, starter_edges(starter))
        assert row is not None
        model = self._entity(row)
        pinned = self._at(session, row, edge) if edge.parent_revision else None
        of_starter = starter.instruments if starter is not None else ()
        instruments = model.instruments if pinned is None else (*of_starter, *pinned.instruments)
        sha = row.head if pinned is None else pinned.sha
        node = Node(
            id=prefix + model.id,
            revision=sha,
            instruments=_bound(dict.fromkeys(instruments)),
            facts=_facts_of(starter),
            kind="dataset" if dataset else "weights",
            visible=visible(row.private, viewer),
        )
        known = starter_edges(starter) if starter is not None else ()
        return _Member(node, (*known, *self._edges_at(session, row, sha)))

    def _at_the_time(self, starter: Model, edge: LineageEdge) -> tuple[str, ...]:
        """What binds a starter entry; outputs of a provider's model stay under the terms of the days they were made."""
        provider = starter.id.partition("/")[0]
        told = edge.made_from is not None or edge.made_until is not None
        if edge.relation is Relation.GENERATED_BY and told and starter.kind is ModelKind.API and is_provider(provider):
            return terms_of_outputs(
                self._knowledge, provider=provider, terms=None, since=edge.made_from, until=edge.made_until
            )
        return starter.instruments

    def _at(self, session: Session, row: ModelRow, edge: LineageEdge) -> RevisionRow | None:
        """The parent's revision that an edge names: the very one where we know that it made the outputs."""
        assert edge.parent_revision is not None
        if edge.relation is Relation.GENERATED_BY and edge.status is EdgeStatus.VERIFIED:
            return session.get(RevisionRow, (row.key, edge.parent_revision))
        return self._pinned(session, row, edge.parent_revision)

    def _pinned(self, session: Session, row: ModelRow, sha: str) -> RevisionRow | None:
        """The revision that a child names, if it ever was the newest one of main and said under what it was."""
        at, steps = row.head, 0
        while at is not None and steps < MOST_COMMITS:
            found = session.get(RevisionRow, (row.key, at))
            if found is None:
                return None
            if at == sha:
                return found if found.instruments and "none" not in found.instruments else None
            at, steps = (found.parents[0] if found.parents else None), steps + 1
        return None

    def _tombstone(self, session: Session, model_id: str, repo_type: RepoType) -> ModelRow | None:
        wanted = sa.select(ModelRow).where(ModelRow.repo_type == repo_type.value, ModelRow.folded == key_of(model_id))
        return session.scalars(wanted.order_by(ModelRow.key.desc()).limit(1)).first()

    def _edges_at(self, session: Session, row: ModelRow, sha: str | None) -> tuple[LineageEdge, ...]:
        wanted = sa.select(EdgeRow).where(EdgeRow.model_key == row.key, EdgeRow.sha == (sha or ""))
        return tuple(edge_of(edge, _name_of(row)) for edge in session.scalars(wanted.order_by(EdgeRow.key).limit(200)))

    def parents(self, model: Model, revision: Revision | None) -> list[LineageEdge]:
        """The edges from a revision to its parents."""
        return list(revision.edges) if revision is not None else list(starter_edges(model))

    def children(self, model: Model, *, viewer: Actor = SYSTEM, limit: int = 200) -> list[LineageEdge]:
        """The edges from newest revisions of other models to this one, as far as the viewer may see them."""
        wanted = (
            sa.select(EdgeRow, ModelRow)
            .join(ModelRow, ModelRow.key == EdgeRow.model_key)
            .where(EdgeRow.parent_folded == key_of(model.id), EdgeRow.sha == ModelRow.head, ModelRow.buried == 0)
            .order_by(ModelRow.folded)
            .limit(limit)
        )
        if not viewer.may_read_private:
            wanted = wanted.where(ModelRow.private.is_(False))
        of_dataset = model.repo_type is RepoType.DATASET
        with self._database.reading() as session:
            found = [edge_of(edge, _name_of(row)) for edge, row in session.execute(wanted)]
        found = [edge for edge in found if (edge.relation in _OF_DATASETS) == of_dataset and not edge.rejected]
        if not of_dataset:
            ours = key_of(model.id)
            known = (edge for entry in self._starter.values() for edge in starter_edges(entry))
            found += [edge for edge in known if key_of(edge.parent) == ours]
        return found[:limit]


def starter_edges(model: Model) -> tuple[LineageEdge, ...]:
    """The lineage that the starter catalogue states for an entry (`facts["lineage"]`)."""
    return tuple(
        LineageEdge(
            child=model.id,
            parent=str(edge["parent"]),
            relation=Relation(edge["relation"]),
            asserted_by="starter catalogue",
            evidence=str(edge.get("source", "")),
        )
        for edge in model.facts.get("lineage", ())
    )


def _variant(edge: LineageEdge, known: Node | None) -> str:
    """What tells outputs of another revision, or under other terms, from those of a member that is known already."""
    if edge.relation is not Relation.GENERATED_BY or known is None:
        return ""
    if edge.terms:
        return "" if known.instruments == edge.terms else f"@{'+'.join(edge.terms)}"
    other = edge.parent_revision is not None and edge.parent_revision != known.revision
    return f"@{edge.parent_revision}" if other else ""


def _name_of(row: ModelRow) -> str:
    """A member's id; one of a data set says so."""
    prefix = DATASET_PREFIX if row.repo_type == RepoType.DATASET else ""
    return f"{prefix}{row.namespace}/{row.name}"


_OF_LICENCES = ("text", "image", "audio", "video")


def _facts_of(starter: Model | None) -> dict[str, Any]:
    """What licences ask of a model itself, as far as the starter catalogue knows: what goes in and comes out. A card's
    own word is not taken for it, and what nobody said stays unknown."""
    known = starter.facts.get("modalities") if starter is not None and starter.kind is not ModelKind.API else None
    if not known:
        return {}
    through = {*known["input"], *known["output"]}
    return {"model.modality": [kind for kind in _OF_LICENCES if kind in through]}


def _bound(instruments: Iterable[str]) -> tuple[str, ...]:
    return tuple(instruments) or UNKNOWN


def _node_kind(model: Model) -> str:
    if model.repo_type is RepoType.DATASET:
        return "dataset"
    return "api" if model.kind is ModelKind.API else "weights"
