"""Merging two sets of files that come from one, path by path. Files are whole: lines are never woven together. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import msgspec

from ecotone.catalog.entities import File

Side = Literal["ours", "theirs"]


class Merged(msgspec.Struct, frozen=True):
    """`files` as merged, those in conflict as ours has them. `conflicts` names what both changed differently, deleted
    and changed, or what cannot lie beside each other."""

    files: dict[str, File]
    conflicts: tuple[str, ...]


def merge(
    base: Mapping[str, File],
    ours: Mapping[str, File],
    theirs: Mapping[str, File],
    keep: Mapping[str, Side] | None = None,
) -> Merged:
    """Three-way merge by path.

    Args:
        base: the files that both sides come from.
        keep: the side that shall stand for a path in conflict.
    """
    files = dict(ours)
    conflicts: list[str] = []
    brought: list[str] = []
    chosen = keep or {}
    for path in base.keys() | theirs.keys():
        was, mine, other = _oid(base, path), _oid(ours, path), _oid(theirs, path)
        if other in (was, mine) or chosen.get(path) == "ours":
            continue
        if mine != was and path not in chosen:
            conflicts.append(path)
        elif other is None:
            del files[path]
        else:
            files[path] = theirs[path]
            brought.append(path)
    conflicts += [path for path in collisions(files, brought) if path not in conflicts]
    return Merged(files, tuple(sorted(conflicts)))


def collisions(files: Mapping[str, File], brought: Collection[str]) -> Iterable[str]:
    """Those of the paths brought in that differ from another only in case, or are a file where a folder is."""
    if not brought:
        return ()
    spelt: dict[str, set[str]] = {}
    folders: set[str] = set()
    for path in files:
        at = path
        while at and at not in folders:
            spelt.setdefault(at.casefold(), set()).add(at)
            if at != path:
                folders.add(at)
            at = at.rpartition("/")[0]
    found = []
    for path in brought:
        steps = [path[:end] for end in _ends(path)]
        beside = any(len(spelt[step.casefold()]) > 1 for step in steps)
        if beside or path in folders or any(step in files for step in steps[:-1]):
            found.append(path)
    return found


def _ends(path: str) -> list[int]:
    """Where each folder of a path ends, and the path itself."""
    return [*(i for i, c in enumerate(path) if c == "/"), len(path)]


def _oid(files: Mapping[str, File], path: str) -> str | None:
    found = files.get(path)
    return None if found is None else found.content.git_oid
