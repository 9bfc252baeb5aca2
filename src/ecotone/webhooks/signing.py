"""The signature by which a receiver knows that a delivery is ours and new. Pure."""

import hashlib
import hmac

HEADER = "x-ecotone-signature"


def signature(secret: str, at: int, body: bytes) -> str:
    """`t=UNIX_SECONDS,v1=HEX`: HMAC-SHA256 with the webhook's secret over `UNIX_SECONDS.BODY`."""
    made = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}"
