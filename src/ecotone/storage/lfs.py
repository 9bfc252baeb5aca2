"""Whole files by sha256: streamed in, hashed on the way, visible only when hash and size agree."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ecotone.database import Database, utc_now
from ecotone.storage.errors import HashMismatch, ObjectMissing, UploadTooLarge
from ecotone.storage.files import flush_folder, make_folder, sharded
from ecotone.storage.models import LfsObjectRow
from ecotone.storage.signing import Signer

URL_SECONDS = 6 * 3600
PART_BYTES = 64 * 1024 * 1024
MULTIPART_FROM = 1024 * 1024 * 1024
_PIECE = 1024 * 1024


class LfsStore:
    """Objects below one folder, uploads below another on the same disk, and who may name which object."""

    def __init__(self, database: Database, folder: Path, staging: Path, signer: Signer) -> None:
        self._database = database
        self._folder = folder
        self._staging = staging
        self._signer = signer

    def path(self, sha256: str) -> Path:
        return sharded(self._folder, sha256)

    def size(self, tenant: str, sha256: str) -> int | None:
        """Size of an object of this namespace, None when it has none such."""
        with self._database.reading() as session:
            row = session.get(LfsObjectRow, (tenant, sha256))
        return None if row is None else row.size

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
        make_folder(self._staging)
        return Upload(self, tenant, sha256, size, self._staging / f"lfs-{secrets.token_hex(8)}")

    def import_file(self, tenant: str, source: Path) -> tuple[str, int]:
        """Store a local file; returns sha256 and size."""
        digest = hashlib.sha256()
        with open(source, "rb") as file:
            for piece in iter(lambda: file.read(_PIECE), b""):
                digest.update(piece)
            size = file.tell()
            sha256 = digest.hexdigest()
            if self.size(tenant, sha256) is None:
                file.seek(0)
                with self.receiving(tenant, sha256, size) as upload:
                    for piece in iter(lambda: file.read(_PIECE), b""):
                        upload.write(piece)
                    upload.finish()
        return sha256, size

    # -- multipart ---------------------------------------------------------------------------------------------------
    def part(self, upload_id: str, number: int) -> Path:
        """Where a part of a multipart upload is kept."""
        return self._staging / f"parts-{upload_id}" / f"{number:05d}"

    @contextlib.contextmanager
    def receiving_part(self, upload_id: str, number: int, most: int) -> Iterator["PartWriter"]:
        """A part to write into; it is there when the block ends, and not when it raises."""
        target = self.part(upload_id, number)
        make_folder(target.parent)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with open(draft, "xb") as file:
                yield PartWriter(file, most)
            draft.rename(target)
        finally:
            draft.unlink(missing_ok=True)

    def complete(self, tenant: str, sha256: str, size: int, upload_id: str, parts: int) -> None:
        """Join the parts, verify, make visible.

        Raises:
            ObjectMissing: when a part is not there.
            HashMismatch: when the whole is not what was announced; the parts are dropped then.
        """
        folder = self.part(upload_id, 1).parent
        if self.size(tenant, sha256) is not None:
            _drop(folder)
            return
        with self.receiving(tenant, sha256, size) as upload:
            for number in range(1, parts + 1):
                part = self.part(upload_id, number)
                if not part.exists():
                    raise ObjectMissing(f"Part {number} of {sha256}")
                with open(part, "rb") as file:
                    for piece in iter(lambda f=file: f.read(_PIECE), b""):  # type: ignore[misc]
                        upload.write(piece)
            try:
                upload.finish()
            finally:
                _drop(folder)

    def make_visible(self, tenant: str, sha256: str, size: int) -> None:
        with self._database.writing() as session:
            session.merge(LfsObjectRow(tenant=tenant, sha256=sha256, size=size, created=utc_now()))


class PartWriter:
    """Takes at most as many bytes as a part may have; `etag` is the SHA-256 of what came."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._most = most
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._most -= len(data)
        if self._most < 0:
            raise UploadTooLarge("The part is larger than the part size that was agreed.")
        self._file.write(data)
        self._digest.update(data)

    @property
    def etag(self) -> str:
        return self._digest.hexdigest()[:32]


class Upload:
    """One object on its way in. Leaving the block without `finish` drops what came."""

    def __init__(self, store: LfsStore, tenant: str, sha256: str, size: int, draft: Path) -> None:
        self._store = store
        self._tenant = tenant
        self._sha256 = sha256
        self._size = size
        self._draft = draft
        self._file = open(draft, "xb", buffering=0)  # noqa: SIM115  closed by __exit__
        self._digest = hashlib.sha256()
        self._received = 0

    def __enter__(self) -> "Upload":
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Raises UploadTooLarge as soon as more comes than was announced."""
        self._received += len(data)
        if self._received > self._size:
            raise UploadTooLarge(f"More than the {self._size} bytes announced were sent.")
        self._file.write(data)
        self._digest.update(data)

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
        if self._digest.hexdigest() != self._sha256:
            raise HashMismatch(f"The bytes sent have the sha256 {self._digest.hexdigest()}, not {self._sha256}.")
        target = self._store.path(self._sha256)
        if not target.exists():
            os.fchmod(self._file.fileno(), 0o400)
            os.fsync(self._file.fileno())
            make_folder(target.parent)
            self._draft.rename(target)
            flush_folder(target.parent)
        self._store.make_visible(self._tenant, self._sha256, self._size)

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)


def _drop(folder: Path) -> None:
    for file in folder.glob("*"):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
