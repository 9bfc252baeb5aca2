"""Bare repositories for `git upload-pack`: of each repository the objects that its refs reach, and no others.

The store of git objects is shared by all repositories, and git hands out whatever the served folder holds: in version 2
of its protocol a client may ask for any object by id. So the folder itself is the border: what another repository has,
or what no ref reaches any more, is not in it.

A copy is a cache. It never changes: when refs move, the next one is made beside it, with the packs that the two share
linked, and takes its place; the old one goes when nobody reads it. Each process has copies of its own; those of a
process that has ended are dropped by the next one.
"""

import contextlib
import fcntl
import hashlib
import os
import resource
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ecotone.catalog.entities import DEFAULT_BRANCH, Model
from ecotone.catalog.errors import RevisionNotFound
from ecotone.catalog.gitpack import PackFile
from ecotone.catalog.services import Catalog
from ecotone.settings import Settings
from ecotone.storage import ContentNotFound, Storage
from ecotone.storage.content import pointer
from ecotone.vocabulary import TooLarge, Unavailable

TURNS = 64
MOST_PACKS = 12
SMALL = 200
_POLL = 0.05
_TREE = b"40000"
_CONFIG = (
    *("pack.threads=1", "pack.windowMemory=32m", "core.bigFileThreshold=1m", "core.packedGitWindowSize=16m"),
    *("core.packedGitLimit=128m", "repack.writeBitmaps=true", "gc.auto=0", "protocol.version=2", "core.fsync=none"),
    *("uploadpack.allowFilter=true", "uploadpackfilter.allow=false", "uploadpackfilter.blob:none.allow=true"),
    *("uploadpackfilter.blob:limit.allow=true", "uploadpackfilter.tree.allow=true"),
    "uploadpack.allowAnySHA1InWant=true",  # all that a copy holds is reached from a ref
)
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": os.devnull,
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ADVICE": "0",
}


@dataclass(eq=False, slots=True)
class Copy:
    """A bare repository on disk and the refs it was made for."""

    path: Path
    refs: Mapping[str, str]
    size: int
    users: int = 0
    used: float = 0.0
    is_current: bool = True


class Stopped(Exception):
    """Whoever wanted the copy is gone."""


