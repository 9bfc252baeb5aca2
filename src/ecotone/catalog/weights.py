"""The weights of revisions: which contents they are made of, where to look for their relatives, and what was found.

A set of weights outlives its repository as its tombstone does, so that a deleted parent still answers.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Actor
from ecotone.catalog.entities import LineageEdge, Model, WeightSet
from ecotone.catalog.errors import ModelNotFound
from ecotone.catalog.history import edge_of, edge_row
from ecotone.catalog.models import EdgeRow, ModelRow, RevisionRow
from ecotone.catalog.names import key_of
from ecotone.catalog.part import Part, visible
from ecotone.catalog.settled import BY_WEIGHTS, SAID, as_declared, is_shown, settled, unnamed, unsettled
from ecotone.catalog.weight_rows import WeightFileRow, WeightSetRow, keep_weights, weights_of_row
from ecotone.database import batches
from ecotone.vocabulary import RepoType

MOST_ALIKE = 4096
_BATCH = 500
UNTOLD = "a private model"


class Kin(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose weights may be compared, living or a tombstone. `since` is when its weights came first."""

    model: Model
    revision: str
    deleted: bool
    weights: WeightSet
    since: datetime


def asserter(name: str) -> str:
    """Who asserts what a user says: their name, never the word that stands for weights, whose edges come and go."""
    return f"user {name}" if name == BY_WEIGHTS else name


