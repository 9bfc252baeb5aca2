"""Tokens that tie a form to the session, or before login to a nonce cookie, so that no other site can send it."""

import hashlib
import hmac
from typing import Any

from starlette.requests import Request

COOKIE = "ecotone_session"


def form_token(request: Request, nonce: str = "") -> str:
    """What a form must send back."""
    return bound_token(request.app.state.services, nonce or request.cookies.get(COOKIE, ""))


def bound_token(services: Any, binding: str) -> str:
    """The token for a session cookie's or nonce cookie's value."""
    return hmac.new(services.settings.secret("session"), b"form\0" + binding.encode(), hashlib.sha256).hexdigest()
