"""Who calls: from a Bearer token, Basic password or login cookie to an actor. Remembers hashes for seconds."""

import base64
import binascii
import time
from collections.abc import Callable

from starlette.requests import Request

from ecotone.accounts import ANONYMOUS, Accounts, Actor, secret_hash
from ecotone.vocabulary import Unauthenticated

_REMEMBERED_SECONDS = 1.5
_REMEMBERED_MOST = 4096


class Authenticator:
    """Turns a request's credentials into an actor.

    Args:
        accounts: where tokens are looked up.
        from_cookie: the web face's reading of its login cookie; returns a token's hash owner or None.
    """

    def __init__(self, accounts: Accounts, from_cookie: Callable[[Request], Actor | None]) -> None:
        self._accounts = accounts
        self._from_cookie = from_cookie
        self._remembered: dict[str, tuple[float, Actor | None]] = {}

    def actor(self, request: Request) -> Actor:
        """The caller; ANONYMOUS when nothing was sent.

        Raises:
            Unauthenticated: when credentials were sent that are not valid.
        """
        told = request.headers.get("authorization", "")
        token = bearer(told)
        if token is None or (told[:6].lower() == "basic " and _from_elsewhere(request)):
            return self._from_cookie(request) or ANONYMOUS
        hashed = secret_hash(token)
        now = time.monotonic()
        found = self._remembered.get(hashed)
        if found is None or found[0] < now:
            if len(self._remembered) >= _REMEMBERED_MOST:
                self._remembered.clear()
            found = (now + _REMEMBERED_SECONDS, self._accounts.actor_for_token(token))
            self._remembered[hashed] = found
        if found[1] is None:
            raise Unauthenticated("Invalid credentials in Authorization header", code="invalid_token")
        return found[1]


def _from_elsewhere(request: Request) -> bool:
    """Whether a page of another site has a browser send this: it adds a password that it knows by itself."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


def bearer(header: str) -> str | None:
    """The token of an Authorization header: Bearer, or the password of Basic (any user name); None without one."""
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if not value:
        return None
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated("Invalid credentials in Authorization header", code="invalid_token") from None
    return None
