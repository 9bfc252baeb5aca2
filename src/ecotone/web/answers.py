"""Answers that are pages: a template with what every page shows, and the headers that every page has.

The headers keep a page from running, loading or framing anything but itself, whatever a card or file holds.
"""

from typing import Any
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ecotone.web.forms import form_token
from ecotone.web.rendering import render

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "private, no-cache",
    "vary": "Cookie, Authorization",
}
PLACES = (
    ("Models", "/"),
    ("Datasets", "/datasets"),
    ("Spaces", "/spaces"),
    ("Collections", "/collections"),
    ("Licences", "/ecotone/licences"),
)
PLACES_OF_USERS = (
    ("Deployments", "/ecotone/deployments"),
    ("Playground", "/ecotone/playground"),
    ("Why?", "/ecotone/why"),
)
PLACES_OF_ADMINISTRATORS = (
    ("Traffic", "/ecotone/traffic"),
    ("Operations", "/ecotone/status"),
    ("Projects", "/ecotone/projects"),
    ("Routes", "/ecotone/routes"),
    ("Profile", "/ecotone/profile"),
)


def root_of(services: Any) -> str:
    return urlsplit(services.settings.public_url or "").path.rstrip("/")


def _places(request: Request, actor: Any) -> list[tuple[str, str, bool]]:
    """Where the main navigation leads this visitor: title, address, whether they are there."""
    places = [*PLACES]
    if actor is not None and actor.kind == "user":
        places += PLACES_OF_USERS
        if actor.is_admin:
            places += PLACES_OF_ADMINISTRATORS
    root, here = root_of(request.app.state.services), request.scope["path"]

    def is_here(path: str) -> bool:
        return here == path or (path != "/" and here.startswith(f"{path}/"))

    return [(title, root + path, is_here(path)) for title, path in places]


def html(request: Request, template: str, status_code: int = 200, **context: Any) -> Response:
    """A page around a template, with the headers that every page has."""
    services = request.app.state.services
    actor = getattr(request.state, "actor", None)
    signed_in = actor is not None and actor.kind == "user"
    here = request.scope["path"] + ("?" + request.url.query if request.url.query else "")
    body = render(
        template,
        root=root_of(services),
        actor=actor,
        signed_in=signed_in,
        form_token=form_token(request) if signed_in else "",
        here=quote(here, safe="/"),
        navigation=_places(request, actor),
        **context,
    )
    return HTMLResponse(body, status_code, headers=dict(SECURITY_HEADERS))
