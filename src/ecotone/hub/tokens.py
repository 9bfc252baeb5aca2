"""Short-lived signed tokens for the data faces: Xet's access tokens and LFS' addresses (protocol sections 1.8, 1.9).

A token is its claims and an HMAC-SHA256 over them with a secret of this installation; it names one repository and
either reading or writing, so that it is worth nothing elsewhere. Nothing is stored for it.
"""

import base64
import binascii
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import msgspec
from starlette.routing import BaseRoute

from ecotone.catalog import Model
from ecotone.hub.endpoint import Call, answer, api_routes, check_gate, need_writer
from ecotone.settings import Settings
from ecotone.vocabulary import Forbidden, Unauthenticated

LIFETIME = 3600
GRACE = 600
"""Clients renew by their own clock and take a 401 as fatal: a token is good for a while after its told end."""


class Claims(msgspec.Struct, frozen=True, array_like=True):
    """What a token allows: `purpose` is xet or lfs, `subject` an object it is bound to ("" for any)."""

    purpose: str
    model_key: int
    namespace: str
    write: bool
    expires: int
    actor: str
    subject: str = ""


class Signer:
    """Signs and reads tokens.

    Args:
        settings: holds the secret of this installation.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.secret("hub-tokens")

    def sign(self, claims: Claims) -> str:
        body = base64.urlsafe_b64encode(msgspec.msgpack.encode(claims)).rstrip(b"=")
        return f"{body.decode()}.{self._seal(body)}"

    def read(self, token: str, purpose: str, *, write: bool, now: float | None = None) -> Claims:
        """The claims of a token.

        Raises:
            Unauthenticated: when it is none of ours, changed, or too old.
            Forbidden: when it allows less than is asked.
        """
        body, _, seal = token.partition(".")
        try:
            if not hmac.compare_digest(self._seal(body.encode("ascii")), seal):
                raise Unauthenticated("The token is not one that this hub gave out; ask for a new one.")
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            claims = msgspec.msgpack.decode(raw, type=Claims)
        except (binascii.Error, UnicodeEncodeError, TypeError, ValueError, msgspec.MsgspecError):
            raise Unauthenticated("The token is not one that this hub gave out; ask for a new one.") from None
        if claims.purpose != purpose:
            raise Unauthenticated(f"This token is for {claims.purpose}, not for {purpose}.")
        if claims.expires + GRACE < (time.time() if now is None else now):
            raise Unauthenticated("The token has expired; ask for a new one.")
        if write and not claims.write:
            raise Forbidden("This token may only read; ask for a write token.")
        return claims

    def _seal(self, body: bytes) -> str:
        return hmac.new(self._secret, body, hashlib.sha256).hexdigest()


_signers: dict[Path, Signer] = {}


def signer(settings: Settings) -> Signer:
    """The signer of an installation; its secret is read once."""
    found = _signers.get(settings.data)
    if found is None:
        found = _signers[settings.data] = Signer(settings)
    return found


def xet_token(call: Call, model: Model, *, write: bool) -> Any:
    """A token in both forms: body for hf_xet, headers for huggingface_hub."""
    expires = int(time.time()) + LIFETIME
    claims = Claims("xet", model.key, model.namespace, write, expires, call.actor.name)
    token = signer(call.services.settings).sign(claims)
    cas = f"{call.base}/cas"
    headers = {
        "x-xet-cas-url": cas,
        "x-xet-access-token": token,
        "x-xet-token-expiration": str(expires),
        "cache-control": "no-store",
    }
    return answer({"casUrl": cas, "accessToken": token, "exp": expires}, headers=headers)


def read_token(call: Call) -> Any:
    """GET /api/{kind}/{id}/xet-read-token/{rev}"""
    model = call.model()
    check_gate(model, call.actor)
    call.catalog.revision(model, call.path["rev"])
    return xet_token(call, model, write=False)


def write_token(call: Call) -> Any:
    """GET /api/{kind}/{id}/xet-write-token/{rev}; any revision when a pull request is to be made."""
    model = call.model()
    need_writer(call.actor)
    if not call.flag("create_pr"):
        call.catalog.revision(model, call.path["rev"])
    return xet_token(call, model, write=True)


def routes() -> list[BaseRoute]:
    return [
        *api_routes("/xet-read-token/{rev}", {"GET": read_token}),
        *api_routes("/xet-write-token/{rev}", {"GET": write_token}),
    ]
