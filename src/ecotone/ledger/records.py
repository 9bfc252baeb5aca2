"""The form of a record: one line of JSON that ends with the hash of everything before it in the chain.

    {"n":7,"at":"2026-11-24T15:00:00.000000Z","kind":"settled","prev":"<64 hex>", ... ,"hash":"<64 hex>"}\\n

`hash` is SHA-256 over the exact bytes of the line up to the comma before it; `prev` is the hash of record n - 1 (64
zeros for the first of a chain), so each hash covers the whole chain before it.
"""

import base64
import hashlib
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

GENESIS = "0" * 64
_TAIL = len(',"hash":""}\n') + 64


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """How long a chain is and the hash of its last record."""

    records: int
    hash: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record was written."""

    writer: str
    segment: str
    record: int
    hash: str


def encode(number: int, kind: str, prev: str, data: dict[str, Any]) -> tuple[bytes, str]:
    """The line of a record and its hash."""
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    body = msgspec.json.encode({"n": number, "at": at, "kind": kind, "prev": prev, **data})[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body, digest.encode()), digest


def split(line: bytes) -> tuple[bytes, str] | None:
    """The hashed part of a line and the hash it claims; None when the line is not of the form."""
    tail = line[-_TAIL:]
    if len(line) <= _TAIL or not tail.startswith(b',"hash":"') or not tail.endswith(b'"}\n'):
        return None
    try:
        return line[:-_TAIL], tail[9:73].decode("ascii")
    except UnicodeDecodeError:
        return None


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def request_id(writer: str) -> str:
    """An id for a request that names its writer and sorts by time: `req-<writer>-<time><random>`."""
    stamp = int(time.time() * 1000).to_bytes(6, "big") + secrets.token_bytes(9)
    return f"req-{writer}-{base64.b32hexencode(stamp).decode().lower()}"


def merkle_root(heads: dict[str, Head]) -> str:
    """Root over all heads, by writer (leaves and nodes marked apart, as in RFC 6962 section 2.1)."""
    level = [
        hashlib.sha256(f"\0{writer}|{head.records}|{head.hash}".encode()).digest()
        for writer, head in sorted(heads.items())
    ]
    if not level:
        return GENESIS
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [hashlib.sha256(b"\1" + b"".join(p)).digest() if len(p) == 2 else p[0] for p in pairs]
    return level[0].hex()
