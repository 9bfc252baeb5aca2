"""Files of data sets made of answers: a copy of one, wherever it comes back, is known by its bytes."""

from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from ecotone.catalog.entities import LineageEdge, Model
from ecotone.catalog.history import edge_of
from ecotone.catalog.models import EdgeRow, GeneratedFileRow, ModelRow
from ecotone.catalog.part import Part
from ecotone.database import alone, batches
from ecotone.vocabulary import Relation

_AT_ONCE = 500


class Generated(Part):
    """Services over generated files."""

    def keep_generated(self, model: Model, digests: Iterable[str]) -> None:
        """Remember hashes (sha256, git ids) of a data set's files, before they become visible."""
        wanted = sorted(set(digests))
        with self._database.writing() as session:
            alone(session, f"generated files of {model.key}")
            for digest in wanted:
                if session.get(GeneratedFileRow, (digest, model.key)) is None:
                    session.add(GeneratedFileRow(digest=digest, model_key=model.key))

    def generated(self, digests: Iterable[str], *, besides: Model) -> Iterator[tuple[str, LineageEdge]]:
        """What made files with these hashes that lie in other repositories, deleted ones too: each with a hash."""
        wanted = sorted(set(digests))
        with self._database.reading() as session:
            for some in batches(wanted, _AT_ONCE):
                found = (
                    sa.select(GeneratedFileRow.digest, EdgeRow)
                    .join(ModelRow, ModelRow.key == GeneratedFileRow.model_key)
                    .join(EdgeRow, sa.and_(EdgeRow.model_key == ModelRow.key, EdgeRow.sha == ModelRow.head))
                    .where(
                        GeneratedFileRow.digest.in_(some),
                        GeneratedFileRow.model_key != besides.key,
                        EdgeRow.relation == Relation.GENERATED_BY.value,
                    )
                    .order_by(EdgeRow.key)
                )
                for digest, edge in session.execute(found):
                    yield digest, edge_of(edge, besides.id)