class Clones:
    """The copies of one installation. Thread-safe.

    Args:
        catalog: names refs and files.
        storage: holds the objects.
        settings: bounds of time, memory and disk.
    """

    def __init__(self, catalog: Catalog, storage: Storage, settings: Settings) -> None:
        self._catalog = catalog
        self._storage = storage
        self._settings = settings
        self._own: _OwnFolder | None = None
        self._lock = threading.Lock()
        self._turns = tuple(threading.Lock() for _ in range(TURNS))
        self._current: dict[int, Copy] = {}

    @contextlib.contextmanager
    def opened(self, model: Model, stop: threading.Event) -> Iterator[Path]:
        """The folder of an up-to-date copy, kept while the context lasts.

        Args:
            model: a repository that the caller may read; this is not asked here.
            stop: ends the making of a copy with Stopped.

        Raises:
            Unavailable: when git is not installed, or a part of the repository cannot be read.
            TooLarge: when the copy cannot be made within the time that settings allow.
        """
        held = self._hold(model, stop)
        try:
            yield held.path
        finally:
            self._let_go(held)
            self._make_room()

    def forget(self, model: Model) -> None:
        """Drop the copy of a repository, as soon as nobody reads it."""
        with self._lock:
            copy = self._current.pop(model.key, None)
        if copy is not None:
            self._retire(copy)

    def _folder(self) -> Path:
        with self._lock:
            if self._own is None:
                self._own = _OwnFolder(self._settings.folder("clones"))
            return self._own.path

    def _hold(self, model: Model, stop: threading.Event) -> Copy:
        with self._turns[model.key % TURNS]:
            found = self._catalog.refs(model)
            refs = {ref.ref: ref.target for ref in (*found.branches, *found.tags, *found.pull_requests)}
            with self._lock:
                before = self._current.get(model.key)
                if before is not None:
                    before.users += 1
                    before.used = time.monotonic()
            if before is not None and before.refs == refs:
                return before
            try:
                made = self._make(model, refs, before, stop)
            finally:
                if before is not None:
                    self._let_go(before)
            with self._lock:
                self._current[model.key] = made
            if before is not None:
                self._retire(before)
            return made

    def _let_go(self, copy: Copy) -> None:
        with self._lock:
            copy.users -= 1
            drop = copy.users == 0 and not copy.is_current
        if drop:
            shutil.rmtree(copy.path, ignore_errors=True)

    def _retire(self, copy: Copy) -> None:
        with self._lock:
            copy.is_current = False
            drop = copy.users == 0
        if drop:
            shutil.rmtree(copy.path, ignore_errors=True)

    def _make_room(self) -> None:
        """Drop the copies that were used longest ago until what is left fits."""
        with self._lock:
            over = sum(copy.size for copy in self._current.values()) - self._settings.clone_cache_bytes
            gone = []
            for key, copy in sorted(self._current.items(), key=lambda item: item[1].used):
                if over <= 0:
                    break
                if copy.users == 0:
                    over -= copy.size
                    copy.is_current = False
                    gone.append(self._current.pop(key))
        for copy in gone:
            shutil.rmtree(copy.path, ignore_errors=True)

    # -- making a copy -----------------------------------------------------------------------------------------------
    def _make(self, model: Model, refs: Mapping[str, str], before: Copy | None, stop: threading.Event) -> Copy:
        told = "\n".join(f"{ref} {sha}" for ref, sha in sorted(refs.items()))
        name = f"{model.key}-{hashlib.sha256(told.encode()).hexdigest()[:16]}-{secrets.token_hex(4)}"
        folder = self._folder()
        draft = folder / f".{name}"
        work = _Work(stop, time.monotonic() + self._settings.clone_seconds, self._settings.clone_memory_bytes)
        try:
            work.git("init", "-q", "--bare", "--template=", f"--initial-branch={DEFAULT_BRANCH}", str(draft))
            self._fill(model, refs, before, draft, work)
            path = folder / name
            draft.rename(path)
        except (ContentNotFound, RevisionNotFound) as error:  # the latter when history was written anew meanwhile
            raise Unavailable(f"{model.id} cannot be cloned just now: {error.message}", retry_after=60) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        size = sum(entry.stat().st_size for entry in (path / "objects" / "pack").iterdir())
        return Copy(path, refs, size, users=1, used=time.monotonic())

    def _fill(self, model: Model, refs: Mapping[str, str], before: Copy | None, draft: Path, work: "_Work") -> None:
        packs = draft / "objects" / "pack"
        known: set[str] = set()
        if before is not None:
            for file in (before.path / "objects" / "pack").glob("*.*"):
                if file.suffix in (".pack", ".idx", ".rev"):
                    os.link(file, packs / file.name)
            told = work.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", at=draft)
            known = set(told.decode().split())
        loose = draft / "new.pack"
        with PackFile(loose) as pack:
            for kind, data in self._missing(model, refs.values(), known, work):
                pack.add(kind, data)
            pack.finish()
        if pack.count:
            with open(loose, "rb") as read:
                work.git("index-pack", "--stdin", "--threads=1", at=draft, given=read.fileno())
        loose.unlink()
        created = "".join(f"create {ref} {sha}\n" for ref, sha in refs.items())
        work.git("update-ref", "--stdin", at=draft, text=created.encode())
        work.git("pack-refs", "--all", at=draft)
        lost = set(before.refs.values()) - set(refs.values()) if before is not None else set()
        gone = lost and work.git(
            "rev-list", "--max-count=1", "--stdin", "--not", "--all", at=draft, text="\n".join(lost).encode()
        )
        if gone or pack.count > SMALL or len(list(packs.glob("*.pack"))) > MOST_PACKS:
            work.git("repack", "-a", "-d", "-q", at=draft)  # also drops what no ref reaches any more

    def _missing(
        self, model: Model, targets: Iterable[str], known: set[str], work: "_Work"
    ) -> Iterator[tuple[str, bytes]]:
        """Objects that `targets` reach and that are not known; those handed out are known then."""
        waiting = list(targets)
        while waiting:
            sha = waiting.pop()
            if sha in known:
                continue
            known.add(sha)
            kind, data = self._storage.git_object(sha)
            yield kind, data
            lines = data.partition(b"\n\n")[0].decode("utf-8", "replace").split("\n")
            waiting += [line[7:] for line in lines if line.startswith("parent ")]
            yield from self._files(model, sha, lines[0].removeprefix("tree "), known, work)

    def _files(
        self, model: Model, commit: str, tree: str, known: set[str], work: "_Work"
    ) -> Iterator[tuple[str, bytes]]:
        pointers: dict[str, bytes] | None = None
        folders = [tree]
        while folders:
            oid = folders.pop()
            if oid in known:
                continue
            known.add(oid)
            kind, data = self._storage.git_object(oid)
            yield kind, data
            for is_folder, child in _entries(data):
                if child in known:
                    continue
                if is_folder:
                    folders.append(child)
                    continue
                work.check()
                known.add(child)
                try:
                    yield self._storage.git_object(child)
                except ContentNotFound:  # pointers of large files are not stored; their facts stand in the manifest
                    if pointers is None:
                        pointers = self._pointers(model, commit)
                    if child not in pointers:
                        raise
                    yield "blob", pointers[child]

    def _pointers(self, model: Model, commit: str) -> dict[str, bytes]:
        files = self._catalog.files(self._catalog.revision(model, commit))
        return {
            file.content.git_oid: pointer(file.content.sha256, file.content.size)
            for file in files
            if file.content.sha256 is not None
        }


