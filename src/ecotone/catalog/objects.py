"""Which large objects the revisions of a repository name: what may be read of the store in the repository's name."""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.catalog.entities import File, Model
from ecotone.catalog.models import ObjectRow
from ecotone.catalog.part import Part


class Objects(Part):
    """Services over the index of large objects."""

    def holds(self, model: Model, name: str) -> bool:
        """Whether some revision of a repository has a file with this sha256 or Xet hash."""
        with self._database.reading() as session:
            return session.get(ObjectRow, (model.key, name)) is not None


def keep_objects(session: Session, model_key: int, files: Iterable[File]) -> None:
    """Note the sha256 and Xet hash of each large file; those that are known stay."""
    names = {n for f in files for n in (f.content.sha256, f.content.xet_hash) if n is not None}
    for some in _batches(sorted(names)):
        known = sa.select(ObjectRow.name).where(ObjectRow.model_key == model_key, ObjectRow.name.in_(some))
        fresh = set(some) - set(session.scalars(known))
        if fresh:
            session.execute(sa.insert(ObjectRow), [{"model_key": model_key, "name": name} for name in sorted(fresh)])


def _batches(names: list[str], size: int = 500) -> Iterable[list[str]]:
    return (names[i : i + size] for i in range(0, len(names), size))
