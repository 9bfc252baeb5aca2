"""Files that arrive whole, such as those of a form: which are kept as git blobs, which as large objects."""

import hashlib
from collections.abc import Iterable
from typing import BinaryIO

import msgspec

from ecotone.catalog.gitignore import Steps, large_patterns, matches
from ecotone.catalog.names import check_path
from ecotone.publishing.changes import AddLarge, AddRegular, Operation
from ecotone.storage import Storage
from ecotone.vocabulary import Invalid

LARGE_BYTES = 10_000_000
SAMPLE_BYTES = 512
_PIECE = 1024 * 1024


class Received(msgspec.Struct, frozen=True):
    """A file that came whole."""

    path: str
    file: BinaryIO
    size: int


def operations_of(
    files: Iterable[Received], storage: Storage, namespace: str, attributes: str
) -> tuple[Operation, ...]:
    """What a commit of these files does. Large ones are stored here, under the namespace; nothing names them yet.

    Args:
        attributes: the text of the branch's `.gitattributes`, whose patterns say which files are large.

    Raises:
        BadPath: for a path that no client could check out.
        Invalid: when two files have one path.
    """
    patterns, steps = tuple(large_patterns(attributes)), Steps()
    checked = {}
    for received in files:
        path = check_path(received.path)
        if path in checked:
            raise Invalid(f"Two of the files would be {path!r}; rename one, or send them one after the other.")
        checked[path] = received
    return tuple(
        _large(path, received, storage, namespace)
        if received.size >= LARGE_BYTES
        or (received.size > 0 and (matches(patterns, path, steps) or is_binary(_sample(received))))
        else AddRegular(path, _whole(received))
        for path, received in checked.items()
    )


def is_binary(sample: bytes) -> bool:
    """Whether the first bytes of a file are no text: a zero byte, or no UTF-8 (but for a character cut at the end)."""
    if b"\0" in sample:
        return True
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return error.start < len(sample) - 3
    return False


def _sample(received: Received) -> bytes:
    received.file.seek(0)
    return received.file.read(SAMPLE_BYTES)


def _whole(received: Received) -> bytes:
    received.file.seek(0)
    return received.file.read()


def _large(path: str, received: Received, storage: Storage, namespace: str) -> AddLarge:
    received.file.seek(0)
    sha256 = hashlib.file_digest(received.file, "sha256").hexdigest()  # type: ignore[arg-type]
    if storage.large(namespace, sha256) is None:
        received.file.seek(0)
        with storage.lfs.receiving(namespace, sha256, received.size) as upload:
            while piece := received.file.read(_PIECE):
                upload.write(piece)
            upload.finish()
    return AddLarge(path, sha256, received.size)
