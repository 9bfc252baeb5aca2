"""The lines of records, and the ids of requests: what is made for each request. `records` says what their form is."""

import os
import secrets
import time
from binascii import hexlify
from collections.abc import Iterable
from hashlib import sha256
from typing import Final


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


class RequestIds:
    """Makes ids for requests that name their writer and sort by time: `req-<writer>-<milliseconds><80 random bits>`,
    both in hexadecimal. Called for each request: the time is formatted once a millisecond, random bits are drawn in
    bulk.
    """

    __slots__ = ("_begin", "_bits", "_process", "_until", "_writer")

    def __init__(self, writer: str) -> None:
        self._writer = writer
        self._begin = b""
        self._until = 0.0
        self._bits: list[bytes] = []
        self._process = 0

    def next(self, now: float) -> bytes:
        """An id in ASCII.

        Args:
            now: the monotonic clock in seconds.
        """
        if now >= self._until:
            self._begin = f"req-{self._writer}-{int(time.time() * 1000):011x}".encode()
            self._until = now + 0.001
        if not self._bits or self._process != _process:
            self._process = _process
            drawn = secrets.token_bytes(10 * _DRAWN).hex().encode()
            self._bits = [drawn[at : at + 20] for at in range(0, len(drawn), 20)]
        return self._begin + self._bits.pop()


_DRAWN: Final = 256
_process = 0
"""Of how many forks this process came: each draws its own bits."""


def _forked() -> None:
    global _process  # noqa: PLW0603
    _process += 1


os.register_at_fork(after_in_child=_forked)


def request_id(writer: str) -> str:
    """One id, see `RequestIds`."""
    return RequestIds(writer).next(0.0).decode()
