"""Storage as others use it: small files as git blobs, large files in either form, one way to read them all."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.storage.attachments import Attachments
from ecotone.storage.bucket import Bucket
from ecotone.storage.content import GONE, Content, blob_id, large
from ecotone.storage.direct import Direct
from ecotone.storage.errors import ContentNotFound, ObjectMissing
from ecotone.storage.files import sweep
from ecotone.storage.gitobjects import GitObjects
from ecotone.storage.lfs import LfsStore
from ecotone.storage.materialising import Materialised
from ecotone.storage.objects import LocalObjects, Objects, Outgoing, pieces, segment
from ecotone.storage.s3 import S3Objects
from ecotone.storage.signing import Signer
from ecotone.storage.xet import XetStore

_PIECE = 1024 * 1024


class Storage:
    """All bytes of one installation. Thread-safe."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.objects: Objects = _objects(settings)
        signer = Signer(settings.secret("storage"))
        self._git = GitObjects(self.objects)
        staging = settings.folder("staging")
        self.lfs = LfsStore(database, self.objects, staging, signer)
        self.xet = XetStore(database, self.objects, staging, signer, settings.max_object_bytes)
        self.attachments = Attachments(self.objects, signer)
        self.direct = _direct(self.objects, self.xet, signer)
        folder = settings.folder("materialised")
        self._materialised = Materialised(folder, settings.materialised_bytes, self._write_file)
        self._staging = staging

    def sweep(self) -> None:
        """Drop what processes that are gone left half done; for the one process that does the background work."""
        self._materialised.sweep()
        sweep(self._staging)
        self.lfs.sweep()
        if self.direct is not None:
            self.direct.sweep()

    def totals(self) -> dict[str, tuple[int, int]]:
        """Number and bytes of large objects by kind, each object once however many namespaces have it."""
        return {"lfs": self.lfs.totals(), "xet": self.xet.totals()}

    # -- git ---------------------------------------------------------------------------------------------------------
    def put_git_object(self, kind: str, data: bytes) -> str:
        """Store a blob, tree or commit; returns its id."""
        return self._git.put(kind, data)

    def put_git_objects(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """The same for many, each a kind and its bytes."""
        self._git.put_all(list(objects))

    def git_object(self, name: str) -> tuple[str, bytes]:
        return self._git.get(name)

    def put_regular(self, data: bytes) -> Content:
        """A small file, kept as a git blob."""
        return self.put_regulars([data])[0]

    def put_regulars(self, several: Sequence[bytes]) -> list[Content]:
        """The same for many."""
        names = self._git.put_all([("blob", data) for data in several])
        return [Content(len(data), name, None, None, "git", None) for name, data in zip(names, several, strict=True)]

    # -- large files -------------------------------------------------------------------------------------------------
    def large(self, namespace: str, sha256: str) -> Content | None:
        """A large file that this namespace has sent, or None."""
        found = self.xet.by_sha256(namespace, sha256)
        if found is not None:
            return large(sha256, found.size, found.hash)
        size = self.lfs.size(namespace, sha256)
        return None if size is None else large(sha256, size, None)

    def verify_large(self, namespace: str, sha256: str) -> Content:
        """The same, for a commit. Its bytes were verified when they came.

        Raises:
            ObjectMissing: when the namespace has not sent it.
        """
        found = self.large(namespace, sha256)
        if found is None:
            raise ObjectMissing(f"sha256 {sha256}")
        return found

    def share(self, source: str, target: str, names: Iterable[str]) -> dict[str, Content]:
        """Let a namespace name large files of another one; no byte is copied.

        Only whole files are shared. The xorbs that a Xet file is made of stay the other namespace's: naming them in a
        shard of one's own would open what else they hold.

        Args:
            names: sha256 of files that whoever asks may read in `source`; who may is the caller's matter.

        Returns:
            The files that `target` has now, by sha256; those that `source` does not have are left out.
        """
        found, rows = {}, []
        for sha256 in dict.fromkeys(names):
            content = self.large(target, sha256)
            if content is None and (content := self.large(source, sha256)) is not None:
                rows.append((sha256, content))
            if content is not None:
                found[sha256] = content
        self.xet.share(source, target, [c.xet_hash for _, c in rows if c.xet_hash is not None])
        self.lfs.share(target, {sha256: c.size for sha256, c in rows if c.xet_hash is None})
        return found

    def import_file(self, namespace: str, path: Path) -> Content:
        """A local file as a large object of the namespace."""
        sha256, size = self.lfs.import_file(namespace, path)
        return large(sha256, size, None)

    # -- reading -----------------------------------------------------------------------------------------------------
    def read(self, content: Content, start: int = 0, end: int | None = None) -> Iterator[bytes | memoryview]:
        """Bytes [start, end) in pieces of at most 1 MiB. Raises ContentNotFound when the object is gone."""
        stop = content.size if end is None else min(end, content.size)
        if start >= stop:
            return
        if content.kind == "git":
            data = memoryview(self._git.get(content.git_oid)[1])[start:stop]
            yield from (data[i : i + _PIECE] for i in range(0, len(data), _PIECE))
        elif content.kind == GONE:
            raise ContentNotFound(f"The object {content.sha256} was deleted for good.")
        elif content.kind == "xet" and content.xet_hash:
            yield from self.xet.read(self.xet.any_by_hash(content.xet_hash), start, stop)
        else:
            with self.lfs.open(content.sha256 or "") as stored:
                yield from pieces(stored, start, stop)

    def outgoing(self, content: Content, start: int, end: int) -> Iterator[Outgoing] | None:
        """Bytes [start, end) as segments of local files where they lie raw in them, else as bytes in memory.

        None for what is read as a whole: small files, and objects in a remote store.

        Raises:
            ContentNotFound: when the object is gone.
        """
        if content.kind == "git" or not isinstance(self.objects, LocalObjects):
            return None
        if content.kind == "xet" and content.xet_hash:
            return self.xet.outgoing(self.xet.any_by_hash(content.xet_hash), start, end)
        return segment(self.lfs.open(content.sha256 or ""), start, end)

    def materialise(self, key: str, files: Mapping[str, Content]) -> AbstractContextManager[Path]:
        """A folder with the files as plain files, kept while the context lasts. The key must name the content."""
        return self._materialised.folder(key, files)

    def _write_file(self, content: Content, place: Path) -> None:
        if content.kind == "lfs":
            return self.lfs.fetch(content.sha256 or "", place)
        with open(place, "xb") as file:
            for piece in self.read(content):
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())


def _objects(settings: Settings) -> Objects:
    """Where the settings put objects. A bucket is tried before anything relies on it."""
    bucket = Bucket.of(settings)
    if bucket is None:
        return LocalObjects(settings.folder("objects"))
    found = S3Objects(bucket, timeout=settings.s3_timeout)
    found.check()
    return found


def _direct(objects: Objects, xet: XetStore, signer: Signer) -> Direct | None:
    """Addresses of the store for clients, where they reach it and our credentials can sign."""
    if not isinstance(objects, S3Objects) or not objects.bucket.public or objects.keys is None:
        return None
    return Direct(objects, objects.keys, xet, signer)


__all__ = ["Storage", "blob_id"]
