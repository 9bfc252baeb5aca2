"""Objects in an S3-compatible bucket, by `obstore`. Nothing is kept here that another process would have to know.

The first object under a key stays because the store is asked to write only where nothing is (`If-None-Match: *`), not
because of a lock. Large objects are whole files named by their sha256: two writers of one write the same bytes.
"""

import contextlib
import logging
import mmap
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from ecotone.storage.ahead import Ahead, Reader
from ecotone.storage.bucket import Bucket, Keys
from ecotone.storage.errors import StorageFull, StoreFull, StoreUnavailable
from ecotone.storage.files import Draft, room_on_disk
from ecotone.storage.objects import Listed, Stored, missing, pieces
from ecotone.vocabulary import EcotoneError

log = logging.getLogger("ecotone.storage")

ONE_PUT = 128 * 1024 * 1024
PART = 8 * 1024 * 1024
MOST_PARTS = 10_000  # Amazon S3 User Guide, multipart upload limits
PARTS_AT_ONCE = 4
TAIL = 64 * 1024  # holds the footer of a xorb of 1,600 chunks
KEPT_BYTES = 64 * 1024 * 1024
KEPT_OBJECT = 1024 * 1024
KNOWN_SIZES = 65_536
RETRIES = 4
PUTS_AT_ONCE = 16
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "ServiceQuotaExceeded", "EntityTooLarge"}
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
_STATUS = re.compile(r"status code: (\d{3})")


