"""Whole files by sha256: streamed in, hashed on the way, visible only when hash and size agree."""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.database import Database, utc_now
from ecotone.storage.errors import HashMismatch, ObjectMissing, UploadTooLarge
from ecotone.storage.files import Draft
from ecotone.storage.following import FollowingDigest, FollowingPrint
from ecotone.storage.models import LfsObjectRow, remember, spare
from ecotone.storage.objects import Objects, Stored, key
from ecotone.storage.placing import place
from ecotone.storage.prints import Prints
from ecotone.storage.signing import Signer

KIND = "lfs"
URL_SECONDS = 6 * 3600
PART_BYTES = 64 * 1024 * 1024
MULTIPART_FROM = 1024 * 1024 * 1024
PARTS_SECONDS = 7 * 24 * 3600
_PIECE = 1024 * 1024


class LfsStore:
    """Whole files among the objects, uploads in a folder of their own, and who may name which object."""

    def __init__(self, database: Database, objects: Objects, staging: Path, signer: Signer, prints: Prints) -> None:
        self.prints = prints
        self._database = database
        self._objects = objects
        self._staging = staging
        self._signer = signer
        self._listeners: list[Callable[[str, str, int], None]] = []

    def on_arrival(self, listener: Callable[[str, str, int], None]) -> None:
        """Be told the namespace, sha256 and size of each file that came."""
        self._listeners.append(listener)

    def open(self, sha256: str) -> Stored:
        """An object's bytes, whoever sent it. Raises ContentNotFound."""
        return self._objects.open(key(KIND, sha256))

    def fetch(self, sha256: str, target: Path) -> None:
        """The object as a plain file at a path. Raises ContentNotFound."""
        self._objects.fetch(key(KIND, sha256), target)

    def size(self, tenant: str, sha256: str) -> int | None:
        """Size of an object of this namespace, None when it has none such."""
        with self._database.reading() as session:
            row = session.get(LfsObjectRow, (tenant, sha256))
        return None if row is None else row.size

    def totals(self) -> tuple[int, int]:
        """Number and bytes of different files."""
        rows = sa.select(sa.func.max(LfsObjectRow.size).label("size")).group_by(LfsObjectRow.sha256).subquery()
        with self._database.reading() as session:
            number, size = session.execute(sa.select(sa.func.count(), sa.func.sum(rows.c.size)).select_from(rows)).one()
        return int(number), int(size or 0)

    # -- signed addresses --------------------------------------------------------------------------------------------
    def sign(self, operation: str, tenant: str, sha256: str, size: int, **more: Any) -> str:
        """A token for one operation (upload, part, complete, verify, download) on one object."""
        claims = {"purpose": f"lfs-{operation}", "t": tenant, "o": sha256, "n": size, **more}
        return self._signer.sign(claims, seconds=URL_SECONDS)

    def signed(self, operation: str, token: str) -> dict[str, Any]:
        """The claims of such a token. Raises BadToken."""
        return self._signer.verify(token, purpose=f"lfs-{operation}")

    # -- one upload --------------------------------------------------------------------------------------------------
    def receiving(self, tenant: str, sha256: str, size: int) -> "Upload":
        """An upload to write into; `finish` makes it visible."""
        return Upload(self, tenant, sha256, size, Draft(self._staging, "lfs"))

    def import_file(self, tenant: str, source: Path) -> tuple[str, int]:
        """Store a local file; returns sha256 and size."""
        digest, size = hashlib.sha256(), 0
        for piece in _pieces(source):
            digest.update(piece)
            size += len(piece)
        sha256 = digest.hexdigest()
        if self.size(tenant, sha256) is None:
            with self.receiving(tenant, sha256, size) as upload:
                upload.write_all(_pieces(source))
                upload.finish()
        return sha256, size

    # -- multipart ---------------------------------------------------------------------------------------------------
    def part(self, upload_id: str, number: int) -> Path:
        """Where a part of a multipart upload is kept."""
        return self._staging / f"parts-{upload_id}" / f"{number:05d}"

    def receiving_part(self, upload_id: str, number: int, most: int) -> "PartUpload":
        """A part to write into; it is there after `finish`."""
        target = self.part(upload_id, number)
        return PartUpload(target, Draft(target.parent, target.name), most)

    def complete(self, tenant: str, sha256: str, size: int, upload_id: str, parts: int) -> None:
        """Join the parts, verify, make visible.

        Raises:
            ObjectMissing: when a part is not there.
            HashMismatch: when the whole is not what was announced; the parts are dropped then.
        """
        folder = self.part(upload_id, 1).parent
        if self.size(tenant, sha256) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        with self.receiving(tenant, sha256, size) as upload:
            for number in range(1, parts + 1):
                try:
                    upload.write_all(_pieces(self.part(upload_id, number)))
                except FileNotFoundError:
                    if self.size(tenant, sha256) is not None:  # the same call, sent twice, was quicker
                        return
                    raise ObjectMissing(f"Part {number} of {sha256}") from None
            try:
                upload.finish()
            except HashMismatch:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, seconds: float = PARTS_SECONDS) -> None:
        """Drop parts of uploads that got no part for some time and were never completed."""
        for folder in self._staging.glob("parts-*"):
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < time.time() - seconds:
                    shutil.rmtree(folder, ignore_errors=True)

    def keep(self, draft: Draft, tenant: str, sha256: str, size: int) -> None:
        """Place verified bytes and let the namespace name them."""
        row = LfsObjectRow(tenant=tenant, sha256=sha256, size=size, created=utc_now())
        place(self._database, self._objects, draft, KIND, sha256, row)
        for listener in self._listeners:
            listener(tenant, sha256, size)

    def share(self, tenant: str, sizes: Mapping[str, int]) -> None:
        """Let a namespace name objects that are here, by sha256 with their sizes."""
        now = utc_now()
        rows = [LfsObjectRow(tenant=tenant, sha256=name, size=size, created=now) for name, size in sizes.items()]

        def settle(session: Session) -> None:
            spare(session, KIND, sizes)
            for name in sizes:
                if self._objects.size(key(KIND, name)) is None:
                    raise ObjectMissing(f"sha256 {name}")

        remember(self._database, rows, settle)


