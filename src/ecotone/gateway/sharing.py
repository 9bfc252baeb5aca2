"""What passes between the server and gateways on other machines: the snapshot, opened and sealed by a shared secret.

A gateway asks with a proof (HMAC-SHA256 over a fresh nonce that begins with the time); the answer is sealed with an
HMAC over that nonce, the tag and the body. So nobody without the secret reads decisions or makes some up, and an old
answer cannot be played again, not even "nothing has changed". Pure.
"""

import hashlib
import hmac
import secrets
import time
from typing import Final

import msgspec

from ecotone.gateway.snapshot import Snapshot

PATH: Final = "/api/ecotone/v1/snapshot"
NONCE: Final = "x-ecotone-nonce"
PROOF: Final = "x-ecotone-proof"
SEAL: Final = "x-ecotone-seal"
_SKEW_SECONDS: Final = 300.0
_LONGEST_NONCE: Final = 80


def fresh_nonce() -> str:
    return f"{int(time.time())}.{secrets.token_hex(16)}"


def is_recent(nonce: str) -> bool:
    """Whether a nonce was made less than five minutes ago; the machines' clocks may differ by as much."""
    stamp = nonce.partition(".")[0]
    return (
        len(nonce) <= _LONGEST_NONCE
        and stamp.isascii()
        and stamp.isdecimal()
        and abs(time.time() - int(stamp)) < _SKEW_SECONDS
    )


def proof(secret: str, nonce: str) -> str:
    """What shows that one who asks has the secret."""
    return _hmac(secret, "ask", nonce, b"")


def seal(secret: str, nonce: str, tag: str, body: bytes) -> str:
    """What shows that an answer comes from one who has the secret, and answers this question."""
    return _hmac(secret, "answer", nonce + "\n" + tag, body)


def is_same(told: str, expected: str) -> bool:
    return hmac.compare_digest(told.encode("utf-8", "replace"), expected.encode())


def elsewhere(snapshot: Snapshot) -> Snapshot:
    """The snapshot as another machine can use it: engines listen on sockets that it cannot reach."""
    note = "its engine runs on the server's machine; call it there"
    targets = {
        name: msgspec.structs.replace(t, socket=None, sockets=(), ready=False, starting=False, wakes=False, note=note)
        if t.url is None
        else t
        for name, t in snapshot.targets.items()
    }
    return msgspec.structs.replace(snapshot, targets=targets)


def _hmac(secret: str, what: str, of: str, body: bytes) -> str:
    text = f"ecotone snapshot {what}\n{of}\n".encode()
    return hmac.new(secret.encode(), text + hashlib.sha256(body).digest(), "sha256").hexdigest()
