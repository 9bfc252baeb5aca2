"""Where the knowledge base lies: a folder of YAML files, or the same packed into one file that loads at once.

A packed file is trusted only while its checksum holds and it names the exact content of the folder and the form of the
entries that this program reads. The wheel carries one; a checkout keeps one in the user's cache. Knows no entry.

    4 bytes magic, sha256 of the form, sha256 of the folder's content, sha256 of the body, body (MessagePack)
"""

import functools
import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ecotone.licences.errors import BrokenEntry

MAGIC = b"ECK\x01"
POSITIONS = "positions.yml"
SHIPPED = "entries.msgpack"
_HASH = hashlib.sha256().digest_size
_HEAD = len(MAGIC) + 3 * _HASH
_LARGEST = 64 * 1024 * 1024


class Source(NamedTuple):
    """The bytes of a folder's files, by name, and their digest (32 bytes)."""

    folder: Path
    files: dict[str, bytes]
    digest: bytes


class Content(msgspec.Struct, frozen=True):
    """The body of a packed file. `entries` are mappings in the form of `schema.json`, by the name of their file."""

    version: str
    positions: dict[str, Any]
    entries: dict[str, dict[str, Any]]


def read_folder(folder: Path) -> Source:
    """All entries and the positions of a folder, as they are now.

    Raises:
        BrokenEntry: when the folder is none, or holds neither.
    """
    try:
        names = sorted(f.name for f in os.scandir(folder) if f.name.endswith(".yaml") or f.name == POSITIONS)
        files = {}
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:  # noqa: PTH118  many small files: speed
                files[name] = file.read()
    except OSError as error:
        raise BrokenEntry(f"{folder} is no folder of entries: {error.strerror}.") from None
    if not files:
        raise BrokenEntry(f"{folder} is no knowledge base: it holds no entries (*.yaml) and no {POSITIONS}.")
    digest = hashlib.sha256()
    for name, raw in files.items():
        digest.update(b"%s\0%d\0" % (name.encode(), len(raw)))
        digest.update(raw)
    return Source(folder, files, digest.digest())


def parse(source: Source, version: str) -> Content:
    """The YAML of a folder as plain values.

    Raises:
        BrokenEntry: for a file that is no YAML mapping, with its name.
    """
    found = {name: _mapping(name, raw) for name, raw in source.files.items()}
    return Content(version, found.pop(POSITIONS, {}), found)


def _mapping(name: str, raw: bytes) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.load(raw, Loader=_loader())  # noqa: S506  safe loader, in C
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenEntry(f"{name} of the knowledge base is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise BrokenEntry(f"{name} of the knowledge base holds no mapping.")
    return value


@functools.cache
def _loader() -> Any:
    """Safe YAML in which `on`, `yes` and `no` are words, as in YAML 1.2, and dates are text."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
        for first, resolvers in Loader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
    return Loader


def pack(content: Content, *, digest: bytes, form: bytes) -> bytes:
    """The packed file of a content whose folder and whose form of entries have these hashes."""
    body = msgspec.msgpack.encode(content)
    return b"".join((MAGIC, form, digest, hashlib.sha256(body).digest(), body))


def unpack(raw: bytes, *, digest: bytes | None = None, form: bytes | None = None) -> tuple[bytes, bytes] | None:
    """The digest and the body of a packed file; None when it is broken or made for another content or form."""
    if len(raw) < _HEAD or not raw.startswith(MAGIC):
        return None
    made_form, made_digest, checksum = (raw[at : at + _HASH] for at in range(len(MAGIC), _HEAD, _HASH))
    body = memoryview(raw)[_HEAD:]
    if (digest or made_digest) != made_digest or (form or made_form) != made_form:
        return None
    return (made_digest, bytes(body)) if hashlib.sha256(body).digest() == checksum else None


def read_file(path: Path) -> bytes | None:
    """The bytes of a file that is there and no larger than a knowledge base can be."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError:
        return None
    return raw if len(raw) <= _LARGEST else None


def cached(folder: Path) -> Path | None:
    """The file of the user's cache that belongs to a folder; None where nobody but the user can be trusted with it."""
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("HOME") and os.path.join(os.environ["HOME"], ".cache"))  # noqa: PTH118
    if not home or not hasattr(os, "geteuid") or not os.path.isabs(home):  # noqa: PTH117
        return None
    kept = Path(home) / "ecotone"
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = kept.stat()
    except OSError:
        return None
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        return None
    return kept / f"knowledge-{hashlib.sha256(bytes(folder)).hexdigest()[:16]}.msgpack"


def write(path: Path, raw: bytes) -> None:
    """Put a file in place whole: whoever reads meanwhile sees the old one or the new one.

    Raises:
        OSError: when the folder cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as draft:
            draft.write(raw)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
