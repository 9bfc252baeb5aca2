"""Login by pasting a token: an opaque, expiring cookie, and tokens that tie each form to it.

The cookie holds the secret of a session (`accounts.sessions`) and nothing of the token; the session ends by logging
out, by its time, and with its token. A cookie alone never authorises a change: requests other than reads count as
anonymous unless their form or their `x-csrf-token` header carries the form token.
"""

import hmac
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ecotone.accounts import Actor, secret_hash
from ecotone.vocabulary import Forbidden
from ecotone.web.answers import SECURITY_HEADERS, html, root_of
from ecotone.web.forms import COOKIE, bound_token, form_token

NONCE_COOKIE = "ecotone_form"
SESSION_SECONDS = 12 * 3600
_REMEMBERED_SECONDS = 2.0
_REMEMBERED_MOST = 1024
_MAX_FORM_BYTES = 16 * 1024
_MAX_COOKIE = 64
_MOST_FIELDS = 200
_READS = ("GET", "HEAD", "OPTIONS")


def actor_from_cookie(services: Any) -> Callable[[Request], Actor | None]:
    """The reading of the login cookie: who is logged in, None for nobody."""
    remembered: dict[str, tuple[float, Actor | None]] = {}

    def actor(request: Request) -> Actor | None:
        secret = request.cookies.get(COOKIE, "")
        if not secret or len(secret) > _MAX_COOKIE:
            return None
        if request.method not in _READS and not _vouched(services, request, secret):
            return None
        hashed = secret_hash(secret)
        found, now = remembered.get(hashed), time.monotonic()
        if found is None or found[0] < now:
            if len(remembered) >= _REMEMBERED_MOST:
                remembered.clear()
            found = (now + _REMEMBERED_SECONDS, services.accounts.actor_of_session(secret))
            remembered[hashed] = found
        return found[1]

    return actor


async def posted(request: Request, *, most_bytes: int = _MAX_FORM_BYTES) -> tuple[Actor, dict[str, str]]:
    """Who sent a form of ours, and its fields; none of them when it is larger than told.

    Raises:
        Forbidden: when neither a token nor the form's own token vouches for the sender.
    """
    services = request.app.state.services
    fields = await _fields(request, most=_MOST_FIELDS, most_bytes=most_bytes)
    actor: Actor = request.state.actor
    if actor.kind == "user":  # by a header, which no other site can make a browser send
        return actor, fields
    secret = request.cookies.get(COOKIE, "")
    expected = bound_token(services, secret)
    if not secret or not hmac.compare_digest(fields.get("form_token", "").encode(), expected.encode()):
        raise Forbidden("The form had expired or came from elsewhere. Please log in and send it once more.")
    return await session_actor(request), fields


async def session_actor(request: Request) -> Actor:
    """The user of a session, whose form is about to be read; its own token must still vouch for it.

    Raises:
        Forbidden: when there is no session, or it has ended.
    """
    actor: Actor = request.state.actor
    if actor.kind == "user":
        return actor
    secret = request.cookies.get(COOKIE, "")
    found: Actor | None = None
    if 0 < len(secret) <= _MAX_COOKIE:
        found = await run_in_threadpool(request.app.state.services.accounts.actor_of_session, secret)
    if found is None:
        raise Forbidden("The session has ended. Please log in and send the form once more.")
    return found


def _vouched(services: Any, request: Request, binding: str) -> bool:
    sent = request.headers.get("x-csrf-token", "")
    return bool(binding) and hmac.compare_digest(sent.encode(), bound_token(services, binding).encode())


async def login(request: Request) -> Response:
    """GET and POST /login"""
    if request.method == "POST":
        return await _log_in(request)
    return _form(request, _next(request.query_params.get("next", "")))


async def _log_in(request: Request) -> Response:
    services = request.app.state.services
    fields = await _fields(request)
    target = _next(fields.get("next", ""))
    nonce = request.cookies.get(NONCE_COOKIE, "")
    expected = bound_token(services, nonce)
    if not nonce or not hmac.compare_digest(fields.get("form_token", "").encode(), expected.encode()):
        return _form(request, target, "The form had expired. Please paste the token once more.", 403)
    token = fields.get("token", "").strip()
    actor = await run_in_threadpool(services.accounts.actor_for_token, token) if token else None
    if actor is None or actor.kind != "user":
        return _form(request, target, _why_not(token, actor), 403)
    lasting = timedelta(seconds=SESSION_SECONDS)
    secret = await run_in_threadpool(services.accounts.open_session, token, lasting=lasting)
    if secret is None:  # revoked in this moment
        return _form(request, target, _why_not(token, None), 403)
    answer = RedirectResponse(root_of(services) + target, 303, headers=dict(SECURITY_HEADERS))
    answer.set_cookie(COOKIE, secret, max_age=SESSION_SECONDS, **_cookie(services))
    answer.delete_cookie(NONCE_COOKIE, path=_cookie(services)["path"])
    return answer


def _why_not(token: str, actor: Actor | None) -> str:
    if not token:
        return "Paste a token first."
    if actor is not None:
        return "That is a project's key (eck_...), which the gateway takes. A user's token begins with ect_."
    return "That token is not known here, or it was revoked."


async def logout(request: Request) -> Response:
    """POST /logout: ends all sessions of the token; needs the form token, so that no other site can log people out."""
    services = request.app.state.services
    fields = await _fields(request)
    secret = request.cookies.get(COOKIE, "")
    answer = RedirectResponse(root_of(services) + "/", 303, headers=dict(SECURITY_HEADERS))
    if secret and hmac.compare_digest(fields.get("form_token", "").encode(), bound_token(services, secret).encode()):
        await run_in_threadpool(services.accounts.end_sessions, secret)
        answer.delete_cookie(COOKIE, path=_cookie(services)["path"])
    return answer


def _form(request: Request, target: str, problem: str = "", status: int = 200) -> Response:
    services = request.app.state.services
    nonce = request.cookies.get(NONCE_COOKIE, "")
    if not 20 <= len(nonce) <= 64:
        nonce = secrets.token_urlsafe(24)
    answer = html(request, "login.html", status, next=target, problem=problem, login_token=form_token(request, nonce))
    answer.set_cookie(NONCE_COOKIE, nonce, max_age=3600, **_cookie(services))
    return answer


def _cookie(services: Any) -> dict[str, Any]:
    secure = (services.settings.public_url or "").startswith("https://")
    return {"httponly": True, "samesite": "lax", "secure": secure, "path": root_of(services) or "/"}


def _next(target: str) -> str:
    """A path of this server to go on to; the front page for anything else."""
    path = unquote(target)
    safe = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return target if safe and target.startswith("/") and path.partition("?")[0] not in ("/login", "/logout") else "/"


async def _fields(request: Request, *, most: int = 20, most_bytes: int = _MAX_FORM_BYTES) -> dict[str, str]:
    """The first value of each field of a small urlencoded form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            return {}
    try:
        found = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=most)
    except (ValueError, UnicodeDecodeError):
        return {}
    return {name: values[0] for name, values in found.items()}
