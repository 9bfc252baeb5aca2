"""A change through the API or a page is in force at the gateway of the same server when its answer is there."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecotone.app import in_force
from ecotone.gateway import SnapshotBuilder
from tests.hub.built import Built
from tests.running import running

PROJECT = {"name": "shop", "purpose": "commercial", "mode": "serve_api", "personal_data": "local-only"}
KEYS = "/api/ecotone/v1/keys"


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Built]:
    """The application with its builder at work, and nobody who calls."""
    found = Built(tmp_path, public_url=None)
    builder = found.services.builder
    builder.build()
    found.services.listeners.append(builder.notify)
    builder.start()
    yield found
    builder.stop()
    found.stop()


READ = SnapshotBuilder._read


def before_each_build(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """From now on: a build that began before has ended when this returns, and one with the act before it has begun."""
    begun = threading.Event()

    def read(builder: SnapshotBuilder) -> Any:
        begun.set()
        act()
        return READ(builder)

    monkeypatch.setattr(SnapshotBuilder, "_read", read)
    assert begun.wait(60), "it builds every two seconds, also where nothing changes"


def declared(client: httpx.Client) -> httpx.Client:
    """The client, to which the project was made."""
    answer = client.post("/api/ecotone/v1/projects", json=PROJECT)
    assert answer.status_code == 201, answer.text
    return client


def made(client: httpx.Client) -> tuple[str, str]:
    """A new key: its id, its secret."""
    answer = client.post(KEYS, json={"project": "shop"})
    assert answer.status_code == 201, answer.text
    told = answer.json()
    return told["id"], told["key"]


def knows(built: Built, secret: str) -> bool:
    return hashlib.sha256(secret.encode()).hexdigest() in built.services.builder.current.keys


def test_an_answer_to_a_change_comes_when_the_gateway_knows_it(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = declared(built.admin)
    monkeypatch.setattr(in_force, "_PATIENCE", 90.0)  # the machine may be busy; how long it waits is told below
    before_each_build(monkeypatch, lambda: time.sleep(0.3))
    key_id, secret = made(admin)
    assert knows(built, secret)
    assert admin.delete(f"{KEYS}/{key_id}").status_code == 200
    assert not knows(built, secret)


def test_a_snapshot_that_takes_long_or_fails_holds_no_answer(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, builder, going = declared(built.admin), built.services.builder, threading.Event()
    before_each_build(monkeypatch, lambda: going.wait(60))
    monkeypatch.setattr(in_force, "_PATIENCE", 1.5)
    began = time.monotonic()
    _, secret = made(admin)
    assert 1.4 < time.monotonic() - began < 50
    assert not knows(built, secret)
    going.set()
    monkeypatch.setattr(in_force, "_PATIENCE", 90.0)

    def fail() -> None:
        raise OSError(28, "No space left on device")

    before_each_build(monkeypatch, fail)
    _, secret = made(admin)
    assert builder.has_built(builder.told) and not knows(built, secret)


def test_an_answer_waits_for_no_snapshot_of_a_server_that_ends(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = declared(built.admin)
    monkeypatch.setattr(in_force, "_PATIENCE", 90.0)
    built.services.builder.stop()
    began = time.monotonic()
    made(admin)
    assert time.monotonic() - began < 60


def test_reading_and_commits_wait_for_no_snapshot(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    built.fill()
    declared(built.admin)
    going = threading.Event()
    before_each_build(monkeypatch, lambda: going.wait(60))
    built.services.changed()
    seen: list[int] = []
    monkeypatch.setattr(SnapshotBuilder, "has_built", lambda _self, told: seen.append(told) or True)
    assert built.admin.get("/api/ecotone/v1/projects").status_code == 200
    built.commit("models/will/shown", {"b.txt": b"b"})
    assert not seen
    made(built.admin)
    assert seen
    going.set()


def test_a_key_works_as_soon_as_it_is_there_and_no_longer_when_it_is_revoked(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        admin = declared(found.http)
        for _ in range(20):
            key_id, secret = made(admin)
            mine = {"authorization": f"Bearer {secret}"}
            assert admin.get("/v1/models", headers=mine).status_code == 200
            assert admin.delete(f"{KEYS}/{key_id}").status_code == 200
            assert admin.get("/v1/models", headers=mine).status_code == 401
