"""The outermost ASGI layer: Host check, raw paths, who calls, request ids, and faces that answer before the router."""

import logging
import secrets
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecotone.accounts import ANONYMOUS
from ecotone.api import FEED
from ecotone.app.authentication import Authenticator
from ecotone.app.bodies import Patient
from ecotone.app.crossing import Crossing
from ecotone.app.rate_limits import rate_limits
from ecotone.app.traffic import KEY, Traffic, Transfer
from ecotone.gateway.origins import Origins, Proxies
from ecotone.gateway.paths import is_ours
from ecotone.settings import Settings
from ecotone.vocabulary import Unauthenticated
from ecotone.web import takes_form

log = logging.getLogger("ecotone.requests")

OWN_CREDENTIALS = frozenset({"cas", "lfs", "v1", "health", "metrics"})
OWN_PAGES = "/ecotone/"
_GIT = ("/info/refs", "/git-upload-pack", "/git-receive-pack")
OPEN_TO_ALL = frozenset({"login", "logout", "static", "oauth"})


class Gate:
    """Wraps the router: everything that must hold for each request, whatever its face.

    Args:
        router: the composed faces but the gateway.
        gateway: the gateway's ASGI face, which owns the paths of `gateway.paths`.
    """

    def __init__(self, router: ASGIApp, gateway: ASGIApp, authenticator: Authenticator, settings: Settings) -> None:
        self.traffic: Traffic | None = None
        self._router = router
        origins = Origins(settings.origins)
        self._gateway = Crossing(gateway, origins) if origins else gateway
        self._authenticator = authenticator
        self._settings = settings
        self._hosts = _own_hosts(settings)
        self._proxies = Proxies(settings.proxies)
        self._limits = rate_limits(settings.rate_limit)
        self._prefix = urlsplit(settings.public_url or "").path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        path = scope.get("raw_path", b"").split(b"?")[0].decode("latin-1") or scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(self._prefix + "/")):
            path = path[len(self._prefix) :] or "/"
        if len(path) > 1 and path.endswith("/"):
            path = path.rstrip("/") or "/"  # clients ask for `/tree/{sha}/`; nothing here ends so
        scope = {**scope, "path": path, "state": dict(scope.get("state") or {})}
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = self._proxies.host(_peer(scope), _fields(scope)) if len(hosts) == 1 else None
        if host is None or not self._host_is_ours(host.decode("latin-1")):
            answer: Response = JSONResponse(
                {"error": "Unknown Host header; add the name to ECOTONE_ALLOWED_HOSTS or set ECOTONE_PUBLIC_URL."}, 421
            )
            answer.headers["x-request-id"] = secrets.token_hex(12)
            await answer(scope, receive, send)
            return
        if is_ours(path.encode("latin-1"), scope["method"].encode("latin-1")):
            if self._proxies:
                scope["client"] = (self._proxies.client(_peer(scope), _fields(scope)), 0)
            await self._gateway(scope, receive, send)
            return
        await self._to_router(scope, receive, send, path)

    async def _to_router(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        request = Request(scope, receive)
        state: dict[str, Any] = scope["state"]
        state["actor"] = ANONYMOUS
        state["request_id"] = request_id = secrets.token_hex(12)
        if _first_segment(path) not in OWN_CREDENTIALS:
            try:
                state["actor"] = await run_in_threadpool(self._authenticator.actor, request)
            except Unauthenticated as error:
                refused = self._limits.refusal(path, self._limits.count(path, client_of(scope, self._settings)))
                answer = refused or _unauthenticated(error.message, request_id)
                await answer(scope, receive, _with_headers(send, {"x-request-id": request_id}))
                return
            counted = self._limits.count(path, state["actor"].token or client_of(scope, self._settings))
            send = _with_headers(send, self._limits.headers(counted))
            refused = self._limits.refusal(path, counted)
            if refused is not None:
                await refused(scope, receive, _with_headers(send, {"x-request-id": request_id}))
                return
            if (
                state["actor"] is ANONYMOUS
                and not self._settings.anonymous_may_read
                and not _open(path, scope["method"])
            ):
                await _login_needed(path, request_id, self._prefix)(scope, receive, send)
                return
        try:
            patient = Patient(receive, self._settings.body_seconds, self._settings.body_rate)
            await self._router(scope, patient, _with_headers(send, {"x-request-id": request_id}))
        finally:
            self._note(scope)

    def _note(self, scope: Scope) -> None:
        """Tell the counting layer which endpoint took the request, and why it was refused, if it was."""
        transfer: Transfer | None = scope.get(KEY)
        if transfer is not None and self.traffic is not None:
            self.traffic.routed(transfer, scope.get("endpoint"))
            transfer.refused = scope["state"].get("refused")

    def _host_is_ours(self, host: str) -> bool:
        try:
            name = urlsplit("//" + host).hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def client_of(scope: Scope, settings: Settings) -> str:
    """The address that a request came from: the peer's, or, when that is a trusted proxy, the last address in
    X-Forwarded-For that is none."""
    return Proxies(settings.proxies).client(_peer(scope), _fields(scope))


def _peer(scope: Scope) -> str:
    return str((scope.get("client") or ("", 0))[0])


def _fields(scope: Scope) -> dict[bytes, bytes]:
    """The X-Forwarded-* headers and the host; several of one name are one list, as RFC 9110 section 5.3 has it."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name == b"host" or name.startswith(b"x-forwarded-"):
            found[name] = found[name] + b"," + value if name in found else value
    return found


def _own_hosts(settings: Settings) -> frozenset[str]:
    named = [h.strip() for h in settings.allowed_hosts.split(",") if h.strip()]
    public = urlsplit(settings.public_url or "").hostname
    return frozenset(["localhost", settings.host, *named, *([public] if public else [])])


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


def _open(path: str, method: str) -> bool:
    """Whether a face answers strangers itself: forms of pages say who sent them in a field, which is read there."""
    if path == FEED:  # it has a proof of its own
        return True
    is_form = method == "POST" and (path.startswith(OWN_PAGES) or takes_form(path))
    return is_form or _first_segment(path) in OPEN_TO_ALL


def _is_for_programs(path: str) -> bool:
    return path.startswith("/api/") or "/resolve/" in path or ".git/" in path or path.endswith(_GIT)


def _unauthenticated(message: str, request_id: str) -> Response:
    headers = {
        "x-error-message": message,
        "x-error-code": "InvalidCredentials",
        "x-request-id": request_id,
        "www-authenticate": 'Basic realm="ecotone"',
    }
    return JSONResponse({"error": message}, 401, headers=headers)


def _login_needed(path: str, request_id: str, prefix: str) -> Response:
    if not _is_for_programs(path):
        return RedirectResponse(prefix + "/login", 303, headers={"x-request-id": request_id})
    message = "This hub answers to known users only: send a token, e.g. set HF_TOKEN or ECOTONE_TOKEN."
    headers = {
        "x-error-code": "RepoNotFound",
        "x-error-message": message,
        "x-request-id": request_id,
        "www-authenticate": 'Basic realm="ecotone"',
    }
    return JSONResponse({"error": message}, 401, headers=headers)


async def body_missing(_request: Request, _error: Exception) -> Response:
    """The answer to whoever left, or fell silent, in the middle of a body."""
    text = "The body ended too early, or came too slowly; send it again over a faster connection."
    return JSONResponse({"error": text}, 408, headers={"connection": "close"})


def _with_headers(send: Send, more: dict[str, str]) -> Send:
    """Adds headers to an answer that does not have them itself."""
    if not more:
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"] = list(message.get("headers", []))
            known = {name.lower() for name, _ in headers}
            headers += [(n.encode(), v.encode("latin-1")) for n, v in more.items() if n.encode() not in known]
        await send(message)

    return sending
