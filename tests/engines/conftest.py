"""Engines over a small catalogue of folders, and a client for their sockets."""

import importlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from ecotone.accounts import SYSTEM
from ecotone.engines import Engines
from tests.engines.shelf import Shelf, running


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
    return importlib.import_module("tests.engines.tiny")


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
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://engine", timeout=120)


@pytest.fixture
def connect() -> Callable[[str | None], httpx.Client]:
    return client_of


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float = 300.0) -> None:
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
