"""How a server begins and ends when something fails in that moment."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from ecotone.app import application
from ecotone.app.application import build
from ecotone.app.process import NOT_RESTARTED
from ecotone.app.server import _Server
from ecotone.settings import Settings


def test_a_last_checkpoint_that_fails_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that wait and the ledger's last second are brought to the disk even so."""
    made = build(Settings(data=tmp_path))
    services = made.router.state.services

    def fail(_services: Any) -> None:
        raise OSError("the database is away")

    async def live() -> None:
        async with made.router.router.lifespan_context(made.router):
            monkeypatch.setattr(application, "_checkpoint", fail)
            assert services.texts.keep("shop", "req-1", b"{}")

    asyncio.run(live())
    assert not services.ledger_writer.writable
    assert [found["text"] for found in services.texts.read("req-1")] == [{}]


def test_a_gateway_that_cannot_be_stopped_keeps_nothing_else_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(Settings(data=tmp_path))
    services, given = made.router.state.services, []

    async def fail() -> None:
        raise RuntimeError("a fault")

    async def live() -> None:
        async with made.router.router.lifespan_context(made.router):
            stop = services.gateway.stop
            monkeypatch.setattr(services.gateway, "stop", fail)
            monkeypatch.setattr(services.engines, "shutdown", lambda: given.append(True))
        await stop()

    with pytest.raises(RuntimeError, match="a fault"):
        asyncio.run(live())
    assert given
    assert not services.ledger_writer.writable


def test_a_start_that_fails_by_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away for a moment, just as the server starts anew, must not end the supervisor too."""
    settings = Settings(data=tmp_path)
    made = build(settings)
    services = made.router.state.services

    def fail() -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(services.storage, "sweep", fail)
    server = _Server(made, settings, -1, -1, None)

    async def serve() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            await server.serve(sockets=[listener])

    with pytest.raises(SystemExit) as ended:
        asyncio.run(serve())
    assert ended.value.code not in (0, None, NOT_RESTARTED)
    services.watch.stop()
    services.builder.stop()
    services.ledger_writer.close()
    services.database.dispose()
