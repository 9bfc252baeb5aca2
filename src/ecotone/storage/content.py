"""What a file of a revision points at, whatever form its bytes are kept in."""

import hashlib

import msgspec


class Content(msgspec.Struct, frozen=True):
    """A file's bytes.

    `git_oid` is the SHA-1 of the git blob: of the bytes for a small file (`kind` git), of the LFS pointer for
    a large one (`kind` lfs or xet). Large files carry their sha256; those stored as Xet their file hash (hash text).
    """

    size: int
    git_oid: str
    sha256: str | None
    xet_hash: str | None
    kind: str
    pointer_size: int | None


def blob_id(data: bytes) -> str:
    """The git object id of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def regular(data: bytes) -> Content:
    """A small file, that is or will be a git blob."""
    return Content(len(data), blob_id(data), None, None, "git", None)


def pointer(sha256: str, size: int) -> bytes:
    """The pointer file that git holds for a large file (git-lfs specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def large(sha256: str, size: int, xet_hash: str | None) -> Content:
    text = pointer(sha256, size)
    return Content(size, blob_id(text), sha256, xet_hash, "lfs" if xet_hash is None else "xet", len(text))
