"""Loose git objects: blobs, trees and commits by SHA-1, compressed as git itself keeps them."""

import hashlib
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ecotone.database import Database
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

        A store answers many puts at a time, and a disk many flushes, sooner than one after the other.
        """
        if len(objects) < _FEW:
            return [self.put(kind, data) for kind, data in objects]
        with ThreadPoolExecutor(self._objects.at_once, thread_name_prefix="git-objects") as pool:
            return list(pool.map(lambda one: self.put(*one), objects))

    def put(self, kind: str, data: bytes) -> str:
        """Store an object; returns its id. Durable when it returns."""
        whole = f"{kind} {len(data)}\0".encode() + data
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        self._spare(name)
        self._objects.put(zlib.compress(whole, 1), key(KIND, name))
        return name

    def _spare(self, name: str) -> None:
        """Whoever writes an object that is there already counts on it: it goes no more. Asked before it is looked for,
        so that one which is not condemned now stays long enough for the commit that names it to be seen."""
        with self._database.reading() as session:
            if session.get(CondemnedRow, (KIND, name)) is None:
                return
        with self._database.writing() as session:
            spare(session, KIND, [name])

    def get(self, name: str) -> tuple[str, bytes]:
        """Kind and bytes of an object. Raises ContentNotFound."""
        try:
            with self._objects.open(key(KIND, name)) as stored:
                whole = zlib.decompress(stored.read(0, stored.size))
        except ContentNotFound:
            raise ContentNotFound(f"There is no git object {name}.") from None
        head, _, data = whole.partition(b"\0")
        return head.split(b" ")[0].decode(), data
