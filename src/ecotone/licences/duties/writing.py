"""Files into a folder, each whole or not at all, and nothing of the user's replaced."""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ecotone.licences.duties.document import DOCUMENT, FORMAT
from ecotone.licences.duties.requirements import TEXTS
from ecotone.vocabulary import Conflict, Invalid


def write(files: Mapping[str, str], folder: Path, *, force: bool = False) -> list[str]:
    """Write files below a folder, which is made when it is absent.

    All of them are written beside their places first, and then moved there one after the other, the document last: an
    error before that leaves everything as it was.

    Args:
        files: contents by relative path. NOTICE, card and the like hold what was there before.
        folder: where they go.
        force: replace a licence text or a document that somebody else wrote.

    Returns:
        The paths that are new or changed.

    Raises:
        Conflict: a file of the user's would be replaced; nothing was written.
        Invalid: a place that leads out of the folder, or cannot be written; says which.
    """
    places = {path: _place(folder, path) for path in files}
    taken = [p for p, place in places.items() if not force and _is_theirs(p, place, files[p])]
    if taken:
        raise Conflict(f"{taken[0]} in {folder} is not ours and says something else; move it away, or give --force.")
    changed = [p for p in files if not _says(places[p], files[p])]
    staged: dict[str, Path] = {}
    try:
        for path in changed:
            places[path].parent.mkdir(parents=True, exist_ok=True)
            staged[path] = _stage(places[path], files[path])
        for path in sorted(changed, key=lambda p: p == DOCUMENT):
            staged.pop(path).replace(places[path])
    except OSError as error:
        raise Invalid(f"{folder} cannot be written: {error.strerror or error}.", param="write") from None
    finally:
        for rest in staged.values():
            with contextlib.suppress(OSError):
                rest.unlink()
    return changed


def _place(folder: Path, path: str) -> Path:
    """Where a file goes. Raises Invalid when a link or the path itself leads elsewhere."""
    place = folder / path
    try:
        root, real = folder.resolve(), place.parent.resolve() / place.name
    except (OSError, RuntimeError) as error:
        raise Invalid(f"{folder} cannot be read: {error}.", param="write") from None
    if not real.is_relative_to(root) or place.is_symlink() or (place.exists() and not place.is_file()):
        raise Invalid(f"{path} in {folder} is a link or no regular file; it would not be written there.", param="write")
    if folder.exists() and not folder.is_dir():
        raise Invalid(f"{folder} is no folder.", param="write")
    return place


def _says(place: Path, content: str) -> bool:
    told = content.encode()
    try:
        return place.stat().st_size == len(told) and place.read_bytes() == told
    except OSError:
        return False


def _is_theirs(path: str, place: Path, content: str) -> bool:
    """Whether a file would be replaced that is not continued and not the document that this program writes."""
    if not place.exists() or _says(place, content):
        return False
    if path == DOCUMENT:
        return not _is_document(place)
    return path.startswith(f"{TEXTS}/")


def _is_document(place: Path) -> bool:
    try:
        with place.open("rb") as file:
            found = msgspec.json.decode(file.read(8 * 1024 * 1024))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def _stage(place: Path, content: str) -> Path:
    beside = place.with_name(f".{place.name[:100]}.{secrets.token_hex(6)}")
    try:
        with beside.open("x", encoding="utf-8", newline="") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if place.exists():
            beside.chmod(place.stat().st_mode & 0o777)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    return beside
