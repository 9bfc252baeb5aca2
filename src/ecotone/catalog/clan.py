"""Clan: all that comes from a model, however far down, and with it whatever else binds those.

What counts is the newest revision of each: the edges of older ones are history. Where a child names a revision of its
parent, that revision is a member of its own (`namespace/name@sha`), since another licence may have held then. A model
that was deleted still stands between its parents and its children; one that nobody here has is a member too. The work
is bounded: a ring of children at a time, a few hundred to a statement, and no more than `MOST_MEMBERS` members.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog.entities import LineageEdge
from ecotone.catalog.errors import ModelNotFound
from ecotone.catalog.families import DATASET_PREFIX, Families, _facts_of, starter_edges
from ecotone.catalog.history import edge_of
from ecotone.catalog.models import EdgeRow, ModelRow, RedirectRow
from ecotone.catalog.names import key_of
from ecotone.catalog.part import visible
from ecotone.catalog.settled import BY_WEIGHTS, SAID_SO, as_declared, is_shown
from ecotone.database import batches
from ecotone.licences import Edge, Family, Node
from ecotone.vocabulary import EdgeStatus, ModelKind, Relation, RepoType

MOST_MEMBERS = 10_000
_BATCH = 300
_MOST_EDGES = 200
_UNKNOWN = ("unknown",)
_OF_DATASETS = (Relation.TRAINED_ON, Relation.EVALUATED_ON)


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a clan. `key` is unique in it: the name, with `@sha` for a revision that a child names.

    `name` is the id, a dataset's after `datasets/`. `instruments` bind the member itself. `known` is false for one that
    neither the hub nor the starter catalogue has; `deleted` for one of which a tombstone is left. One that is not
    `visible` may not be named to the viewer.
    """

    key: str
    name: str
    kind: str
    instruments: tuple[str, ...]
    revision: str | None = None
    facts: dict[str, object] = {}
    row: int = 0
    known: bool = True
    deleted: bool = False
    visible: bool = True
    private: bool = False

    def node(self) -> Node:
        """As the licence engine reads it."""
        return Node(self.key, self.revision, self.instruments, self.kind, self.visible, self.facts)


class Bond(msgspec.Struct, frozen=True, kw_only=True):
    """A lineage edge between two members, by their keys."""

    child: str
    parent: str
    edge: LineageEdge

    @property
    def binds(self) -> bool:
        """Whether anything may come down it."""
        return self.edge.status is not EdgeStatus.REFUTED and self.edge.relation is not Relation.EVALUATED_ON


