"""Decisions by reference: a decision's content is a record of kind `ruling`, and requests name it by its hash.

    {"n":8,"at":...,"kind":"ruling","prev":...,"id":"<32 hex>","ruling":{"verdict":"allow", ... },"hash":...}

The content speaks of its subject as U+0001, so that all models of one legal class share a record.
"""

import hashlib
from typing import Any, Protocol

import msgspec

from ecotone.ledger import records

KIND = "ruling"
_SUBJECT = b"\\u0001"
_MOST = 10_000


class Chain(Protocol):
    """What is asked of the writer: a number that changes when another segment begins, or records were not written."""

    epoch: int


class Rulings:
    """Which decisions a writer's segment has. For one thread, the one that appends.

    Args:
        writer: the `LedgerWriter`.
    """

    __slots__ = ("_epoch", "_ids", "_writer", "_written")

    def __init__(self, writer: Chain) -> None:
        self._writer = writer
        self._epoch = writer.epoch
        self._ids: dict[bytes, str] = {}
        self._written: set[str] = set()

    def missing(self, ruling: str, ruling_bytes: bytes) -> tuple[str, bytes] | None:
        """What must stand before the record that names a decision by its id, in the same `append_all`."""
        if ruling in self._written and self._epoch == self._writer.epoch:
            return None
        return self.record(ruling_bytes)[1]

    def record(self, ruling_bytes: bytes) -> tuple[str, tuple[str, bytes] | None]:
        """The id of a decision, and what must stand before the record that names it, in the same `append_all`.

        Args:
            ruling_bytes: the decision as a JSON object in UTF-8; the same object again is looked up, not hashed.
        """
        ruling = self._ids.get(ruling_bytes)
        if ruling is None:
            if len(self._ids) >= _MOST:
                self._ids.clear()
            ruling = self._ids[ruling_bytes] = id_of(ruling_bytes)
        if self._epoch != self._writer.epoch:
            self._epoch = self._writer.epoch
            self._written.clear()
        if ruling in self._written:
            return ruling, None
        self._written.add(ruling)
        return ruling, (KIND, b'{"id":"%b","ruling":%b}' % (ruling.encode(), ruling_bytes))


def id_of(ruling_bytes: bytes) -> str:
    """The first 128 bits of the content's SHA-256, in hexadecimal."""
    return hashlib.sha256(ruling_bytes).hexdigest()[:32]


def content_of(line: bytes, ruling: str) -> bytes | None:
    """The decision in a record; None when the record is no whole one of it."""
    parts = records.split(line)
    start = line.find(b'"ruling":')
    if parts is None or start < 0 or b'"kind":"ruling"' not in line:
        return None
    content = parts[0][start + len(b'"ruling":') :]
    return content if id_of(content) == ruling else None


def about(content: bytes, model: str) -> dict[str, Any]:
    """The decision with the model's name in it."""
    found = msgspec.json.decode(content.replace(_SUBJECT, msgspec.json.encode(model)[1:-1]))
    return found if isinstance(found, dict) else {}
