"""Loose git objects: blobs, trees and commits by SHA-1, compressed as git itself keeps them."""

import hashlib
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from ecotone.database import Database, batches
from ecotone.storage.errors import ContentNotFound
from ecotone.storage.models import CondemnedRow, spare
from ecotone.storage.objects import Objects, key

KIND = "git"
_FEW = 8


class GitObjects:
    """Loose objects. Access goes through revisions; an id alone opens nothing."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects

    def put_all(self, objects: Sequence[tuple[str, bytes]]) -> list[str]:
        """Store objects, each a kind and its bytes; returns their ids. All are durable when it returns.

        Equal ones are stored once. A store answers many puts at a time, and a disk many flushes, sooner than one after
        the other.
        """
        names = [_name(kind, data) for kind, data in objects]
        distinct = list(dict(zip(names, objects, strict=True)).items())
        with ThreadPoolExecutor(self._objects.at_once, thread_name_prefix="git-objects") as pool:
            put_each = pool.map if len(distinct) >= _FEW else map
            for some in batches(distinct):
                self._spare([name for name, _ in some])
                list(put_each(self._put, some))
        return names

    def put(self, kind: str, data: bytes) -> str:
        """Store an object; returns its id. Durable when it returns."""
        return self.put_all([(kind, data)])[0]

    def _put(self, named: tuple[str, tuple[str, bytes]]) -> None:
        name, (kind, data) = named
        self._objects.put(zlib.compress(_head(kind, data) + data, 1), key(KIND, name))

    def _spare(self, names: list[str]) -> None:
        """Whoever writes objects that are there already counts on them: they go no more. Asked before they are looked
        for, so that one which is not condemned now stays long enough for the commit that names it to be seen."""
        condemned = sa.select(CondemnedRow.name).where(CondemnedRow.kind == KIND, CondemnedRow.name.in_(names))
        with self._database.reading() as session:
            found = session.scalars(condemned).all()
        if found:
            with self._database.writing() as session:
                spare(session, KIND, found)

    def get(self, name: str) -> tuple[str, bytes]:
        """Kind and bytes of an object. Raises ContentNotFound."""
        try:
            with self._objects.open(key(KIND, name)) as stored:
                whole = zlib.decompress(stored.read(0, stored.size))
        except ContentNotFound:
            raise ContentNotFound(f"There is no git object {name}.") from None
        head, _, data = whole.partition(b"\0")
        return head.split(b" ")[0].decode(), data


def _head(kind: str, data: bytes) -> bytes:
    return f"{kind} {len(data)}\0".encode()


def _name(kind: str, data: bytes) -> str:
    hashed = hashlib.sha1(_head(kind, data), usedforsecurity=False)
    hashed.update(data)
    return hashed.hexdigest()
