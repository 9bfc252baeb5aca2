"""Composition: settings -> services -> one ASGI application of all faces."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from ecotone import __version__, api, hub, web
from ecotone.app import operations
from ecotone.app.authentication import Authenticator
from ecotone.app.duty import Duty
from ecotone.app.gate import Gate, body_missing
from ecotone.app.in_force import InForce
from ecotone.app.metrics import Metrics
from ecotone.app.readiness import Readiness
from ecotone.app.services import Services, compose
from ecotone.app.traffic import Traffic
from ecotone.gateway import Plane
from ecotone.gateway.budgets import began
from ecotone.gateway.leasing import LeasedPlane
from ecotone.gateway.limits import Limiter
from ecotone.gateway.spending import spent
from ecotone.settings import Settings

log = logging.getLogger("ecotone.app")

_KEEPING_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Application:
    """One server: what answers, what is counted, whether it is ready, who does the background work, its routes.

    `plane` owns the connections on which the gateway is called.
    """

    asgi: ASGIApp
    plane: Plane
    traffic: Traffic
    readiness: Readiness
    duty: Duty
    router: Starlette


def build(settings: Settings, *, successor: bool = False) -> Application:
    """The application of one server.

    Args:
        successor: whether another server of this installation is alive; it keeps the background work until the
            supervisor passes it on.
    """
    services = compose(settings, successor=successor)
    token_file = services.accounts.ensure_admin()
    readiness = Readiness(services)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await _start(services)
        await (duty.wait() if successor else duty.take())
        tasks = [
            asyncio.create_task(_checkpoints(services), name="checkpoints"),
            asyncio.create_task(_projections(services), name="usage"),
        ]
        _greet(settings, token_file, told=services.accounts.profile().told)
        try:
            yield
        finally:
            services.usage_tables.end()  # a process ends only when its threads have
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                await services.gateway.stop()  # what is cut is told so, before engines go
            finally:
                try:
                    await duty.give()
                finally:
                    await _stop(services)

    router = Starlette(
        routes=[*operations.routes(), *api.feed_routes(), *api.routes(), *hub.routes(), *web.routes()],
        exception_handlers={**web.exception_handlers(), ClientDisconnect: body_missing},
        lifespan=lifespan,
    )
    router.router.redirect_slashes = False  # its redirects know neither the public address nor its prefix
    router.state.services = services
    services.catalog.reserve(_first_segments(router))
    authenticator = Authenticator(services.accounts, web.actor_from_cookie(services))
    gate = Gate(InForce(router, services.builder), services.gateway.asgi, authenticator, settings)
    traffic = Traffic(gate, _templates(router), urlsplit(settings.public_url or "").path.rstrip("/"))
    gate.traffic = traffic
    duty = Duty(services, lambda: len(services.gateway.jobs))
    router.state.readiness = readiness
    router.state.metrics = Metrics(services, traffic)
    router.state.authenticator = authenticator
    return Application(traffic, services.gateway, traffic, readiness, duty, router)


def _templates(router: Starlette) -> dict[int, str]:
    """Path templates by the identity of their endpoints; one that several routes share stands for the first."""
    found: dict[int, str] = {}
    for route in router.routes:
        if isinstance(route, Route):
            found.setdefault(id(route.endpoint), route.path)
    return found


def _first_segments(router: Starlette) -> set[str]:
    """First path segments that a face uses: none of them can be a namespace."""
    paths = [str(getattr(route, "path", "")) for route in router.routes]
    return {path.split("/")[1] for path in paths if path.count("/") and "{" not in path.split("/")[1]} - {""}


async def _start(services: Services) -> None:
    await run_in_threadpool(services.gateway.settle_open)
    await run_in_threadpool(services.builder.build)
    services.gateway.use(services.builder)
    services.listeners.append(services.builder.notify)
    services.engines.on_change(services.builder.notify)
    if isinstance(services.gateway, LeasedPlane):
        await services.gateway.share(services.settings, services.builder.current.limits)
    else:
        services.gateway.limiter = await run_in_threadpool(_limiter, services)
    await services.gateway.start()
    services.watch.start()
    await run_in_threadpool(_checkpoint, services)


def _limiter(services: Services) -> Limiter:
    """Limits and budgets, going on with what the ledger says was spent in their present windows."""
    now, limits = time.time(), services.builder.current.limits
    kinds = {budget.window for limit in limits.values() for budget in limit.budgets}
    if not kinds:
        return Limiter()
    since = min(began(kind, datetime.fromtimestamp(now, UTC)) for kind in kinds)
    return Limiter(spent=spent(services.usage_tables.costs(since), limits, now))


async def _stop(services: Services) -> None:
    await run_in_threadpool(services.watch.stop)
    try:
        await run_in_threadpool(_checkpoint, services)
    except Exception:  # a full disk, or a database that is away: the next start signs what is there
        log.exception("the ledger's last checkpoint could not be written")
    services.texts.close()
    services.ledger_writer.close()
    services.database.dispose()


async def _checkpoints(services: Services) -> None:
    while True:
        await asyncio.sleep(services.settings.checkpoint_seconds)
        try:
            await run_in_threadpool(_checkpoint, services)
        except Exception:  # the next round tries again; a full disk must not end the server
            log.exception("the ledger's checkpoint could not be written")


def _checkpoint(services: Services) -> None:
    services.checkpoint()


async def _projections(services: Services) -> None:
    """Keep the tables of usage up to date; now and then remove what its time is over for."""
    kept = 0.0
    while True:
        await asyncio.sleep(services.settings.usage_seconds)
        try:
            await run_in_threadpool(services.usage_tables.project)
            if time.monotonic() - kept > _KEEPING_SECONDS:
                kept = time.monotonic()
                await run_in_threadpool(services.keep_times)
        except Exception:  # the next round tries again; a full disk must not end the server
            log.exception("usage could not be taken up from the ledger")


def _greet(settings: Settings, token_file: Path | None, *, told: bool) -> None:
    """Say the address, where the first token lies, and what is still asked; the token itself only on a terminal."""
    lines = [f"Ecotone {__version__} answers at {settings.base_url}"]
    if token_file is not None:
        lines.append(f"the administrator's token lies in {token_file}")
        if sys.stderr.isatty() and not os.environ.get("CI"):
            lines.append(f"  export ECOTONE_TOKEN={token_file.read_text().strip()}")
    if not told:
        lines.append(
            f"licences ask who you are: tell it once at {settings.base_url}/ecotone/profile or `ecotone profile set`"
        )
    print("\n".join(lines), file=sys.stderr, flush=True)
