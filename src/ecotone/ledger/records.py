"""The form of a record: one line of JSON that ends with the hash of everything before it in the chain.

    {"n":7,"at":"2026-11-24T15:00:00.000000Z","kind":"settled","prev":"<64 hex>", ... ,"hash":"<64 hex>"}\\n

`hash` is SHA-256 over the exact bytes of the line up to the comma before it; `prev` is the hash of record n - 1 (64
zeros for the first of a chain), so each hash covers the whole chain before it.
"""

import hashlib
from typing import Any

import msgspec

GENESIS = "0" * 64
_TAIL = len(',"hash":""}\n') + 64
_OURS = frozenset({"n", "at", "kind", "prev", "hash"})
_DIGITS = frozenset("0123456789abcdef")


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """How long a chain is and the hash of its last record."""

    records: int
    hash: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record was written; `hash` is None where it was one of several."""

    writer: str
    segment: str
    record: int
    hash: str | None = None


def packed(data: dict[str, Any]) -> bytes:
    """The record's own fields as JSON.

    Raises:
        ValueError: for a field that the chain itself writes.
        TypeError: for a value that is no JSON.
    """
    if not _OURS.isdisjoint(data):
        raise ValueError(f"a record's own fields may not be named {', '.join(sorted(_OURS & data.keys()))}")
    return msgspec.json.encode(data)


def split(line: bytes) -> tuple[bytes, str] | None:
    """The hashed part of a line and the hash it claims; None when the line is not of the form."""
    tail = line[-_TAIL:]
    if len(line) <= _TAIL or not tail.startswith(b',"hash":"') or not tail.endswith(b'"}\n'):
        return None
    claimed = tail[9:73].decode("latin-1")
    return (line[:-_TAIL], claimed) if _DIGITS.issuperset(claimed) else None


def decoded(line: bytes) -> dict[str, Any] | None:
    """A line as a record; None when it is none."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("kind"), str) else None


def head_of(line: bytes) -> Head | None:
    """Number and hash of a whole record; None when the line is none, or its hash does not fit it."""
    parts, found = split(line), decoded(line)
    if parts is None or found is None or digest_of(parts[0]) != parts[1]:
        return None
    number = found.get("n")
    return Head(records=number, hash=parts[1]) if isinstance(number, int) else None


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def writer_of(request_id: str) -> str | None:
    """The writer that an id names; None when it is not one of ours."""
    parts = request_id.split("-")
    return "-".join(parts[1:-1]) if len(parts) >= 3 and parts[0] == "req" else None


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
