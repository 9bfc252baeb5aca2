"""The bytes of git's tree and commit objects and the ids they get. Pure; storing them is for `storage`.

Source: git's documentation of its object formats; the tests compare with the `git` command.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

FILE_MODE = b"100644"
TREE_MODE = b"40000"


class GitObject(NamedTuple):
    oid: str
    kind: str
    data: bytes


class Tree(NamedTuple):
    """All tree objects of a revision: the root's id, the id of each folder by path, and the objects to store."""

    root: str
    folders: dict[str, str]
    objects: list[GitObject]


def object_id(kind: str, data: bytes) -> str:
    """SHA-1 of an object as git computes it."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


def build_trees(blobs: Mapping[str, str]) -> Tree:
    """Tree objects over `{path: blob id}`.

    Paths must be checked before, and none may be a folder of another.
    """
    children: dict[str, list[tuple[bytes, bytes, str]]] = {"": []}
    for path, oid in blobs.items():
        folder, _, name = path.rpartition("/")
        children.setdefault(folder, []).append((FILE_MODE, name.encode(), oid))
        while folder:
            folder = folder.rpartition("/")[0]
            children.setdefault(folder, [])
    objects, folders = [], {}
    for folder in sorted(children, key=lambda f: (f.count("/") if f else -1, f), reverse=True):
        made = _tree(children[folder])
        objects.append(made)
        folders[folder] = made.oid
        if folder:
            parent, _, name = folder.rpartition("/")
            children[parent].append((TREE_MODE, name.encode(), made.oid))
    root = folders.pop("")
    return Tree(root, folders, objects)


def _tree(entries: Iterable[tuple[bytes, bytes, str]]) -> GitObject:
    ordered = sorted(entries, key=lambda e: e[1] + b"/" if e[0] == TREE_MODE else e[1])
    data = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in ordered)
    return GitObject(object_id("tree", data), "tree", data)


def build_commit(tree: str, parents: Iterable[str], author: str, date: datetime, message: str) -> GitObject:
    """A commit object; author and committer are the same, moments in UTC."""
    name = "".join(c for c in author if c.isprintable() and c not in "<>").strip() or "unknown"
    who = f"{name} <{name.replace(' ', '.')}@users.ecotone> {int(date.timestamp())} +0000"
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {who}", f"committer {who}", ""]
    data = ("\n".join(lines) + "\n" + message.replace("\0", "").rstrip("\n") + "\n").encode("utf-8", "replace")
    return GitObject(object_id("commit", data), "commit", data)
