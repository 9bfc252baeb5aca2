"""Measurements: what audits found out about revisions, kept with the model."""

from typing import Any

import sqlalchemy as sa

from ecotone.accounts import Actor
from ecotone.catalog.entities import Measurement
from ecotone.catalog.errors import MeasurementNotFound
from ecotone.catalog.models import MeasurementRow
from ecotone.catalog.names import key_of
from ecotone.catalog.part import Part
from ecotone.database import utc_now


class Measurements(Part):
    """Services over the table of measurements."""

    def add_measurement(
        self, model_id: str, revision: str, suite: str, result: dict[str, Any], actor: Actor | str
    ) -> Measurement:
        """Record what a suite measured; results are never overwritten."""
        row = MeasurementRow(
            folded=key_of(model_id),
            model=model_id,
            revision=revision,
            suite=suite,
            result=result,
            actor=actor if isinstance(actor, str) else actor.name,
            created=utc_now(),
        )
        with self._database.writing() as session:
            session.add(row)
        return _measurement(row)

    def measurements(self, model_id: str, revision: str | None = None) -> list[Measurement]:
        """What was measured of a model, newest first."""
        wanted = sa.select(MeasurementRow).where(MeasurementRow.folded == key_of(model_id))
        if revision is not None:
            wanted = wanted.where(MeasurementRow.revision == revision)
        with self._database.reading() as session:
            found = session.scalars(wanted.order_by(MeasurementRow.created.desc(), MeasurementRow.key.desc()))
            return [_measurement(row) for row in found]

    def remove_measurement(self, number: int) -> Measurement:
        """Withdraw what was measured. Raises MeasurementNotFound."""
        with self._database.writing() as session:
            row = session.get(MeasurementRow, number)
            if row is None:
                raise MeasurementNotFound(number)
            found = _measurement(row)
            session.delete(row)
        return found


def _measurement(row: MeasurementRow) -> Measurement:
    return Measurement(
        id=row.key,
        model=row.model,
        revision=row.revision,
        suite=row.suite,
        result=row.result,
        actor=row.actor,
        created=row.created,
    )
