"""Failures as pages: the one place where reasons become statuses for people.

An absent and a forbidden repository give the same page, byte for byte.
"""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from ecotone.catalog import BadName, EntryNotFound, ModelNotFound, RevisionNotFound
from ecotone.vocabulary import (
    Conflict,
    EcotoneError,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from ecotone.web.answers import SECURITY_HEADERS, html, root_of

STATUS: tuple[tuple[type[EcotoneError], int], ...] = (
    (Invalid, 400),
    (Unauthenticated, 401),
    (Refused, 403),
    (Forbidden, 403),
    (Refused, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (Unavailable, 503),
)
TITLES = {
    400: "That request could not be read",
    401: "A login is needed",
    403: "Not open to you",
    404: "Nothing here",
    405: "That cannot be done here",
    409: "The state does not admit it",
    413: "Too large",
    500: "Something broke on our side",
    503: "Not available just now",
}
ABSENT = "There is nothing at this address, or you may not see it. Check the spelling; if it is private, log in."
BROKEN = "The server could not finish this page. The reason is in its log; please try again, or tell an administrator."
_FOR_PROGRAMS = ("/api/", "/v1/", "/cas/", "/lfs/")


def status_of(error: EcotoneError) -> int:
    """The status of a known failure."""
    return next((code for kind, code in STATUS if isinstance(error, kind)), 500)


def failure_page(request: Request, error: EcotoneError) -> Response:
    """The page for a known failure."""
    status = status_of(error)
    if isinstance(error, BadName):
        status = 404
    hidden = isinstance(error, (ModelNotFound, BadName)) or (
        isinstance(error, NotFound) and not isinstance(error, (RevisionNotFound, EntryNotFound)) and error.param is None
    )
    return _page(request, status, ABSENT if hidden else error.message)


def _page(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    title = TITLES.get(status, "This did not work")
    answer = html(request, "failure.html", status, title=title, message=message, status=status)
    answer.headers.update(headers or {})
    return answer


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.scope["path"].startswith(_FOR_PROGRAMS):
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=dict(error.headers or {}))
    path = request.scope["path"]
    if error.status_code == 404 and request.method in ("GET", "HEAD") and path.rstrip("/") not in ("", path):
        query = f"?{request.url.query}" if request.url.query else ""
        target = root_of(request.app.state.services) + "/" + path.strip("/") + query
        return RedirectResponse(target, 307, headers=dict(SECURITY_HEADERS))
    message = ABSENT if error.status_code == 404 else "This address does not take that kind of request."
    return _page(request, error.status_code, message, error.headers)


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, EcotoneError)
    return failure_page(request, error)


async def _on_unknown(request: Request, _error: Exception) -> Response:
    """The error itself is logged by the server; the answer tells nothing of it."""
    if request.scope["path"].startswith(_FOR_PROGRAMS):
        return JSONResponse({"error": BROKEN}, 500)
    return _page(request, 500, BROKEN)


def exception_handlers() -> dict[Any, Any]:
    """Handlers for what no face caught."""
    return {HTTPException: _on_http, EcotoneError: _on_known, Exception: _on_unknown}