def _entries(tree: bytes) -> Iterator[tuple[bool, str]]:
    """Whether each entry of a tree object is a folder, and its id."""
    at = 0
    while at < len(tree):
        mode = tree.index(b" ", at)
        end = tree.index(b"\0", mode)
        yield tree[at:mode] == _TREE, tree[end + 1 : end + 21].hex()
        at = end + 21


class _OwnFolder:
    """A folder of this process below `parent`, locked while it lives; what ended processes left is removed."""

    def __init__(self, parent: Path) -> None:
        for lock in parent.glob("*.lock"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), open(lock, "rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        self.path = parent / secrets.token_hex(8)
        self._held = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self.path.mkdir(mode=0o700)


@dataclass(frozen=True, slots=True)
class _Work:
    """Bounds of the making of one copy."""

    stop: threading.Event
    until: float
    memory: int

    def check(self) -> None:
        """Raises Stopped or TooLarge when the work shall go on no longer."""
        if self.stop.is_set():
            raise Stopped
        if time.monotonic() > self.until:
            raise TooLarge("This repository is too large to be cloned with git here; use `hf download`.")

    def git(self, *argv: str, at: Path | None = None, given: int | None = None, text: bytes | None = None) -> bytes:
        """Run git to its end; what it printed."""
        self.check()
        source = given if given is not None else subprocess.PIPE if text is not None else subprocess.DEVNULL
        child = subprocess.Popen(
            command(*argv), cwd=at, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        limit_memory(child.pid, self.memory)
        try:
            while True:
                try:
                    out, err = child.communicate(text, timeout=_POLL)
                    break
                except subprocess.TimeoutExpired:
                    text = None
                    self.check()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if child.returncode != 0:
            raise Unavailable(f"git {argv[0]} failed here: {err.decode(errors='replace').strip()[-300:]}")
        return out


def command(*argv: str) -> list[str]:
    """How git is called here.

    Raises:
        Unavailable: when it is not installed.
    """
    found = shutil.which("git")
    if found is None:
        raise Unavailable(
            "This server lacks the program git; an administrator may install it. `hf download` works without it.",
            retry_after=3600,
        )
    return [found, *(part for setting in _CONFIG for part in ("-c", setting)), *argv]


def limit_memory(pid: int, most: int) -> None:
    """Bound the address space of a child and of its own children, where the system can."""
    set_limit = getattr(resource, "prlimit", None)
    if set_limit is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            set_limit(pid, resource.RLIMIT_AS, (most, most))
