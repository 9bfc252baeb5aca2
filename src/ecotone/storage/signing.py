"""Short-lived signed tokens and addresses: what may be done with which object, until when. HMAC-SHA256, no state."""

import base64
import binascii
import hashlib
import hmac
import time
from typing import Any

import msgspec

from ecotone.storage.errors import BadToken


class Signer:
    """Signs small JSON claims with a secret of this installation."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, claims: dict[str, Any], *, seconds: float) -> str:
        """A token for the claims, valid for some seconds."""
        body = msgspec.json.encode({**claims, "exp": int(time.time() + seconds)})
        packed = base64.urlsafe_b64encode(body).rstrip(b"=")
        return f"{packed.decode()}.{self._mac(packed)}"

    def verify(self, token: str, *, purpose: str, grace: float = 0) -> dict[str, Any]:
        """The claims of a token made for `purpose`.

        Args:
            token: as made by `sign`, with `purpose` among its claims.
            purpose: what it must have been made for.
            grace: seconds after its end for which it is still taken.

        Raises:
            BadToken: when the signature, the purpose or the time does not fit.
        """
        packed, _, mac = token.partition(".")
        if not hmac.compare_digest(self._mac(packed.encode()).encode(), mac.encode()):
            raise BadToken("not one of this hub's")
        try:
            claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        except (ValueError, binascii.Error):
            raise BadToken("malformed") from None
        if claims.get("purpose") != purpose:
            raise BadToken("for something else")
        if claims["exp"] + grace < time.time():
            raise BadToken("no longer valid")
        return claims

    def label(self, text: str) -> str:
        """20 hex digits that stand for a text in this installation and in no other."""
        return hmac.new(self._secret, b"label:" + text.encode(), hashlib.sha256).hexdigest()[:20]

    def name(self, data: bytes) -> str:
        """64 hex digits that name bytes in this installation; who holds the bytes alone cannot tell them."""
        return hmac.new(self._secret, b"name:" + data, hashlib.sha256).hexdigest()

    def _mac(self, packed: bytes) -> str:
        return base64.urlsafe_b64encode(hmac.new(self._secret, packed, hashlib.sha256).digest()).rstrip(b"=").decode()
