"""Fixtures for all packages: a fresh database, and the shared reference data where it is present."""

import contextlib
import inspect
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import hypothesis
import pytest
import sqlalchemy as sa

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
from tests.running import PATIENT
from tests.stores import placed

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of engines too: several share the cores here, and torch's threads spin

# httpx gives up after five seconds and huggingface_hub after ten, which a busy machine takes now and then. What a test
# waits for in vain is ended by pytest-timeout.
_usual: Any = inspect.signature(httpx.Client).parameters["timeout"].default
_usual.connect = _usual.read = _usual.write = _usual.pool = 120.0
for name in PATIENT:
    os.environ.setdefault(name, PATIENT[name])

# Whether a property holds is no matter of a busy machine or of the day's chance; `make fuzz` draws anew each time.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    derandomize="ECOTONE_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")

FIRST = """
app/test_restart gateway/test_smuggling tuning/test_runs app/test_crash app/test_upkeep browser/test_every_page
app/test_up browser/test_pages gateway/test_faults web/test_crawl engines/test_deploying engines/test_engines
audits/test_audits app/test_community app/test_slow_clients app/test_full_disk app/test_watching app/test_ledger
hub/test_git storage/test_collecting gateway/test_managing app/test_operations cli/test_check cli/test_commands
clients/test_table engines/kinds/test_vllm app/test_tls gateway/test_face gateway/test_money licences/test_graph
hub/test_writers
"""
"""Files that take longest: begun first, so that none is left to one worker at the end."""

TABLES = (_accounts, _catalog, _policy, _storage)
SLOW_SECONDS = 1200
"""After which a slow test is ended: what takes a minute or two may take ten times as long on a busy machine."""
MOST_THREADS = 24
"""That a file of tests may leave behind: pools, and engines that all files share."""
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: number for number, name in enumerate(FIRST.split())}
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        try:
            return places.get(item.path.relative_to(root).with_suffix("").as_posix(), len(places))
        except ValueError:
            return len(places)

    items.sort(key=place)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="module", autouse=True)
def threads_end() -> Iterator[None]:
    """The threads that a file's tests begin end with it: what is left behind takes time from every test after it."""
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 90
    while len(left := _begun_since(before)) > MOST_THREADS and time.monotonic() < end:
        time.sleep(0.05)
    assert len(left) <= MOST_THREADS, left


def _begun_since(before: set[threading.Thread]) -> list[str]:
    """The names of threads without those of engines, which sleep while nobody asks and end with an engine's process."""
    names = (thread.name for thread in threading.enumerate() if thread not in before)
    return sorted(name for name in names if name not in ("writer", "encoder"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test data; tests that need it are skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the shared test data, ../shared, which is not here")
    return SHARED


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A fresh database with the tables of every models module imported so far.

    SQLite; PostgreSQL where `ECOTONE_TEST_POSTGRES_URL` names a server (`make test-all` starts one).
    """
    server = os.environ.get("ECOTONE_TEST_POSTGRES_URL")
    if server is None:
        fresh = Database(f"sqlite:///{tmp_path / 'test.db'}")
        Base.metadata.create_all(fresh.engine)
        yield fresh
        fresh.dispose()
        return
    name = f"t_{secrets.token_hex(6)}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    fresh = Database(sa.make_url(server).set(database=name).render_as_string(hide_password=False))
    Base.metadata.create_all(fresh.engine)
    yield fresh
    fresh.dispose()
    # PostgreSQL gives those whom it throws out five seconds, which one of them may not be given any turn in
    with contextlib.suppress(sa.exc.OperationalError), admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
    admin.dispose()


@pytest.fixture
def house(tmp_path: Path, database: Database) -> Iterator[SimpleNamespace]:
    """The services that publishing needs, and `publish(id, {path: bytes}, **commit)` as a short way."""
    settings = Settings(data=tmp_path, **placed(tmp_path))
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
