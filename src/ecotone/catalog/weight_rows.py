"""The tables of weights: what the revisions of a repository hold, and where these stand among others."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from ecotone.catalog.entities import WeightSet
from ecotone.database import Base, batches, utc_now

_BATCH = 500


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


def keep_weights(
    session: Session, model_key: int, sha: str, weights: WeightSet, *, since: datetime | None = None
) -> None:
    """Keep the weights of a revision, in the transaction that makes it visible.

    Args:
        since: when they came, if that was earlier.
    """
    came = since or utc_now()
    if session.get(WeightSetRow, (model_key, sha)) is None:
        session.add(WeightSetRow(model_key=model_key, sha=sha, created=came, **_columns(weights)))
    for some in batches(list(weights.names), _BATCH):
        of = (WeightFileRow.model_key == model_key, WeightFileRow.name.in_(some))
        known = set(session.scalars(sa.select(WeightFileRow.name).where(*of)))
        fresh = sorted(set(some) - known)
        session.add_all(WeightFileRow(model_key=model_key, name=name, added=came) for name in fresh)
        if since is not None:
            session.execute(sa.update(WeightFileRow).where(*of, WeightFileRow.added > since).values(added=since))


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


def weights_of_row(row: WeightSetRow) -> WeightSet:
    return WeightSet(
        digest=row.digest,
        names=tuple(row.names),
        signature=row.signature,
        sketch=row.sketch,
        state=row.state,
        report=row.report,
        job=row.job,
    )
