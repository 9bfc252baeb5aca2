"""Engines over a small catalogue of folders, and a client for their sockets."""

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import Model, ModelNotFound, Revision, RevisionNotFound
from ecotone.database import Base, Database, utc_now
from ecotone.engines import Engines
from ecotone.engines import models as _models  # noqa: F401  its table is made below
from ecotone.engines.supervision import Pace
from ecotone.policy import Action, Outcome
from ecotone.settings import Settings
from ecotone.vocabulary import ModelKind, Verdict

PACE = Pace(start=120, first_pause=0.3, probe_every=0.5, grace=3)


class Shelf:
    """What engines use of the catalogue, over plain folders: the revision of a folder is named by its place in time."""

    def __init__(self) -> None:
        self.revisions: dict[str, list[Path]] = {}
        self.hidden: set[str] = set()
        self.cards: dict[str, dict[str, Any]] = {}
        self.in_use = 0

    def put(self, model_id: str, folder: Path, card: dict[str, Any] | None = None) -> str:
        self.revisions.setdefault(model_id, []).append(folder)
        self.cards[model_id] = card or {}
        return f"{len(self.revisions[model_id]):040x}"

    def model(self, model_id: str, *, viewer: Actor) -> Model:
        if model_id not in self.revisions or (model_id in self.hidden and viewer is not SYSTEM):
            raise ModelNotFound(model_id)
        namespace, _, name = model_id.partition("/")
        now = utc_now()
        count = len(self.revisions[model_id])
        head = f"{count:040x}" if count else None
        kind = ModelKind.WEIGHTS
        return Model(id=model_id, namespace=namespace, name=name, kind=kind, head=head, created=now, updated=now)

    def revision(self, model: Model, rev: str = "main") -> Revision:
        wanted = model.head if rev == "main" else rev
        if wanted is None or not 0 < int(wanted, 16) <= len(self.revisions[model.id]):
            raise RevisionNotFound(model.id, rev)
        card = self.cards[model.id]
        return Revision(id=wanted, model_id=model.id, tree="", author="a", date=utc_now(), card=card)

    @contextlib.contextmanager
    def materialise(self, model: Model, revision: Revision) -> Iterator[Path]:
        self.in_use += 1
        try:
            yield self.revisions[model.id][int(revision.id, 16) - 1]
        finally:
            self.in_use -= 1


def outcome(allowed: bool = True) -> Outcome:
    verdict = Verdict.ALLOW if allowed else Verdict.DENY
    return Outcome(allowed=allowed, action=Action.SERVE, verdict=verdict, message="no project may call it: clause 2")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).with_name("tiny.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> dict[str, Path]:
    """Folders of tiny models by name."""
    root = tmp_path_factory.mktemp("models")
    mean = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    return {
        "llama": tiny.llama(root / "llama"),
        "other": tiny.llama(root / "other", seed=1),
        "plain": tiny.llama(root / "plain", template=False),
        "bert": tiny.bert(root / "bert", pooling=mean),
    }


@pytest.fixture
def shelf(made: dict[str, Path]) -> Shelf:
    found = Shelf()
    for name, folder in made.items():
        found.put(f"demo/{name}", folder)
    return found


@contextlib.contextmanager
def running(folder: Path, shelf: Shelf, **more: Any) -> Iterator[Engines]:
    database = Database(f"sqlite:///{folder / 'engines.db'}")
    Base.metadata.create_all(database.engine)
    settings = {"may_serve": lambda *_: outcome(), "pace": PACE, **more}
    engines = Engines(database, shelf, Settings(data=folder), **settings)  # type: ignore[arg-type]
    try:
        yield engines
    finally:
        engines.shutdown()
        database.dispose()
        assert shelf.in_use == 0, "files were not given back"


@pytest.fixture
def engines(tmp_path: Path, shelf: Shelf) -> Iterator[Engines]:
    with running(tmp_path, shelf) as found:
        yield found


@pytest.fixture(scope="session")
def served(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], httpx.Client]]:
    """Clients of engines for the tiny models, each started when first asked for and kept for the whole session."""
    shelf = Shelf()
    for name, folder in made.items():
        shelf.put(f"demo/{name}", folder)
    clients: dict[str, httpx.Client] = {}
    with running(tmp_path_factory.mktemp("served"), shelf) as engines:

        def client(name: str) -> httpx.Client:
            if name not in clients:
                socket = engines.serve(f"demo/{name}", "main", (), SYSTEM).socket
                clients[name] = client_of(socket)
            return clients[name]

        yield client
        for opened in clients.values():
            opened.close()


def client_of(socket: str | None) -> httpx.Client:
    assert socket is not None
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://engine", timeout=60)


@pytest.fixture
def connect() -> Callable[[str | None], httpx.Client]:
    return client_of


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    return wait


@pytest.fixture
def gone() -> Callable[[int], bool]:
    def check(pid: int) -> bool:
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (ProcessLookupError, FileNotFoundError):
            return True

    return check
