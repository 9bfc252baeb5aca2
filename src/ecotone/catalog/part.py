"""What the parts of the catalogue share: its dependencies, and the way from rows to entities.

The parts (`repositories`, `history`, `listings`, `families`, `measurements`) are joined by `services.Catalog`.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import Actor
from ecotone.catalog.entities import Model
from ecotone.catalog.errors import ModelNotFound
from ecotone.catalog.events import Events
from ecotone.catalog.models import ModelRow, RedirectRow
from ecotone.catalog.names import key_of
from ecotone.database import HELD, Database
from ecotone.licences import KnowledgeBase
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.vocabulary import ModelKind, RepoType


class Part:
    """Holds what every part needs.

    Args:
        database: where the tables are.
        storage: where git objects and files are.
        knowledge: the knowledge base that names licences.
        settings: of the installation.
        starter: the starter catalogue by folded id.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        knowledge: KnowledgeBase,
        settings: Settings,
        starter: Mapping[str, Model],
    ) -> None:
        self._database = database
        self._storage = storage
        self._knowledge = knowledge
        self._settings = settings
        self._starter = starter
        self.events = Events()

    def _entity(self, row: ModelRow) -> Model:
        starter = self._starter.get(row.folded) if row.repo_type == RepoType.MODEL else None
        facts: dict[str, Any] = starter.facts if starter else {}
        instruments = tuple(dict.fromkeys([*(starter.instruments if starter else ()), *row.instruments]))
        return Model(
            id=f"{row.namespace}/{row.name}",
            namespace=row.namespace,
            name=row.name,
            kind=ModelKind(row.kind),
            repo_type=RepoType(row.repo_type),
            private=row.private,
            gated=row.gated,
            created=row.created,
            updated=row.updated,
            head=row.head,
            downloads=row.downloads,
            likes=row.likes,
            title=row.title or (starter.title if starter else ""),
            tags=tuple(row.tags),
            pipeline_tag=row.pipeline_tag or (starter.pipeline_tag if starter else None),
            library=row.library,
            licence=row.licence or (starter.licence if starter else None),
            instruments=instruments,
            facts=facts,
            reserved=starter is not None,
            key=row.key,
        )

    def _row(self, session: Session, model_id: str, repo_type: RepoType) -> ModelRow | None:
        """The living row of an id, or the one it was moved to; one statement, whether there is one or not."""
        folded = key_of(model_id).replace("\0", "\ufffd")
        named = sa.select(ModelRow.key).where(
            ModelRow.repo_type == repo_type.value, ModelRow.folded == folded, ModelRow.buried == 0
        )
        moved = sa.select(RedirectRow.model_key).where(
            RedirectRow.repo_type == repo_type.value, RedirectRow.folded == folded
        )
        wanted = sa.select(ModelRow).where(ModelRow.key.in_(named.union_all(moved)), ModelRow.buried == 0)
        found = session.scalars(wanted.order_by((ModelRow.folded == folded).desc()).limit(1)).first()
        if found is None or found.folded == folded:
            return found
        return found if self._may_lead(repo_type, folded, found.folded) else None

    def _may_lead(self, repo_type: RepoType, old: str, new: str) -> bool:
        """Whether a moved repository may be found by its old id: a reserved one never leads to one that is not."""
        return repo_type is not RepoType.MODEL or old not in self._starter or new in self._starter

    def _locked(self, session: Session, model: Model) -> ModelRow:
        """The row of a model, held until the transaction ends. Raises as `_alive`."""
        return self._alive(session, model, hold=True)

    def _alive(self, session: Session, model: Model, *, hold: bool = False) -> ModelRow:
        """The row of a model.

        Raises:
            ModelNotFound: when it was deleted meanwhile.
        """
        row = session.get(ModelRow, model.key, with_for_update=HELD if hold else None) if model.key else None
        if row is None or row.buried:
            raise ModelNotFound(model.id)
        return row


def visible(row_private: bool, viewer: Actor) -> bool:
    """Private models are seen by the organisation's own users only."""
    return not row_private or viewer.may_read_private
