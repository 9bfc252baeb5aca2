"""Publishing over a real database, real storage and a real ledger."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecotone.accounts import SYSTEM, Accounts
from ecotone.accounts import models as _accounts
from ecotone.catalog import Catalog
from ecotone.catalog import models as _catalog
from ecotone.database import Base, Database
from ecotone.ledger import Ledger, LedgerWriter
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy
from ecotone.policy import models as _policy
from ecotone.publishing import AddRegular, Commit, Published, Publishing
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage import models as _storage

TABLES = (_accounts, _catalog, _policy, _storage)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The services that publishing needs, and `publish(id, {path: bytes}, **commit)` as a short way."""
    settings = Settings(data=tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    Base.metadata.create_all(database.engine)
    knowledge = KnowledgeBase.load()
    storage = Storage(database, settings)
    catalog = Catalog(database, storage, knowledge, settings)
    policy = Policy(database, catalog, knowledge, Accounts(database, settings))
    writer = LedgerWriter(settings.folder("ledger"), "test")
    publishing = Publishing(catalog, storage, policy, knowledge, writer)

    def publish(
        model_id: str, files: dict[str, bytes], *, parent: str | None = None, message: str = "Add"
    ) -> Published:
        operations = tuple(AddRegular(path, data) for path, data in files.items())
        return publishing.commit(
            model_id, "main", Commit(message=message, parent=parent, operations=operations), actor=SYSTEM
        )

    publishing_short: Callable[..., Published] = publish
    yield SimpleNamespace(
        settings=settings,
        database=database,
        knowledge=knowledge,
        storage=storage,
        catalog=catalog,
        policy=policy,
        publishing=publishing,
        ledger=Ledger(settings.folder("ledger")),
        writer=writer,
        publish=publishing_short,
    )
    writer.close()
    database.dispose()
