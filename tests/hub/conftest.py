"""A hub on a free port, served by uvicorn as in production, for unmodified clients."""

import os
import socket
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
from ecotone.accounts import ANONYMOUS, SYSTEM, Accounts, Actor
from ecotone.accounts import models as _accounts
from ecotone.catalog import Catalog
from ecotone.catalog import models as _catalog
from ecotone.database import Base, Database
from ecotone.ledger import LedgerWriter
from ecotone.licences import KnowledgeBase
from ecotone.policy import Policy
from ecotone.policy import models as _policy
from ecotone.publishing import Publishing
from ecotone.settings import Settings
from ecotone.storage import Storage
from ecotone.storage import models as _storage
from ecotone.vocabulary import Role

TABLES = (_accounts, _catalog, _policy, _storage)
TOKENS = {
    "ect_admin": SYSTEM,
    "ect_writer": Actor("user", "will", Role.WRITE),
    "ect_reader": Actor("user", "rita", Role.READ),
    "eck_key": Actor("key", "shop", None, "shop"),
}


class RawPaths:
    """What the app does for every face: undecoded paths, and the caller by token."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sent = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").removeprefix("Bearer ")
            actor = TOKENS.get(sent, ANONYMOUS)
            scope = {**scope, "path": scope["raw_path"].decode(), "state": {"actor": actor}}
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """`.url`, `.services`, and a plain HTTP client `.http` without a token."""
    data = tmp_path_factory.mktemp("data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(data=data, port=port)
    services = compose(settings)
    app = Starlette(routes=hub.routes())
    app.state.services = services
    running = uvicorn.Server(uvicorn.Config(RawPaths(app), port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    with httpx.Client(base_url=settings.base_url, timeout=30) as http:
        yield SimpleNamespace(url=settings.base_url, services=services, http=http)
    running.should_exit = True
    thread.join(10)
    services.ledger_writer.close()
    services.database.dispose()


def compose(settings: Settings) -> SimpleNamespace:
    database = Database(settings.sql_url)
    Base.metadata.create_all(database.engine)
    knowledge = KnowledgeBase.load()
    storage = Storage(database, settings)
    catalog = Catalog(database, storage, knowledge, settings)
    policy = Policy(database, catalog, knowledge, Accounts(database, settings))
    writer = LedgerWriter(settings.folder("ledger"), "test")
    return SimpleNamespace(
        settings=settings,
        database=database,
        knowledge=knowledge,
        storage=storage,
        catalog=catalog,
        policy=policy,
        ledger_writer=writer,
        publishing=Publishing(catalog, storage, policy, knowledge, writer),
        note=lambda *a, **k: None,
        intend=lambda *a, **k: None,
        changed=lambda: None,
    )


@pytest.fixture
def as_admin(server: SimpleNamespace) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer ect_admin"}, timeout=30) as http:
        yield http


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