class PartUpload:
    """One part on its way in, of at most as many bytes as was agreed. It is verified with the whole, when all came."""

    def __init__(self, target: Path, draft: Draft, most: int) -> None:
        self._target = target
        self._draft = draft
        self._most = most
        self._digest = hashlib.sha256()

    def __enter__(self) -> "PartUpload":
        return self

    def write(self, data: bytes | memoryview) -> None:
        self._most -= len(data)
        if self._most < 0:
            raise UploadTooLarge("The part is larger than the part size that was agreed.")
        self._draft.write(data)
        self._digest.update(data)

    def finish(self) -> str:
        """Put it in its place; returns its ETag."""
        self._draft.path.rename(self._target)
        return self._digest.hexdigest()[:32]

    def __exit__(self, *_: object) -> None:
        self._draft.__exit__()


class Upload:
    """One object on its way in. Leaving the block without `finish` drops what came."""

    def __init__(self, store: LfsStore, tenant: str, sha256: str, size: int, draft: Draft) -> None:
        self._store = store
        self._tenant = tenant
        self._sha256 = sha256
        self._size = size
        self._draft = draft
        self._digest = FollowingDigest(draft.fileno())
        self._print = FollowingPrint(draft.fileno(), size)
        self._received = 0

    def __enter__(self) -> "Upload":
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Raises UploadTooLarge as soon as more comes than was announced."""
        self._received += len(data)
        if self._received > self._size:
            raise UploadTooLarge(f"More than the {self._size} bytes announced were sent.")
        self._draft.write(data)
        self._digest.grew(len(data))
        self._print.grew(len(data))

    def write_all(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def finish(self) -> None:
        """Verify and make visible, durable when it returns.

        Raises:
            HashMismatch: when bytes or size are not what was announced; nothing is visible then.
        """
        if self._received != self._size:
            raise HashMismatch(f"{self._received} bytes came, {self._size} were announced; send the file again.")
        found = self._digest.hexdigest()
        if found != self._sha256:
            raise HashMismatch(f"The bytes sent have the sha256 {found}, not {self._sha256}.")
        self._store.prints.keep(self._sha256, self._print.finish())
        self._store.keep(self._draft, self._tenant, self._sha256, self._size)

    def __exit__(self, *_: object) -> None:
        self._digest.stop()
        self._print.stop()
        self._draft.__exit__()


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        yield from iter(lambda: file.read(_PIECE), b"")
