"""Storage as others use it: small files as git blobs, large files in either form, one way to read them all."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.database import Database, batches, utc_now
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
from ecotone.storage.models import LfsObjectRow, XetFileRow, touch
from ecotone.storage.objects import LocalObjects, Objects, Outgoing, Stored, pieces, segment
from ecotone.storage.prints import Prints
from ecotone.storage.reconstruction import XetFile
from ecotone.storage.s3 import S3Objects
from ecotone.storage.signing import Signer
from ecotone.storage.xet import XetStore

_PIECE = 1024 * 1024
_OLD = timedelta(days=1)


class Storage:
    """All bytes of one installation. Thread-safe."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.objects: Objects = _objects(settings)
        signer = Signer(settings.secret("storage"))
        self._database = database
        self._git = GitObjects(database, self.objects)
        self.staging = staging = settings.folder("staging")
        self.prints = Prints(database, self.objects)
        self.lfs = LfsStore(database, self.objects, staging, signer, self.prints)
        self.xet = XetStore(database, self.objects, staging, signer, settings.max_object_bytes, self.prints)
        self.attachments = Attachments(self.objects, signer)
        self.direct = _direct(self.objects, self.xet, signer)
        folder = settings.folder("materialised")
        self._materialised = Materialised(folder, settings.materialised_bytes, self._write_file)

    def sweep(self) -> None:
        """Drop what processes that are gone left half done; for the one process that does the background work."""
        self._materialised.sweep()
        sweep(self.staging)
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
        if size is None:  # it may have been converted between the two questions
            found = self.xet.by_sha256(namespace, sha256)
            return None if found is None else large(sha256, found.size, found.hash)
        return large(sha256, size, None)

    def converted(self, namespace: str, contents: Iterable[Content]) -> dict[str, str]:
        """Xet hashes, by sha256, of those files that came whole and that the namespace has as Xet by now."""
        whole = {c.sha256 for c in contents if c.kind == "lfs" and c.sha256 is not None}
        return self.xet.hashes_of(namespace, whole)

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

    def hold(self, session: Session, namespace: str, contents: Iterable[Content]) -> None:
        """Make sure, in the transaction of a commit, that its large files are still here and stay.

        Raises:
            ObjectMissing: when garbage collection took one away since it was verified.
        """
        wanted = sorted({c.sha256 for c in contents if c.sha256 is not None and c.kind != GONE})
        here, files = set[str](), dict[str, str]()
        for some in batches(wanted):
            here |= {sha256 for _, sha256 in touch(session, LfsObjectRow, _of(LfsObjectRow, namespace, some))}
        for some in batches(wanted):
            rows = session.execute(
                sa.select(XetFileRow.hash, XetFileRow.sha256).where(_of(XetFileRow, namespace, some))
            )
            files |= {row.hash: row.sha256 for row in rows}
        for some in batches(sorted(files)):  # all in the order of their keys, as other commits hold some of them too
            mine = sa.and_(XetFileRow.tenant == namespace, XetFileRow.hash.in_(some))
            here |= {files[h] for _, h in touch(session, XetFileRow, mine)}
        for missing in sorted(set(wanted) - here)[:1]:
            raise ObjectMissing(f"sha256 {missing}")

    def renew(self, namespace: str, sha256s: Iterable[str]) -> None:
        """Keep what a client was told it need not send from garbage collection until its commit."""
        wanted, old = sorted(set(sha256s)), utc_now() - _OLD
        with self._database.reading() as session:
            aged = [
                (table, some)
                for table in (LfsObjectRow, XetFileRow)
                for some in batches(wanted)
                if session.scalar(
                    sa.select(sa.literal(1)).where(_of(table, namespace, some), table.created < old).limit(1)
                )
            ]
        for table, some in aged:
            with self._database.writing() as session:
                touch(session, table, _of(table, namespace, some))

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
        else:
            found = self.form(content)
            if isinstance(found, XetFile):
                yield from self.xet.read(found, start, stop)
            else:
                with found:
                    yield from pieces(found, start, stop)

    def form(self, content: Content) -> XetFile | Stored:
        """A large file in the form in which it lies here by now, which may not be the one that its revision tells.

        Returns:
            The whole object, open and to be closed, or the Xet file.

        Raises:
            ContentNotFound: when it is here in no form, or was deleted for good.
        """
        sha256 = content.sha256 or ""
        if content.kind == GONE:
            raise ContentNotFound(f"The object {sha256} was deleted for good.")
        if content.kind == "xet" and content.xet_hash:
            try:
                return self.xet.any_by_hash(content.xet_hash)
            except ContentNotFound:
                return self.xet.any_by_sha256(sha256) or self.lfs.open(sha256)
        try:
            return self.lfs.open(sha256)
        except ContentNotFound:
            found = self.xet.any_by_sha256(sha256)
            if found is None:
                raise
            return found

    def outgoing(self, content: Content, start: int, end: int) -> Iterator[Outgoing] | None:
        """Bytes [start, end) as segments of local files where they lie raw in them, else as bytes in memory.

        None for what is read as a whole: small files, and objects in a remote store.

        Raises:
            ContentNotFound: when the object is gone.
        """
        if content.kind == "git" or not isinstance(self.objects, LocalObjects):
            return None
        found = self.form(content)
        if isinstance(found, XetFile):
            return self.xet.outgoing(found, start, end)
        return segment(found, start, end)

    def materialise(self, key: str, files: Mapping[str, Content]) -> AbstractContextManager[Path]:
        """A folder with the files as plain files, kept while the context lasts. The key must name the content."""
        return self._materialised.folder(key, files)

    def _write_file(self, content: Content, place: Path) -> None:
        if content.kind == "lfs":
            with contextlib.suppress(ContentNotFound):  # it lies here as Xet by now
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


def _of(table: type[Any], namespace: str, sha256s: list[str]) -> sa.ColumnElement[bool]:
    return sa.and_(table.tenant == namespace, table.sha256.in_(sha256s))


__all__ = ["Storage", "blob_id"]
