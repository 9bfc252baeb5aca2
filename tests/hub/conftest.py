"""A hub on a free port, served by uvicorn as in production, for unmodified clients."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from ecotone import hub
from ecotone.accounts import ANONYMOUS, SYSTEM, Accounts, DeviceLogins, secret_hash
from ecotone.accounts import models as _accounts
from ecotone.app.authentication import bearer
from ecotone.app.protocol import BoundedHttp
from ecotone.catalog import Catalog
from ecotone.catalog import models as _catalog
from ecotone.catalog.clones import Clones
from ecotone.database import Base, Database, utc_now
from ecotone.ledger import LedgerWriter
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy
from ecotone.policy import models as _policy
from ecotone.publishing import Publishing, Reviews
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage import models as _storage
from ecotone.vocabulary import Role
from ecotone.webhooks import Courier, Targets, Webhooks
from ecotone.webhooks import models as _webhooks
from tests.running import KEPT, free_port
from tests.stores import empty_database, placed

TABLES = (_accounts, _catalog, _policy, _storage, _webhooks)
TOKENS = {
    "ect_admin": (SYSTEM.name, Role.ADMIN),
    "ect_writer": ("will", Role.WRITE),
    "ect_other": ("wanda", Role.WRITE),
    "ect_reader": ("rita", Role.READ),
}
KEY = "eck_key"


class RawPaths:
    """What the app does for every face: undecoded paths, and the caller by token."""

    def __init__(self, app: ASGIApp, accounts: Accounts) -> None:
        self.app = app
        self.accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sent = bearer(dict(scope["headers"]).get(b"authorization", b"").decode("latin-1"))
            actor = (self.accounts.actor_for_token(sent) if sent else None) or ANONYMOUS
            scope = {**scope, "path": scope["raw_path"].decode(), "state": {"actor": actor}}
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def more_settings() -> dict[str, Any]:
    """What a module's hub has set; a module that wants some has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, more_settings: dict[str, Any]) -> Iterator[SimpleNamespace]:
    """`.url`, `.services`, and a plain HTTP client `.http` without a token."""
    data = tmp_path_factory.mktemp("data")
    port = free_port()
    settings = Settings(
        data=data,
        port=port,
        database_url=empty_database(),
        webhook_allow="127.0.0.0/8,localhost",
        webhook_pause=0.1,
        **placed(data),
        **more_settings,
    )
    services = compose(settings)
    app = Starlette(routes=hub.routes())
    app.state.services = services
    running = uvicorn.Server(
        uvicorn.Config(
            RawPaths(app, services.accounts),
            port=port,
            http=BoundedHttp,
            log_level="warning",
            lifespan="off",
            timeout_keep_alive=KEPT,
        )
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    with httpx.Client(base_url=settings.base_url, timeout=120) as http:
        yield SimpleNamespace(url=settings.base_url, services=services, http=http)
    running.should_exit = True
    thread.join(60)
    services.ledger_writer.close()
    services.database.dispose()


def compose(settings: Settings) -> SimpleNamespace:
    database = Database(settings.sql_url)
    Base.metadata.create_all(database.engine)
    knowledge = KnowledgeBase.load()
    storage = Storage(database, settings)
    catalog = Catalog(database, storage, knowledge, settings)
    accounts = Accounts(database, settings)
    known_callers(database)
    policy = Policy(database, catalog, knowledge, accounts)
    writer = LedgerWriter(settings.folder("ledger"), "test")
    publishing = Publishing(catalog, storage, policy, knowledge, writer)
    targets = Targets(settings.webhook_allow)
    webhooks = Webhooks(database, settings, targets)
    catalog.events.listen(webhooks.enqueue)
    return SimpleNamespace(
        settings=settings,
        database=database,
        knowledge=knowledge,
        accounts=accounts,
        storage=storage,
        catalog=catalog,
        clones=Clones(catalog, storage, settings),
        policy=policy,
        ledger_writer=writer,
        publishing=publishing,
        reviews=Reviews(catalog, publishing, writer),
        devices=DeviceLogins(database),
        webhooks=webhooks,
        courier=Courier(webhooks, targets),
        note=lambda *a, **k: None,
        intend=lambda *a, **k: None,
        changed=lambda: None,
        engines=SimpleNamespace(deployments=list),
    )


def known_callers(database: Database) -> None:
    """Users with the tokens above, and a project with a key."""
    now = utc_now()
    with database.writing() as session:
        for token, (user, role) in TOKENS.items():
            row = _accounts.TokenRow(id=token[4:], hash=secret_hash(token), user=user, role=role.value, note="")
            row.created = now
            session.add(row)
        project = _accounts.ProjectRow(name="shop", mode="run", purpose="research", personal_data="local_only")
        project.territory, project.variables, project.may_call_private = [], {}, False
        project.created, project.created_by = now, SYSTEM.name
        session.add(project)
        session.flush()
        key = _accounts.KeyRow(id="key", hash=secret_hash(KEY), project="shop", created=now, created_by=SYSTEM.name)
        key.vouched_by = SYSTEM.name
        session.add(key)


@pytest.fixture
def as_admin(server: SimpleNamespace) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_admin"}, timeout=120) as http:
        yield http


@pytest.fixture
def people(server: SimpleNamespace) -> Iterator[dict[str, httpx.Client]]:
    """Callers by name: will and wanda write in common namespaces, rita only reads, nobody has no token."""
    tokens = {"will": "ect_writer", "wanda": "ect_other", "rita": "ect_reader", "nobody": ""}
    made = {
        name: httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {t}"} if t else {}, timeout=120)
        for name, t in tokens.items()
    }
    yield made
    for client in made.values():
        client.close()


@pytest.fixture
def api(server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The installed huggingface_hub client, unmodified."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import HfApi

    return HfApi(endpoint=server.url, token="ect_admin")


@pytest.fixture
def repo(as_admin: httpx.Client, request: pytest.FixtureRequest) -> str:
    """A fresh repository for each test."""
    name = "demo/" + request.node.name.split("[")[0].removeprefix("test_")[:60].strip("_-.")
    name = f"{name}-{time.monotonic_ns()}"
    assert as_admin.post("/api/repos/create", json={"name": name}).status_code == 200
    return name
