"""Loose git objects: blobs, trees and commits by SHA-1, compressed as git itself keeps them."""

import hashlib
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ecotone.storage.errors import ContentNotFound
from ecotone.storage.objects import Objects, key

KIND = "git"


class GitObjects:
    """Loose objects. Access goes through revisions; an id alone opens nothing."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, kind: str, data: bytes) -> str:
        """Store an object; returns its id. Durable when it returns."""
        whole = f"{kind} {len(data)}\0".encode() + data
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        self._objects.put(zlib.compress(whole, 1), key(KIND, name))
        return name

    def put_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Store objects given as kind and bytes; all are durable when it returns."""
        if self._objects.at_once == 1:
            for kind, data in objects:
                self.put(kind, data)
            return
        with ThreadPoolExecutor(self._objects.at_once) as threads:
            for done in [threads.submit(self.put, kind, data) for kind, data in objects]:
                done.result()

    def get(self, name: str) -> tuple[str, bytes]:
        """Kind and bytes of an object. Raises ContentNotFound."""
        try:
            with self._objects.open(key(KIND, name)) as stored:
                whole = zlib.decompress(stored.read(0, stored.size))
        except ContentNotFound:
            raise ContentNotFound(f"There is no git object {name}.") from None
        head, _, data = whole.partition(b"\0")
        return head.split(b" ")[0].decode(), data
