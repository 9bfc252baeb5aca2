"""What those who run the server ask it: is it alive, is it ready, what are its figures."""

import ipaddress

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from ecotone import __version__
from ecotone.app.gate import client_of
from ecotone.app.metrics import TYPE
from ecotone.app.readiness import OK
from ecotone.vocabulary import Unauthenticated

_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "via")


async def health(_request: Request) -> Response:
    """GET /health: the process answers. Asks nothing of database or disk: what fails there, a restart does not mend."""
    return JSONResponse({"status": "ok", "version": __version__})


async def ready(request: Request) -> Response:
    """GET /health/ready: whether requests should be sent here; 503 names what is not well."""
    checks = await request.app.state.readiness.checks()
    well = all(word == OK for word in checks.values())
    told = {"status": "ready" if well else "not ready", "checks": checks}
    return JSONResponse(told, 200 if well else 503, headers={"cache-control": "no-store"})


async def metrics(request: Request) -> Response:
    """GET /metrics, for administrators and whom `ECOTONE_METRICS_READ` names."""
    if not await run_in_threadpool(_may_read, request):
        text = "The metrics are for administrators: send `Authorization: Bearer TOKEN`, or set ECOTONE_METRICS_READ.\n"
        return PlainTextResponse(text, 401, headers={"www-authenticate": "Bearer"})
    figures = request.app.state.metrics
    figures.take(await request.app.state.readiness.checks())
    return Response(await run_in_threadpool(figures.text), headers={"content-type": TYPE})


def _may_read(request: Request) -> bool:
    settings = request.app.state.services.settings
    if settings.metrics_readers == "anyone":
        return True
    if settings.metrics_readers == "loopback" and _from_loopback(request):
        return True
    try:
        return bool(request.app.state.authenticator.actor(request).is_admin)
    except Unauthenticated:
        return False


def _from_loopback(request: Request) -> bool:
    """Whether the caller is on this machine; not one whom a proxy that we do not know passed on."""
    settings = request.app.state.services.settings
    peer = str(request.client.host) if request.client else ""
    client = client_of(request.scope, settings)
    if client == peer and any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False


def routes() -> list[BaseRoute]:
    return [Route("/health", health), Route("/health/ready", ready), Route("/metrics", metrics)]