class S3Object:
    """An object of the bucket, open: its size is known, `tail` are its last bytes when they came along."""

    def __init__(self, reader: Reader, size: int, tail: bytes) -> None:
        self.size = size
        self._reader = reader
        self._tail = tail

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        tail = self.size - len(self._tail)
        return self._tail[offset - tail : end - tail] if offset >= tail else self._reader.read(offset, end)

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> "S3Object":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kept:
    """The bytes of small objects and the sizes of others, most recently used, bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: OrderedDict[str, bytes] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._held = 0

    def data(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._data:
                self._data.move_to_end(key)
            return self._data.get(key)

    def size(self, key: str) -> int | None:
        with self._lock:
            return self._sizes.get(key)

    def keep(self, key: str, data: bytes) -> None:
        if len(data) > KEPT_OBJECT:
            return
        with self._lock:
            self._held += len(data) - len(self._data.pop(key, b""))
            self._data[key] = data
            while self._held > KEPT_BYTES:
                self._held -= len(self._data.popitem(last=False)[1])

    def keep_size(self, key: str, size: int) -> None:
        with self._lock:
            self._sizes[key] = size
            while len(self._sizes) > KNOWN_SIZES:
                self._sizes.popitem(last=False)

    def drop(self, key: str) -> None:
        with self._lock:
            self._held -= len(self._data.pop(key, b""))
            self._sizes.pop(key, None)


class S3Objects:
    """Objects in a bucket. Thread-safe; several servers may use one bucket and prefix.

    Args:
        timeout: seconds for one request; a request that fails in a way that may pass is repeated `RETRIES` times.

    Raises:
        StoreUnavailable: by every method, naming endpoint and bucket and never a secret.
    """

    def __init__(self, bucket: Bucket, *, timeout: float) -> None:
        self.bucket = bucket
        self.keys = Keys.from_environment()
        self._obs, self._store = _opened(bucket, timeout)
        self._ahead = Ahead()
        self._kept = Kept()
        self.at_once = PUTS_AT_ONCE
        self._conditional = True
        self._timeout = timeout

    @property
    def writes_once(self) -> bool:
        """Whether the store can be asked to write only where nothing is."""
        return self._conditional

    # -- writing -----------------------------------------------------------------------------------------------------
    def place(self, draft: Draft, key: str) -> None:
        size = os.fstat(draft.fileno()).st_size
        if size > ONE_PUT:
            return self._place_parts(draft, key, size)
        if not size:
            return self.put(b"", key)
        with mmap.mmap(draft.fileno(), size, access=mmap.ACCESS_READ) as data:
            self._put(data, key)

    def _place_parts(self, draft: Draft, key: str, size: int) -> None:
        """Parts become an object in one step, at the end."""
        if self.size(key) == size:
            return
        part = max(PART, -(-size // MOST_PARTS))
        why = f"it did not put together the parts of an object of {size} bytes; send it again."
        try:
            with self._asked(key):
                self._obs.put(self._store, key, draft.path, chunk_size=part, max_concurrency=PARTS_AT_ONCE)
        except FileNotFoundError:  # the parts are gone: perhaps since they became the object and the answer was lost
            pass
        except StoreUnavailable as error:
            if not error.lost:
                raise
            why = error.why
        if self.size(key) != size:
            raise StoreUnavailable(self.bucket, why)

    def put(self, data: bytes, key: str) -> None:
        self._put(data, key)
        self._kept.keep(key, data)

    def _put(self, data: bytes | mmap.mmap, key: str) -> None:
        """Write where nothing is. A repeated request may find what the first one wrote: the same bytes."""
        mode = "create" if self._conditional else "overwrite"
        for _ in range(RETRIES + 1):
            if not self._conditional and self.size(key) is not None:
                return None
            try:
                return self._insist(key, lambda: self._obs.put(self._store, key, data, mode=mode, use_multipart=False))
            except self._obs.exceptions.AlreadyExistsError:
                if self.size(key) is not None:  # also said when another one is only writing or removing it (409)
                    return None
        raise StoreUnavailable(self.bucket, "others write and remove the same object all the time; try again.")

    def overwrite(self, data: bytes, key: str) -> None:
        """Write whether or not something is there: for marks, never for objects."""
        self._insist(key, lambda: self._obs.put(self._store, key, data, use_multipart=False))

    def remove(self, key: str) -> None:
        self._kept.drop(key)
        with contextlib.suppress(FileNotFoundError):
            self._insist(key, lambda: self._obs.delete(self._store, key))

    def _insist(self, key: str, do: Callable[[], object]) -> None:
        """Ask again when the connection was lost: the library does so only for requests that it knows to be harmless
        twice, and ours all are."""
        end = time.monotonic() + self._timeout * 2
        for number in range(RETRIES + 1):
            try:
                with self._asked(key):
                    do()
                return
            except StoreUnavailable as error:
                if not error.lost or number == RETRIES or time.monotonic() > end:
                    raise
                time.sleep(0.1 * 2**number)

    # -- reading -----------------------------------------------------------------------------------------------------
    def open(self, key: str) -> Stored:
        data = self._kept.data(key)
        if data is None and key.startswith("git/"):
            data = self._whole(key)
        if data is not None:
            return S3Object(self._reader(key, len(data)), len(data), data)
        size, tail = self._kept.size(key), b""
        if size is None:
            size, tail = self._ending(key) if key.startswith("xorbs/") else (self._size_of(key), b"")
            self._kept.keep_size(key, size)
        return S3Object(self._reader(key, size), size, tail)

    def _reader(self, key: str, size: int) -> Reader:
        return Reader(self._ahead, lambda start, end: self._range(key, start, end), size)

    def _whole(self, key: str) -> bytes:
        with self._found(key):
            data = bytes(self._obs.get(self._store, key).bytes())
        self._kept.keep(key, data)
        return data

    def _ending(self, key: str) -> tuple[int, bytes]:
        """Size and last bytes of an object that is not empty, in one request."""
        with self._found(key):
            found = self._obs.get(self._store, key, options={"range": {"suffix": TAIL}})
            return found.meta["size"], bytes(found.bytes())

    def _size_of(self, key: str) -> int:
        found = self.size(key)
        if found is None:
            with self._asked(key):  # the answer without a body does not tell a missing bucket from a missing object
                next(iter(self._obs.list(self._store, prefix="health", chunk_size=1)), None)
            raise missing(key)
        return found

    def _range(self, key: str, start: int, end: int) -> bytes:
        with self._found(key):
            data = bytes(self._obs.get_range(self._store, key, start=start, end=end))
        if len(data) != end - start:
            raise StoreUnavailable(self.bucket, f"an answer of {end - start} bytes ended after {len(data)}.")
        return data

    def size(self, key: str) -> int | None:
        try:
            with self._asked(key):
                found: int = self._obs.head(self._store, key)["size"]
                return found
        except FileNotFoundError:
            self._kept.drop(key)
            return None

    def fetch(self, key: str, target: Path) -> None:
        with self.open(key) as stored, room_on_disk(), open(target, "xb") as file:
            for piece in pieces(stored, 0, stored.size):
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())

    def listed(self, kind: str) -> Iterator[Listed]:
        with self._asked(kind):
            for some in self._obs.list(self._store, prefix=kind, chunk_size=1000):
                for found in some:
                    yield Listed(found["path"], found["size"], found["last_modified"].astimezone(UTC))

    # -- health ------------------------------------------------------------------------------------------------------
    def check(self) -> None:
        """Write, write again where something is, read, remove: whether the bucket does what objects need.

        Raises:
            StoreUnavailable: saying what does not work.
        """
        key, mark = f"health/{secrets.token_hex(8)}", secrets.token_bytes(16)
        self.overwrite(mark, key)
        try:
            self._conditional = self._refuses_second(key)
            if self._whole(key) != mark:
                raise StoreUnavailable(self.bucket, "what was written is not what was read.")
        finally:
            self.remove(key)
        if not self._conditional:
            log.warning(
                "%s cannot write only where nothing is (If-None-Match: *): let one server process alone write to it",
                self.bucket,
            )

    def _refuses_second(self, key: str) -> bool:
        try:
            self._obs.put(self._store, key, b"second", mode="create", use_multipart=False)
        except self._obs.exceptions.AlreadyExistsError:
            return True
        except Exception as error:
            if _status(str(error)) not in (400, 501):
                raise self._explained(error) from None
            return False
        raise StoreUnavailable(
            self.bucket, "it overwrites where it was asked to write only if nothing is there; take another store."
        )

    # -- errors ------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def _found(self, key: str) -> Iterator[None]:
        try:
            with self._asked(key):
                yield
        except FileNotFoundError:
            self._kept.drop(key)
            raise missing(key) from None

    @contextlib.contextmanager
    def _asked(self, key: str) -> Iterator[None]:
        """A request's errors in our words; FileNotFoundError and AlreadyExistsError pass."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._explained(error) from None
            raise
        except (EcotoneError, self._obs.exceptions.AlreadyExistsError, StorageFull):
            raise
        except self._obs.exceptions.BaseError as error:
            log.debug("asking %s for %s failed", self.bucket, key, exc_info=True)
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> StoreUnavailable:
        told = str(error)
        code, status = _CODE.search(told), _status(told)
        word = code[1] if code else {403: "403 Forbidden", 404: "404 Not Found"}.get(status, f"status {status}")
        if word in _FULL or status == 507:
            return StoreFull(self.bucket, f"it has no room left ({word}); make room in it, then try again.")
        if word == "NoSuchBucket":
            return StoreUnavailable(self.bucket, "the bucket does not exist; make it, or correct ECOTONE_OBJECTS.")
        if word == "AccessDenied":
            return StoreUnavailable(
                self.bucket, "the credentials may not do this (AccessDenied); allow them to get, put, delete and list."
            )
        if status in (401, 403):
            return StoreUnavailable(
                self.bucket, f"it refuses the credentials ({word}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."
            )
        if status:
            return StoreUnavailable(self.bucket, f"it answers {status} ({word}); try again.")
        return StoreUnavailable(
            self.bucket,
            "it cannot be reached or is too slow; check ECOTONE_S3_ENDPOINT and the network, try again.",
            lost=True,
        )


def _status(told: str) -> int:
    found = _STATUS.search(told)
    return int(found[1]) if found else 0


def _opened(bucket: Bucket, timeout: float) -> tuple[Any, Any]:
    """The library and its store."""
    try:
        import obstore
        import obstore.exceptions
        from obstore.store import S3Store
    except ImportError:
        raise EcotoneError('Objects in S3 need a library that is not installed: pip install "ecotone[s3]"') from None
    base, _ = bucket.root(bucket.endpoint)
    store = S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config={
            "endpoint": base,
            "region": bucket.region,
            "virtual_hosted_style_request": bucket.in_host,
            "conditional_put": "etag",
        },
        client_options={
            "allow_http": base.startswith("http://"),
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=min(timeout, 10)),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=timeout * 2),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    )
    return obstore, store
