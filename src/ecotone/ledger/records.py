"""The form of a record: one line of JSON that ends with the hash of everything before it in the chain.

    {"n":7,"at":"2026-11-24T15:00:00.000000Z","kind":"settled","prev":"<64 hex>", ... ,"hash":"<64 hex>"}\\n

`hash` is SHA-256 over the exact bytes of the line up to the comma before it; `prev` is the hash of record n - 1 (64
zeros for the first of a chain), so each hash covers the whole chain before it.
"""

import hashlib
import math
import os
import secrets
import time
import weakref
from binascii import hexlify
from collections.abc import Iterable, Iterator
from hashlib import sha256
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


def encode(number: int, kind: str, prev: str, own: bytes) -> tuple[bytes, str]:
    """The line of a record and its hash.

    Args:
        number: its place in the chain, from 1.
        kind: what it is.
        prev: hash of the record before it.
        own: its own fields, from `packed`.
    """
    line, digest = encode_all(number, prev, ((kind, own),))
    return line, digest


def encode_all(number: int, prev: str, items: Iterable[tuple[str, bytes]]) -> tuple[bytes, str]:
    """The lines of records that follow one another, written at one moment, and the hash of the last.

    Args:
        number: place of the first in the chain, from 1.
        prev: hash of the record before it.
        items: kinds and own fields, from `packed`.
    """
    last = prev.encode()
    begins: dict[str, bytes] = {}
    parts: list[bytes] = []
    at = _now()
    for kind, own in items:
        begin = begins.get(kind)
        if begin is None:
            begin = begins[kind] = b'"at":"%b","kind":"%b","prev":"' % (at, kind.encode())
        if len(own) > 2:
            body = b'{"n":%d,%b%b",%b' % (number, begin, last, own[1:-1])
        else:
            body = b'{"n":%d,%b%b"' % (number, begin, last)
        last = hexlify(sha256(body).digest())
        parts += (body, b',"hash":"', last, b'"}\n')
        number += 1
    return b"".join(parts), last.decode()


_second: tuple[int, bytes] = (-1, b"")


def _now() -> bytes:
    """This moment in UTC with microseconds; the part before them is formatted once a second."""
    global _second  # noqa: PLW0603
    whole, rest = divmod(time.time_ns(), 1_000_000_000)
    second, text = _second
    if second != whole:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)).encode()
        _second = (whole, text)
    return b"%b.%06dZ" % (text, rest // 1000)


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


class RequestIds:
    """Makes ids for requests that name their writer and sort by time: `req-<writer>-<milliseconds><80 random bits>`,
    both in hexadecimal. Called for each request: the time is formatted once a millisecond, random bits are drawn in
    bulk.
    """

    __slots__ = ("__weakref__", "_begin", "_bits", "_until", "_writer")

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._begin = b""
        self._until = 0.0
        self._bits: Iterator[bytes] = iter(())
        _makers.add(self)

    def __call__(self, now: float) -> bytes:
        """An id in ASCII.

        Args:
            now: the monotonic clock in seconds.
        """
        if now >= self._until:
            self._begin = f"req-{self._writer}-{int(time.time() * 1000):011x}".encode()
            self._until = now + 0.001
        for bits in self._bits:
            return self._begin + bits
        drawn = secrets.token_bytes(10 * _DRAWN).hex().encode()
        self._bits = iter([drawn[at : at + 20] for at in range(20, len(drawn), 20)])
        return self._begin + drawn[:20]

    def forget(self) -> None:
        """Draw other bits: this is another process now."""
        self._bits = iter(())


_DRAWN = 256
_makers: "weakref.WeakSet[RequestIds]" = weakref.WeakSet()


def request_id(writer: str) -> str:
    """One id, see `RequestIds`."""
    return RequestIds(writer)(math.inf).decode()


def _forked() -> None:
    """A child draws its own bits."""
    for maker in _makers:
        maker.forget()


os.register_at_fork(after_in_child=_forked)


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
