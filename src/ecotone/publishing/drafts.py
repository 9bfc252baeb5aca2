"""What a commit would make of a revision's files: operations applied to a manifest, every path and object verified."""

from collections.abc import Iterable, Mapping

import msgspec

from ecotone.catalog import BadPath, EntryNotFound, File
from ecotone.catalog.names import check_path
from ecotone.publishing.changes import AddLarge, AddRegular, Delete, DeleteFolder, Operation
from ecotone.storage import Storage
from ecotone.storage.content import regular
from ecotone.vocabulary import Invalid

MOST_OPERATIONS = 25_000
MOST_FILES = 200_000


class Draft(msgspec.Struct, frozen=True):
    """The files of a revision to be; those in `changed` still lack the id of their commit."""

    files: dict[str, File]
    changed: tuple[str, ...]


def draft(
    base: Mapping[str, File],
    operations: Iterable[Operation],
    storage: Storage,
    namespace: str,
    *,
    model_id: str,
    at: str,
) -> Draft:
    """Apply operations in order.

    Args:
        base: the files of the parent revision.
        storage: where regular files are put and large ones are looked up, under the namespace that may use them.
        at: the parent revision, for messages.

    Raises:
        BadPath: for a path that no client could check out, or that collides with another.
        EntryNotFound: when something to delete is not there.
        Invalid: when a large object is missing or of another size, or a bound is passed.
    """
    files = dict(base)
    changed: dict[str, None] = {}
    blobs: list[tuple[str, bytes]] = []
    for count, operation in enumerate(operations):
        if count >= MOST_OPERATIONS:
            raise Invalid(f"A commit may hold {MOST_OPERATIONS} operations; send the rest in another.")
        path = check_path(operation.path.rstrip("/") if isinstance(operation, DeleteFolder) else operation.path)
        match operation:
            case AddRegular(data=data):
                files[path] = File(path, regular(data), "")
                blobs.append(("blob", data))
                changed[path] = None
            case AddLarge(sha256=sha256, size=size):
                content = storage.verify_large(namespace, sha256)
                if size is not None and size != content.size:
                    raise Invalid(
                        f"{path} is announced with {size} bytes, but the object {sha256} has {content.size}; send "
                        "the file again.",
                        param="size",
                    )
                files[path] = File(path, content, "")
                changed[path] = None
            case Delete():
                if files.pop(path, None) is None:
                    raise EntryNotFound(model_id, path, at)
                changed.pop(path, None)
            case DeleteFolder():
                inside = [p for p in files if p.startswith(path + "/")]
                if not inside:
                    raise EntryNotFound(model_id, path, at)
                for p in inside:
                    del files[p]
                    changed.pop(p, None)
    if len(files) > MOST_FILES:
        raise Invalid(f"A repository may hold {MOST_FILES} files; this commit would make {len(files)}.")
    _check_collisions(files, changed)
    storage.put_git_objects(blobs)
    unchanged = [p for p in changed if p in base and base[p].content.git_oid == files[p].content.git_oid]
    for path in unchanged:
        files[path] = File(path, files[path].content, base[path].last_commit)
        del changed[path]
    return Draft(files, tuple(changed))


def _check_collisions(files: Mapping[str, File], changed: Iterable[str]) -> None:
    """No two paths that differ only in case, and no file where a folder is."""
    if not changed:
        return
    seen: dict[str, str] = {}
    for path in files:
        at = path
        while at:
            known = seen.setdefault(at.casefold(), at)
            if known != at:
                raise BadPath(f"{at!r} and {known!r} differ only in case; many machines cannot hold both. Rename one.")
            at = at.rpartition("/")[0]
            if at in files:
                raise BadPath(f"{at!r} would be a file and a folder at once; delete or rename one.")
            if at and seen.get(at.casefold()) == at:
                break