class WeightSets(Part):
    """Services over the weights of revisions."""

    def weights(self, model: Model, sha: str) -> WeightSet | None:
        """The weights of a revision; None when it has none, or came before they were kept."""
        with self._database.reading() as session:
            row = session.get(WeightSetRow, (model.key, sha))
            return None if row is None else weights_of_row(row)

    def checks_between(self, pairs: Iterable[tuple[int, str, int]]) -> dict[tuple[int, str, int], list[Any]]:
        """What was checked of weights, as it is kept, for pairs of a child's key, its revision and a parent's key."""
        wanted: dict[tuple[int, str], list[int]] = {}
        for child, sha, parent in pairs:
            wanted.setdefault((child, sha), []).append(parent)
        found: dict[tuple[int, str, int], list[Any]] = {}
        children = list(wanted)
        with self._database.reading() as session:
            for some in batches(children, _BATCH):
                rows = sa.select(WeightSetRow.model_key, WeightSetRow.sha, WeightSetRow.report).where(
                    WeightSetRow.model_key.in_({key for key, _ in some}), WeightSetRow.sha.in_({sha for _, sha in some})
                )
                for key, sha, report in session.execute(rows):
                    parents = wanted.get((key, sha), ())
                    for one in report.get("candidates", ()) if parents else ():
                        if one.get("key") in parents and one.get("checks"):
                            found[key, sha, one["key"]] = one["checks"]
        return found

    def kin_of(self, model_id: str, revision: str | None = None) -> Kin | None:
        """The weights of a model by its id: of the revision named, else of main, else the newest; also of a deleted
        one. None when nothing is known of them."""
        with self._database.reading() as session:
            row = self._row(session, model_id, RepoType.MODEL) or self._buried(session, model_id)
            return None if row is None else self._kin(session, row, revision)

    def kin(self, keys: Iterable[int]) -> list[Kin]:
        """The weights of models by their keys, in that order."""
        with self._database.reading() as session:
            rows = [session.get(ModelRow, key) for key in keys]
            found = [self._kin(session, row, None) for row in rows if row is not None]
        return [kin for kin in found if kin is not None]

    def holders(self, names: Iterable[str]) -> list[int]:
        """Keys of the models that hold some of these contents, those that had them first in front."""
        wanted = sorted(set(names))[:_BATCH]
        first = sa.func.min(WeightFileRow.added)
        rows = (
            sa.select(WeightFileRow.model_key)
            .where(WeightFileRow.name.in_(wanted))
            .group_by(WeightFileRow.model_key)
            .order_by(first, WeightFileRow.model_key)
            .limit(_BATCH)
        )
        with self._database.reading() as session:
            return list(session.scalars(rows))

    def alike(self, signature: str | None) -> list[tuple[int, bytes]]:
        """Key and sketch of the models of one build, or of any (None), each distinct set of weights once, the newest
        ones."""
        every = sa.select(WeightSetRow.model_key, WeightSetRow.digest, WeightSetRow.sketch)
        chosen = every if signature is None else every.where(WeightSetRow.signature == signature)
        wanted = chosen.order_by(WeightSetRow.created.desc()).limit(MOST_ALIKE)
        with self._database.reading() as session:
            rows = {(key, digest): sketch for key, digest, sketch in session.execute(wanted)}
        return [(key, sketch) for (key, _), sketch in rows.items()]

    def waiting(self) -> list[tuple[int, str]]:
        """(model key, revision) of weights that wait for a job that was never given."""
        wanted = sa.select(WeightSetRow.model_key, WeightSetRow.sha)
        with self._database.reading() as session:
            rows = session.execute(wanted.where(WeightSetRow.state == "waiting", WeightSetRow.job.is_(None)).limit(500))
            return [(key, sha) for key, sha in rows]

    def note_job(self, model: Model, sha: str, job: str) -> None:
        """Which job examines the weights of a revision."""
        at = (WeightSetRow.model_key == model.key, WeightSetRow.sha == sha)
        with self._database.writing() as session:
            session.execute(sa.update(WeightSetRow).where(*at).values(job=job))

    def model_of(self, key: int) -> Model:
        """A living model by its key. Raises ModelNotFound."""
        with self._database.reading() as session:
            row = session.get(ModelRow, key)
            if row is None or row.buried:
                raise ModelNotFound(str(key))
            return self._entity(row)

    def told_names(self, keys: Iterable[int], viewer: Actor) -> dict[int, str]:
        """The id of each of some models, living or deleted, as the viewer may be told it."""
        found: dict[int, str] = {}
        with self._database.reading() as session:
            for key in set(keys):
                row = session.get(ModelRow, key)
                shown = row is not None and visible(row.private, viewer)
                found[key] = f"{row.namespace}/{row.name}" if row is not None and shown else UNTOLD
        return found

    def told_edges(self, edges: Sequence[LineageEdge], viewer: Actor) -> list[LineageEdge]:
        """Edges as the viewer may be told them: a private parent that weights showed stays unnamed, and what
        they say of one that a card names stays unsaid."""
        if viewer.may_read_private:
            return list(edges)
        with self._database.reading() as session:
            return [self._told(session, edge, viewer) for edge in edges]

    def told_with_hidden(self, edges: Sequence[LineageEdge], viewer: Actor) -> tuple[list[LineageEdge], set[str]]:
        """The same, and the names of those parents of which the viewer is not told all."""
        told = self.told_edges(edges, viewer)
        return told, {edge.parent for edge, seen in zip(edges, told, strict=True) if edge != seen}

    def _told(self, session: Session, edge: LineageEdge, viewer: Actor) -> LineageEdge:
        shown = is_shown(edge)
        if not shown and SAID not in edge.evidence and edge.said is None:
            return edge
        row = self._row(session, edge.parent, RepoType.MODEL) or self._buried(session, edge.parent)
        known = row is not None or key_of(edge.parent) in self._starter
        if (row is None or visible(row.private, viewer)) and (known or edge.said is None):
            return edge
        if not shown:
            return as_declared(edge)
        by = edge.asserted_by if edge.asserted_by == BY_WEIGHTS else "an administrator"
        said = unnamed(edge)
        return msgspec.structs.replace(edge, parent=UNTOLD, parent_revision=None, asserted_by=by, said=said)

    def record_descent(
        self,
        model: Model,
        digest: str,
        made: WeightSet,
        edges_of: Callable[[str, list[LineageEdge]], list[LineageEdge]],
        *,
        before_visible: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Put what was found of weights in the place of what was known, for every revision that has them.

        Args:
            digest: of the weights.
            made: the new facts.
            edges_of: gives the new edges of a revision from those that it has.
            before_visible: called last before the transaction ends; what it raises undoes everything.

        Returns:
            The revisions.

        Raises:
            ModelNotFound: the model was deleted meanwhile.
        """
        with self._database.writing() as session:
            row = self._locked(session, model)
            wanted = sa.select(WeightSetRow).where(WeightSetRow.model_key == model.key, WeightSetRow.digest == digest)
            rows = list(session.scalars(wanted))
            name = f"{row.namespace}/{row.name}"
            for one in rows:
                one.signature, one.sketch, one.state = made.signature, made.sketch, made.state
                one.report, one.job = made.report, made.job or one.job
                at = (EdgeRow.model_key == model.key, EdgeRow.sha == one.sha)
                old = [edge_of(e, name) for e in session.scalars(sa.select(EdgeRow).where(*at).order_by(EdgeRow.key))]
                new = settled(session, row, one.sha, digest, edges_of(one.sha, unsettled(old)))
                if new != old:
                    session.execute(sa.delete(EdgeRow).where(*at))
                    session.add_all(edge_row(model.key, one.sha, edge) for edge in new)
            session.flush()
            before_visible()
            return [one.sha for one in rows]

    def add_weights(self, model: Model, sha: str, weights: WeightSet) -> None:
        """Keep the weights of a revision that came before they were kept, as of the day on which it came: who was first
        tells parent from child."""
        with self._database.writing() as session:
            self._locked(session, model)
            revision = session.get(RevisionRow, (model.key, sha))
            if revision is not None:
                keep_weights(session, model.key, sha, weights, since=revision.date)

    def without_weights(self, *, after: tuple[int, str] = (0, "")) -> list[tuple[int, str]]:
        """(model key, revision) of living models' revisions whose weights, if any, were never kept; some of those that
        come behind one, in that order."""
        wanted = _without_weights(after, RevisionRow.model_key, RevisionRow.sha)
        wanted = wanted.order_by(RevisionRow.model_key, RevisionRow.sha).limit(_BATCH)
        with self._database.reading() as session:
            return [(key, sha) for key, sha in session.execute(wanted)]

    def count_without_weights(self, *, after: tuple[int, str] = (0, "")) -> int:
        """How many there are behind one."""
        with self._database.reading() as session:
            return session.scalar(_without_weights(after, sa.func.count())) or 0

    def _buried(self, session: Session, model_id: str) -> ModelRow | None:
        wanted = sa.select(ModelRow).where(
            ModelRow.repo_type == RepoType.MODEL.value, ModelRow.folded == key_of(model_id), ModelRow.buried != 0
        )
        return session.scalars(wanted.order_by(ModelRow.key.desc()).limit(1)).first()

    def _kin(self, session: Session, row: ModelRow, revision: str | None) -> Kin | None:
        found = None
        for sha in (revision, row.head):
            found = found or (session.get(WeightSetRow, (row.key, sha)) if sha else None)
        if found is None:
            newest = sa.select(WeightSetRow).where(WeightSetRow.model_key == row.key)
            found = session.scalars(newest.order_by(WeightSetRow.created.desc()).limit(1)).first()
        if found is None:
            return None
        names = found.names[:_BATCH]
        since = session.scalar(
            sa.select(sa.func.max(WeightFileRow.added)).where(
                WeightFileRow.model_key == row.key, WeightFileRow.name.in_(names)
            )
        )
        return Kin(
            model=self._entity(row),
            revision=found.sha,
            deleted=bool(row.buried),
            weights=weights_of_row(found),
            since=since or found.created,
        )


def _without_weights(after: tuple[int, str], *columns: Any) -> sa.Select[Any]:
    key, sha = after
    at = (WeightSetRow.model_key == RevisionRow.model_key, WeightSetRow.sha == RevisionRow.sha)
    behind = sa.or_(RevisionRow.model_key > key, sa.and_(RevisionRow.model_key == key, RevisionRow.sha > sha))
    return (
        sa.select(*columns)
        .select_from(RevisionRow)
        .join(ModelRow, ModelRow.key == RevisionRow.model_key)
        .outerjoin(WeightSetRow, sa.and_(*at))
        .where(ModelRow.repo_type == RepoType.MODEL.value, ModelRow.buried == 0, WeightSetRow.sha.is_(None), behind)
    )