class Clan(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A model, its ancestors and descendants, and what else those descend from. `cut`: there are more."""

    subject: str
    members: dict[str, Member]
    bonds: tuple[Bond, ...]
    cut: bool = False

    @cached_property
    def above(self) -> Mapping[str, list[Bond]]:
        """Bonds by child."""
        return _by(self.bonds, "child")

    @cached_property
    def below(self) -> Mapping[str, list[Bond]]:
        """Bonds by parent."""
        return _by(self.bonds, "parent")

    @cached_property
    def selves(self) -> tuple[str, ...]:
        """Keys of the subject: as it is now, and the revisions of it that children name."""
        name = self.members[self.subject].name
        return (
            self.subject,
            *(k for k, m in self.members.items() if m.name == name and k != self.subject and m.visible),
        )

    def descendants(self, selves: Iterable[str] | None = None) -> dict[str, tuple[Bond, ...]]:
        """Members below the subject (or these of its revisions), nearest first, each with a shortest way down to it.
        What was refuted leads nowhere, nor does what a model was only evaluated on."""
        found: dict[str, tuple[Bond, ...]] = dict.fromkeys(self.selves if selves is None else selves, ())
        ring = list(found)
        for key in ring:
            for bond in self.below.get(key, ()):
                if bond.child not in found and bond.binds:
                    found[bond.child] = (*found[key], bond)
                    ring.append(bond.child)
        return {key: way for key, way in found.items() if way}

    def ancestors(self, key: str) -> dict[str, int]:
        """Members above one, with how far up each stands, nearest first. A parent that was refuted is among them, but
        not what is only above such a one."""
        found = {key: 0}
        ring = [key]
        for one in ring:
            for bond in self.above.get(one, ()):
                if bond.parent not in found and bond.edge.status is not EdgeStatus.REFUTED:
                    found[bond.parent] = found[one] + 1
                    ring.append(bond.parent)
        for one in ring:
            for bond in self.above.get(one, ()):
                found.setdefault(bond.parent, found[one] + 1)
        del found[key]
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def family(self, key: str, nodes: Mapping[str, Node]) -> Family:
        """A member and its ancestors as the licence engine reads them."""
        keys = {key: None} | dict.fromkeys(self.ancestors(key))
        edges = [
            Edge(b.child, b.parent, b.edge.relation, b.edge.status)
            for one in keys
            for b in self.above.get(one, ())
            if b.parent in keys
        ]
        return Family(key, {one: nodes[one] for one in keys}, tuple(dict.fromkeys(edges)))


def _by(bonds: Iterable[Bond], end: str) -> dict[str, list[Bond]]:
    found: dict[str, list[Bond]] = {}
    for bond in bonds:
        found.setdefault(getattr(bond, end), []).append(bond)
    return found


class ClanPart(Families):
    """Walks over lineage edges in both directions."""

    def clan(self, name: str, *, viewer: Actor = SYSTEM, most: int = MOST_MEMBERS) -> Clan:
        """The clan of `namespace/name` (a dataset's after `datasets/`), deleted or only named by children too.

        To whoever may not see a private model it is like one that nobody here has.

        Raises:
            ModelNotFound: when nothing is known under that name.
        """
        with self._database.reading() as session:
            walk = _Walk(self, session, viewer, most)
            subject = walk.subject(name)
            walk.down(subject)
            walk.up()
        if not subject.known and not any(bond.parent in (subject.key,) for bond in walk.bonds):
            raise ModelNotFound(name)
        members = {key: m for key, m in walk.members.items() if m.visible or key in walk.read}
        return Clan(subject=subject.key, members=members, bonds=tuple(walk.bonds), cut=walk.cut)

    def facts_of(self, model_id: str) -> dict[str, object]:
        """What licences ask of a model itself, as far as the starter catalogue knows."""
        return _facts_of(self._starter.get(key_of(model_id)))


class _Walk:
    """One walk: down from the subject ring by ring, then up from everything that was met."""

    def __init__(self, part: ClanPart, session: Session, viewer: Actor, most: int) -> None:
        self._part, self._session, self._viewer, self._most = part, session, viewer, most
        self.members: dict[str, Member] = {}
        self.bonds: list[Bond] = []
        self.cut = False
        self._seen: set[tuple[str, str, LineageEdge]] = set()
        self._keys: dict[str, str] = {}
        self._unread: list[Member] = []
        self._heads: dict[int, str | None] = {}
        self._unread_names: dict[str, Member] = {}
        self.read: set[str] = set()
        self._rows: dict[int, ModelRow] = {}
        self._starting: dict[str, list[str]] = {}
        for entry in part._starter.values():
            for edge in starter_edges(entry):
                self._starting.setdefault(key_of(edge.parent), []).append(key_of(entry.id))

    # -- members -----------------------------------------------------------------------------------------------------
    def subject(self, name: str) -> Member:
        found = self._resolved([name])[name]
        if found.visible:
            return found
        self._unread.clear()
        self._keys.clear()
        self.members = {}
        return self._like_absent(name)

    def _like_absent(self, name: str) -> Member:
        """A model that the viewer may not read, as one that nobody here has."""
        if key_of(name) not in self._unread_names:
            self._unread_names[key_of(name)] = self._without_row(name)
            stub = self._unread_names[key_of(name)]
            self.members[stub.key] = stub
            self._met(stub)
        return self._unread_names[key_of(name)]

    def _told(self, child: Member, edge: LineageEdge, parent: Member) -> tuple[Member, LineageEdge]:
        """A parent and the edge to it as the viewer is told them."""
        if self._viewer.may_read_private or (parent.visible and parent.known):
            return parent, edge
        if is_shown(edge) or not child.visible:  # no public card names it
            return (self._unnamed(parent) if parent.visible else parent), edge
        return self._like_absent(_parent_name(edge)), as_declared(edge)

    def _unnamed(self, absent: Member) -> Member:
        key = f"\0{absent.name}"
        return self.members.setdefault(key, msgspec.structs.replace(absent, key=key, visible=False))

    def _resolved(self, names: Iterable[str]) -> dict[str, Member]:
        """The member for each name: a living repository, one that was moved, a tombstone, an entry, or unknown."""
        found = {n: self.members[self._keys[key_of(n)]] for n in names if key_of(n) in self._keys}
        wanted = [n for n in names if n not in found]
        for of_datasets in (False, True):
            some = [n for n in wanted if n.startswith(DATASET_PREFIX) is of_datasets]
            rows = self._living(some, RepoType.DATASET if of_datasets else RepoType.MODEL)
            for name in some:
                found[name] = self._member(name, rows.get(key_of(_bare(name))))
        return found

    def _living(self, names: list[str], repo_type: RepoType) -> dict[str, ModelRow]:
        """Rows by folded id: the living, else those moved away from it, else the newest tombstone."""
        found: dict[str, ModelRow] = {}
        folded = [key_of(_bare(n)).replace("\0", "\ufffd") for n in names]
        for some in batches(folded, _BATCH):
            of_type = ModelRow.repo_type == repo_type.value
            wanted = sa.select(ModelRow).where(of_type, ModelRow.folded.in_(some)).order_by(ModelRow.key)
            for row in self._session.scalars(wanted):
                if row.folded not in found or found[row.folded].buried:
                    found[row.folded] = row
            missing = [f for f in some if f not in found or found[f].buried]
            moved = (
                sa.select(RedirectRow.folded, ModelRow)
                .join(ModelRow, ModelRow.key == RedirectRow.model_key)
                .where(RedirectRow.repo_type == repo_type.value, RedirectRow.folded.in_(missing), ModelRow.buried == 0)
            )
            leading = [(old, row) for old, row in self._session.execute(moved)]
            found |= {old: row for old, row in leading if self._part._may_lead(repo_type, old, row.folded)}
        return found

    def _member(self, name: str, row: ModelRow | None) -> Member:
        member = self._of_row(row) if row is not None else self._without_row(name)
        self._keys[key_of(name)] = member.key
        return self._placed(member)

    def _without_row(self, name: str) -> Member:
        dataset = name.startswith(DATASET_PREFIX)
        starter = None if dataset else self._part._starter.get(key_of(name))
        if starter is None:
            kind = "dataset" if dataset else "weights"
            return Member(key=name, name=name, kind=kind, instruments=_UNKNOWN, known=False)
        return Member(
            key=starter.id,
            name=starter.id,
            kind="api" if starter.kind is ModelKind.API else "weights",
            instruments=starter.instruments or _UNKNOWN,
            facts=self._part.facts_of(starter.id),
        )

    def _of_row(self, row: ModelRow) -> Member:
        model = self._part._entity(row)
        name = _prefix(model.repo_type) + model.id
        self._rows[row.key] = row
        seen = visible(row.private, self._viewer)
        return Member(
            key=name if seen else f"\0{name}",
            name=name,
            kind="dataset" if model.repo_type is RepoType.DATASET else "weights",
            instruments=model.instruments or _UNKNOWN,
            revision=row.head,
            facts={} if model.repo_type is RepoType.DATASET else self._part.facts_of(model.id),
            row=row.key,
            deleted=bool(row.buried),
            visible=seen,
            private=row.private,
        )

    def _placed(self, member: Member) -> Member:
        known = self.members.get(member.key)
        if known is not None and not (known.deleted and not member.deleted):
            return known
        self.members[member.key] = member
        self._keys[key_of(member.name)] = member.key
        if member.visible:
            self._met(member)
        return member

    def _met(self, member: Member) -> None:
        """Have the edges of a member read. One that may not be named is met only where an edge leads to it that the
        viewer may be told."""
        if member.key not in self.read:
            self.read.add(member.key)
            self._unread.append(member)

    # -- down --------------------------------------------------------------------------------------------------------
    def down(self, subject: Member) -> None:
        """Everything that names the subject as a parent, and so on."""
        ring = [subject]
        while ring and not self.cut:
            known = set(self.members)
            met = [m for of_datasets in (False, True) for m in self._ring_below(ring, of_datasets)]
            ring = list({m.key: m for m in met if m.key not in known}.values())

    def _ring_below(self, ring: list[Member], of_datasets: bool) -> Iterator[Member]:
        """The children of those members of a ring that are datasets, or of those that are not."""
        some = [m for m in ring if (m.kind == "dataset") is of_datasets]
        names = [*(_bare(key_of(m.name)) for m in some if m.visible), *self._former(some)]
        rows: dict[int, ModelRow] = {}
        for ways, members in self._by_ways(some):
            named = [*(_bare(key_of(m.name)) for m in members), *self._former(members)]
            rows |= {row.key: row for row in self._children(named, of_datasets, ways)}
        for row in sorted(rows.values(), key=lambda r: (bool(r.buried), r.folded)):
            if len(self.members) >= self._most:
                self.cut = True
                return
            child = self._placed(self._of_row(row))
            self._met(child)
            yield child
        starting = [] if of_datasets else [s for n in names for s in self._starting.get(n, ())]
        ids = [self._part._starter[folded].id for folded in starting]
        yield from self._resolved(ids).values()

    def _by_ways(self, some: list[Member]) -> Iterator[tuple[sa.ColumnElement[bool], list[Member]]]:
        """Members with the edges by which their children are told: all of one that may be read; else those that weights
        show, and for one that stands as absent those that cards declare."""
        shown = sa.or_(EdgeRow.asserted_by == BY_WEIGHTS, EdgeRow.evidence == SAID_SO)
        closed = not self._viewer.may_read_private
        hidden = [m for m in some if not m.visible]
        absent = [m for m in some if closed and m.visible and not (m.row or m.known)]
        absent += [m for m in some if closed and m in self._unread_names.values() and m not in absent]
        yield sa.true(), [m for m in some if m not in hidden and m not in absent]
        yield shown, hidden
        yield sa.not_(shown), absent

    def _former(self, ring: list[Member]) -> list[str]:
        """Names that members of a ring had before they were moved."""
        found: list[str] = []
        for some in batches([m.row for m in ring if m.row], _BATCH):
            found += self._session.scalars(sa.select(RedirectRow.folded).where(RedirectRow.model_key.in_(some)))
        return found

    def _children(self, names: list[str], of_datasets: bool, ways: sa.ColumnElement[bool]) -> Iterator[ModelRow]:
        datasets = [r.value for r in _OF_DATASETS]
        for some in batches(names, _BATCH):
            wanted = (
                sa.select(ModelRow)
                .join(EdgeRow, sa.and_(EdgeRow.model_key == ModelRow.key, EdgeRow.sha == ModelRow.head))
                .where(EdgeRow.parent_folded.in_(some), ways)
                .where(EdgeRow.relation.in_(datasets) if of_datasets else EdgeRow.relation.not_in(datasets))
                .order_by(ModelRow.folded, ModelRow.key)
                .limit(self._most + 1)
            )
            yield from (row for row in self._session.scalars(wanted) if not self._reborn(row))

    def _reborn(self, row: ModelRow) -> bool:
        """Whether a deleted repository's id is another one's today."""
        if not row.buried:
            return False
        living = sa.select(ModelRow.key).where(ModelRow.repo_type == row.repo_type, ModelRow.folded == row.folded)
        return self._session.scalar(living.where(ModelRow.buried == 0)) is not None

    # -- up ----------------------------------------------------------------------------------------------------------
    def up(self) -> None:
        """The edges of everything that was met, and the parents that they name, to the top."""
        while self._unread:
            some, self._unread = self._unread[:_BATCH], self._unread[_BATCH:]
            edges = self._edges(some)
            self._resolved({_parent_name(e) for _, e in edges})
            for member, edge in edges:
                parent = self.members[self._keys[key_of(_parent_name(edge))]]
                if parent.key == member.key or parent.name == member.name:
                    continue
                parent, edge = self._told(member, edge, parent)
                self._met(parent)
                pinned = self._pinned(parent, edge.parent_revision)
                mark = (member.key, pinned.key, msgspec.structs.replace(edge, child=""))
                if mark not in self._seen:
                    self._seen.add(mark)
                    self.bonds.append(Bond(child=member.key, parent=pinned.key, edge=edge))
            if len(self.members) > 2 * self._most:
                self.cut, self._unread = True, []

    def _edges(self, members: list[Member]) -> list[tuple[Member, LineageEdge]]:
        at = {(m.row, m.revision or ""): m for m in members if m.row}
        found: list[tuple[Member, LineageEdge]] = []
        for member in members:
            starter = self._part._starter.get(key_of(member.name)) if member.kind != "dataset" else None
            if starter is not None:
                found += [(member, edge) for edge in starter_edges(starter)]
        wanted = sa.select(EdgeRow).where(EdgeRow.model_key.in_({row for row, _ in at}))
        wanted = wanted.where(EdgeRow.sha.in_({sha for _, sha in at})).order_by(EdgeRow.key)
        counted: dict[str, int] = {}
        for row in self._session.scalars(wanted) if at else ():
            one = at.get((row.model_key, row.sha))
            if one is not None and counted.setdefault(one.key, 0) < _MOST_EDGES:
                counted[one.key] += 1
                found.append((one, edge_of(row, one.name)))
        return found

    def _pinned(self, parent: Member, sha: str | None) -> Member:
        """The revision that a child names, where that is not the newest one and said under what it was."""
        if sha is None or sha == parent.revision or not parent.row:
            return parent
        key = f"{parent.key}@{sha}"
        if key in self.members:
            return self.members[key]
        row = self._rows.get(parent.row) or self._session.get(ModelRow, parent.row)
        found = self._part._pinned(self._session, row, sha) if row is not None else None
        if found is None:
            return parent
        starter = self._part._starter.get(key_of(parent.name)) if parent.kind != "dataset" else None
        instruments = tuple(dict.fromkeys([*(starter.instruments if starter else ()), *found.instruments]))
        return self._placed_pin(msgspec.structs.replace(parent, key=key, revision=sha, instruments=instruments))

    def _placed_pin(self, member: Member) -> Member:
        self.members[member.key] = member
        self._unread.append(member)
        return member


def _parent_name(edge: LineageEdge) -> str:
    return DATASET_PREFIX + edge.parent if edge.relation in _OF_DATASETS else edge.parent


def _bare(name: str) -> str:
    return name.removeprefix(DATASET_PREFIX)


def _prefix(repo_type: RepoType) -> str:
    return DATASET_PREFIX if repo_type is RepoType.DATASET else ""
