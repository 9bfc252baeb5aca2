"""Loose git objects: blobs, trees and commits by SHA-1, compressed as git itself keeps them."""

import hashlib
import zlib
from pathlib import Path

from ecotone.storage.errors import ContentNotFound
from ecotone.storage.files import new_file, sharded


class GitObjects:
    """A folder of loose objects. Access goes through revisions; an id alone opens nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, kind: str, data: bytes) -> str:
        """Store an object; returns its id. Durable when it returns."""
        whole = f"{kind} {len(data)}\0".encode() + data
        name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        target = sharded(self._folder, name)
        if not target.exists():
            with new_file(target) as file:
                file.write(zlib.compress(whole, 1))
        return name

    def get(self, name: str) -> tuple[str, bytes]:
        """Kind and bytes of an object. Raises ContentNotFound."""
        try:
            whole = zlib.decompress(sharded(self._folder, name).read_bytes())
        except FileNotFoundError:
            raise ContentNotFound(f"There is no git object {name}.") from None
        head, _, data = whole.partition(b"\0")
        return head.split(b" ")[0].decode(), data
