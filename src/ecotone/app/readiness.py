"""Whether this server can do its work: what a load balancer asks before it sends requests here.

Tells a word for each thing and nothing of where it lies. A stranger may ask, so that an answer holds for a second.
"""

import asyncio
import errno
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from ecotone.app.services import Services

log = logging.getLogger("ecotone.app")

_HOLDS_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0
_PROBE = b"\0" * 4096
OK = "ok"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Readiness:
    """The checks, and whether the server is on its way out."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._turn = asyncio.Lock()
        self._known: tuple[float, dict[str, str]] = (0.0, {})
        self.draining = False

    async def checks(self) -> dict[str, str]:
        """A word for each thing, `ok` where it is well; at most a second old."""
        async with self._turn:
            if self._known[0] < time.monotonic():
                found = await self._look()
                self._known = (time.monotonic() + _HOLDS_SECONDS, found)
        return self._known[1] | {"server": "draining" if self.draining else OK}

    async def _look(self) -> dict[str, str]:
        settings = self._services.settings
        looks: dict[str, Callable[[], str]] = {
            "database": self._database,
            "migrations": self._migrations,
            "storage": lambda: _writable(settings.data / "staging"),
            "ledger": self._ledger,
        }
        if settings.limits_url:
            looks["limits"] = self._limits
        return {name: await self._one(name, look) for name, look in looks.items()}

    async def _one(self, name: str, look: Callable[[], str]) -> str:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await run_in_threadpool(look)
        except TimeoutError:
            return f"no answer in {_PATIENCE_SECONDS:g} s"
        except Exception as error:
            log.warning("not ready: %s: %s", name, error)
            return "does not answer"

    def _limits(self) -> str:
        return OK if self._services.gateway.in_touch else "out of reach"

    def _database(self) -> str:
        with self._services.database.reading() as session:
            session.execute(sa.text("select 1"))
        return OK

    def _migrations(self) -> str:
        return OK if self._services.database.at_head() else "another version's schema"

    def _ledger(self) -> str:
        if not self._services.ledger_writer.writable:
            return "closed"
        settings = self._services.settings
        told = _writable(settings.data / "ledger")
        if told != OK and settings.ledger_full == "spill" and settings.spill is not None:
            settings.spill.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _writable(settings.spill)
        return told


def _writable(folder: Path) -> str:
    """Whether a small file can be written in a folder: permission, room and a disk that answers."""
    probe = folder / f".probe-{secrets.token_hex(6)}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if os.write(descriptor, _PROBE) < len(_PROBE):
                return "full"
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
    except OSError as error:
        return "full" if error.errno in _FULL else "cannot be written"
    return OK
