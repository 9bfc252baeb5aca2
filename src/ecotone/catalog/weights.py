"""The weights of revisions: which contents they are made of, where to look for their relatives, and what was found.

A set of weights outlives its repository as its tombstone does, so that a deleted parent still answers.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from ecotone.accounts import Actor
from ecotone.catalog.entities import LineageEdge, Model
from ecotone.catalog.errors import ModelNotFound
from ecotone.catalog.history import _edge_row, edge_of
from ecotone.catalog.models import EdgeRow, ModelRow, RevisionRow
from ecotone.catalog.names import key_of
from ecotone.catalog.part import Part, visible
from ecotone.database import Base, utc_now
from ecotone.vocabulary import RepoType

MOST_ALIKE = 4096
_BATCH = 500
UNTOLD = "a private model"


class WeightSetRow(Base):
    """The weights of a revision. `digest` is equal for equal contents; `signature` and `sketch` are those of
    `lineage.sketching`; `state` and `report` tell what was found (see `publishing.descent`)."""

    __tablename__ = "weight_sets"
    __table_args__ = (Index("ix_weight_sets_signature_created", "signature", "created"),)

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    sha: Mapped[str] = mapped_column(String(40), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    names: Mapped[list[str]]
    signature: Mapped[str] = mapped_column(String(32))
    sketch: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(16), index=True)
    report: Mapped[dict[str, Any]]
    job: Mapped[str | None] = mapped_column(String(32))
    created: Mapped[datetime]


class WeightFileRow(Base):
    """A repository holds, or held, a weight file, by the name of its content; `added` is when it came first."""

    __tablename__ = "weight_files"

    model_key: Mapped[int] = mapped_column(ForeignKey("models.key", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    added: Mapped[datetime]


class WeightSet(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of a revision: the names of their contents, where they stand among others, and what was found.

    Args:
        state: `done` when nothing is left to do, `waiting` for its job, `examined` by it, `failed`.
        report: JSON; models in it are named by their key alone.
    """

    digest: str
    names: tuple[str, ...]
    signature: str = ""
    sketch: bytes = b""
    state: str = "done"
    report: dict[str, Any] = {}
    job: str | None = None


class Kin(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose weights may be compared, living or a tombstone. `since` is when its weights came first."""

    model: Model
    revision: str
    deleted: bool
    weights: WeightSet
    since: datetime


class WeightSets(Part):
    """Services over the weights of revisions."""

    def weights(self, model: Model, sha: str) -> WeightSet | None:
        """The weights of a revision; None when it has none, or came before they were kept."""
        with self._database.reading() as session:
            row = session.get(WeightSetRow, (model.key, sha))
            return None if row is None else _entity_of(row)

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

    def alike(self, signature: str) -> list[tuple[int, bytes]]:
        """Key and sketch of the models of one build, each distinct set of weights once, the newest ones."""
        wanted = (
            sa.select(WeightSetRow.model_key, WeightSetRow.digest, WeightSetRow.sketch)
            .where(WeightSetRow.signature == signature)
            .order_by(WeightSetRow.created.desc())
            .limit(MOST_ALIKE)
        )
        with self._database.reading() as session:
            rows = {(key, digest): sketch for key, digest, sketch in session.execute(wanted)}
        return [(key, sketch) for (key, _), sketch in rows.items()]

    def with_weights(self, names: set[str]) -> set[str]:
        """Those of some contents that a repository or a tombstone names; for garbage collection."""
        with self._database.reading() as session:
            wanted = sa.select(WeightFileRow.name).where(WeightFileRow.name.in_(names)).distinct()
            return set(session.scalars(wanted))

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
        """Edges as the viewer may be told them: a private parent that weights showed stays unnamed."""
        if viewer.may_read_private:
            return list(edges)
        with self._database.reading() as session:
            return [self._told(session, edge, viewer) for edge in edges]

    def _told(self, session: Session, edge: LineageEdge, viewer: Actor) -> LineageEdge:
        if edge.asserted_by != BY_WEIGHTS:
            return edge
        row = self._row(session, edge.parent, RepoType.MODEL) or self._buried(session, edge.parent)
        if row is None or visible(row.private, viewer):
            return edge
        return msgspec.structs.replace(edge, parent=UNTOLD, parent_revision=None)

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
                new = edges_of(one.sha, old)
                if new != old:
                    session.execute(sa.delete(EdgeRow).where(*at))
                    session.add_all(_edge_row(model.key, one.sha, edge) for edge in new)
            session.flush()
            before_visible()
            return [one.sha for one in rows]

    def add_weights(self, model: Model, sha: str, weights: WeightSet) -> None:
        """Keep the weights of a revision that came before they were kept."""
        with self._database.writing() as session:
            self._locked(session, model)
            if session.get(RevisionRow, (model.key, sha)) is not None:
                keep_weights(session, model.key, sha, weights)

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
            weights=_entity_of(found),
            since=since or found.created,
        )


BY_WEIGHTS = "weights"


def keep_weights(session: Session, model_key: int, sha: str, weights: WeightSet) -> None:
    """Keep the weights of a revision, in the transaction that makes it visible."""
    if session.get(WeightSetRow, (model_key, sha)) is None:
        session.add(WeightSetRow(model_key=model_key, sha=sha, created=utc_now(), **_columns(weights)))
    for some in (weights.names[i : i + _BATCH] for i in range(0, len(weights.names), _BATCH)):
        of = (WeightFileRow.model_key == model_key, WeightFileRow.name.in_(some))
        known = set(session.scalars(sa.select(WeightFileRow.name).where(*of)))
        fresh = sorted(set(some) - known)
        session.add_all(WeightFileRow(model_key=model_key, name=name, added=utc_now()) for name in fresh)


def _columns(weights: WeightSet) -> dict[str, Any]:
    return {
        "digest": weights.digest,
        "names": list(weights.names),
        "signature": weights.signature,
        "sketch": weights.sketch,
        "state": weights.state,
        "report": weights.report,
        "job": weights.job,
    }


def _entity_of(row: WeightSetRow) -> WeightSet:
    return WeightSet(
        digest=row.digest,
        names=tuple(row.names),
        signature=row.signature,
        sketch=row.sketch,
        state=row.state,
        report=row.report,
        job=row.job,
    )
