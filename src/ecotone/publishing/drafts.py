"""What a commit would make of a revision's files: operations applied to a manifest, every path and object verified."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ecotone.catalog import BadPath, EntryNotFound, File, Revision
from ecotone.catalog.discussion import Merging, Proposal
from ecotone.catalog.gitformat import Tree
from ecotone.catalog.names import check_path
from ecotone.publishing.changes import AddLarge, AddRegular, Delete, DeleteFolder, Operation
from ecotone.storage import GONE, Content, Storage
from ecotone.vocabulary import Invalid

MOST_OPERATIONS = 25_000
MOST_FILES = 200_000


class Draft(msgspec.Struct, frozen=True):
    """The files of a revision to be; those in `changed` still lack the id of their commit."""

    files: dict[str, File]
    changed: tuple[str, ...]


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """A revision to be, drafted and not judged yet.

    `ref` moves from `expected` (None: it must not exist) to it. `before` are the files of `base`, whose facts hold for
    what is unchanged since; `parents` are those of the commit. `tenant` is whose part of the store the large files came
    to, empty when all of them are the repository's own. A pull request is opened with it by `proposal`, ended by
    `merging`.
    """

    ref: str
    expected: str | None
    base: Revision
    before: Mapping[str, File]
    made: Draft
    tree: Tree
    parents: tuple[str, ...]
    title: str
    message: str = ""
    mark: str = ""
    tenant: str = ""
    proposal: Proposal | None = None
    merging: Merging | None = None


def large_of(files: Mapping[str, File]) -> dict[str, Content]:
    """The large files among some, by sha256, without those that were deleted for good."""
    contents = (file.content for file in files.values())
    return {c.sha256: c for c in contents if c.sha256 is not None and c.kind != GONE}


def draft(
    base: Mapping[str, File],
    operations: Sequence[Operation],
    storage: Storage,
    tenant: str,
    *,
    own: Mapping[str, Content] | None = None,
    model_id: str,
    at: str,
) -> Draft:
    """Apply operations in order.

    Args:
        base: the files of the parent revision.
        storage: where regular files are put and large ones are looked up, among those sent to the tenant's part of it.
        own: large files by sha256 that may be named beside them.
        at: the parent revision, for messages.

    Raises:
        BadPath: for a path that no client could check out, or that collides with another.
        EntryNotFound: when something to delete is not there.
        Invalid: when a large object is missing or of another size, or a bound is passed.
    """
    files = dict(base)
    changed: dict[str, None] = {}
    folders = _Folders(files) if any(isinstance(operation, DeleteFolder) for operation in operations) else None
    if len(operations) > MOST_OPERATIONS:
        raise Invalid(f"A commit may hold {MOST_OPERATIONS} operations; send the rest in another.")
    paths = [check_path(o.path.rstrip("/") if isinstance(o, DeleteFolder) else o.path) for o in operations]
    small = iter(storage.put_regulars([o.data for o in operations if isinstance(o, AddRegular)]))
    for path, operation in zip(paths, operations, strict=True):
        match operation:
            case AddRegular():
                files[path] = File(path, next(small), "")
                changed[path] = None
            case AddLarge(sha256=sha256, size=size):
                content = (own or {}).get(sha256) or storage.verify_large(tenant, sha256)
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
                inside = folders.take(path) if folders is not None else []
                if not inside:
                    raise EntryNotFound(model_id, path, at)
                for p in inside:
                    del files[p]
                    changed.pop(p, None)
                continue
        if folders is not None:
            folders.note(path, path in files)
    if len(files) > MOST_FILES:
        raise Invalid(f"A repository may hold {MOST_FILES} files; this commit would make {len(files)}.")
    _check_collisions(files, changed)
    unchanged = [p for p in changed if p in base and _same(base[p].content, files[p].content)]
    for path in unchanged:
        files[path] = File(path, files[path].content, base[path].last_commit)
        del changed[path]
    return Draft(files, tuple(changed))


def _same(before: Content, after: Content) -> bool:
    """Whether a commit leaves a file as it was; one whose bytes were deleted for good may be sent anew."""
    return before.git_oid == after.git_oid and (before.kind != GONE or after.kind == GONE)


class _Folders:
    """Which files lie below which folder, kept while operations are applied: a commit may delete thousands of them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._top: dict[str, Any] = {}
        for path in paths:
            self.note(path, True)

    def note(self, path: str, there: bool) -> None:
        """A file that is there from now on, or no longer is. A folder that it would lie upon is for others to see."""
        *above, name = path.split("/")
        folder = self._top
        for part in above:
            folder = folder.setdefault(part + "/", {})
        if there:
            folder[name] = path
        else:
            folder.pop(name, None)

    def take(self, path: str) -> list[str]:
        """The files below a folder, which are gone then."""
        *above, name = path.split("/")
        folder: dict[str, Any] | None = self._top
        for part in above:
            folder = folder.get(part + "/") if folder is not None else None
        doomed = [folder.pop(name + "/", {})] if folder is not None else []
        found: list[str] = []
        while doomed:
            for value in doomed.pop().values():
                if isinstance(value, dict):
                    doomed.append(value)
                else:
                    found.append(value)
        return found


def _check_collisions(files: Mapping[str, File], changed: Iterable[str]) -> None:
    """No two paths that differ only in case, and no file where a folder is."""
    if not changed:
        return
    seen: dict[str, str] = {}
    for path in files:
        at = path
        while at:
            known = seen.setdefault(_folded(at), at)
            if known != at:
                raise BadPath(f"{at!r} and {known!r} differ only in case; many machines cannot hold both. Rename one.")
            at = at.rpartition("/")[0]
            if at in files:
                raise BadPath(f"{at!r} would be a file and a folder at once; delete or rename one.")
            if at and seen.get(_folded(at)) == at:
                break


def _folded(path: str) -> str:
    """What a file system that tells neither case nor forms of letters apart makes of a path."""
    return path.casefold() if path.isascii() else unicodedata.normalize("NFKC", path).casefold()
