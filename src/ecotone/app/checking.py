"""`fsck`: the store, the git objects of every revision, refs, the index of objects, the database and the ledger."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from ecotone.app.ledger_heads import LedgerHeads
from ecotone.catalog.gitformat import build_trees
from ecotone.catalog.living import Kept, Living
from ecotone.database import Database
from ecotone.ledger import Ledger, public_key
from ecotone.settings import Settings
from ecotone.storage import Content, ContentNotFound, Storage
from ecotone.storage.checking import SEND_AGAIN, Fault, StoreCheck
from ecotone.storage.reconstruction import XetFile

LEDGER_KEY = "ledger-key"
MOST_AFFECTED = 5
MOST_FAULTS = 1000


class Checked(msgspec.Struct, kw_only=True):
    """What a check found. `faults` holds the first ones, `found` how many there are in all."""

    ok: bool
    deep: bool
    found: int
    repaired: int
    faults: list[Fault]
    checked: dict[str, int]
    orphans: dict[str, int]


class Check:
    """One check of an installation.

    Args:
        deep: read and hash every byte.
        repair: mend what can be mended safely; the server must be down.
        rest: called between small steps; what it raises ends the check.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        *,
        deep: bool = False,
        repair: bool = False,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._deep = deep
        self._repair = repair
        self._rest = rest
        self._living = Living(database)
        self._store = StoreCheck(
            database,
            storage.objects,
            storage.xet,
            settings.data / "quarantine",
            storage.staging,
            deep=deep,
            repair=repair,
            rest=rest,
        )
        self._faults: list[Fault] = []
        self._counts: dict[str, int] = {}

    def run(self) -> Checked:
        self._check_database()
        self._store.run()
        named = self._check_revisions()
        for repository, ref, sha in self._living.lost_refs():
            self._add(
                "the ref leads to a commit that is not here",
                "ref",
                ref,
                "point it to another commit",
                [f"{repository} {sha}"],
            )
        self._check_ledger()
        faults = [*self._store.bad.values(), *self._faults]
        return Checked(
            ok=not faults,
            deep=self._deep,
            found=len(faults),
            repaired=sum(1 for fault in faults if fault.repaired),
            faults=faults[:MOST_FAULTS],
            checked=self._store.counts | self._counts,
            orphans=self._store.orphans | {"git": self._git_orphans(named)},
        )

    def _add(self, what: str, kind: str, name: str, advice: str, affects: list[str] | None = None) -> Fault:
        fault = Fault(what=what, kind=kind, name=name, advice=advice, affects=affects or [])
        self._faults.append(fault)
        return fault

    # -- database and ledger -----------------------------------------------------------------------------------------
    def _check_database(self) -> None:
        if not self._database.is_sqlite:
            return
        with self._database.reading() as session:
            told = [str(row[0]) for row in session.execute(sa.text("pragma integrity_check(20)"))]
            broken = [tuple(row) for row in session.execute(sa.text("pragma foreign_key_check"))]
        for line in told:
            if line != "ok":
                self._add(line, "database", "ecotone.db", "restore the database from a backup")
        for table, number, parent, _ in broken[:20]:
            self._add(
                f"row {number} of {table} names a row of {parent} that is not there",
                "database",
                "ecotone.db",
                "restore the database from a backup",
            )

    def _check_ledger(self) -> None:
        key = public_key(self._settings.secret(LEDGER_KEY))
        ledger = Ledger(self._settings.folder("ledger"), spill=self._settings.spill)
        report = ledger.verify(LedgerHeads(self._database).known(), key)
        self._counts["ledger"] = report.records
        for problem in report.problems:
            self._add(str(msgspec.to_builtins(problem)), "ledger", "ledger", "see `ecotone ledger verify`")

    # -- revisions ---------------------------------------------------------------------------------------------------
    def _check_revisions(self) -> set[bytes]:
        """Every revision; returns the ids of the git objects that they name, 20 bytes each."""
        named: set[bytes] = set()
        bad: dict[str, Fault] = {}
        large: dict[str, Fault | None] = {}
        repository = 0
        for kept in self._living.revisions():
            if kept.model_key != repository:
                repository = kept.model_key
                large.clear()
            self._counts["revisions"] = self._counts.get("revisions", 0) + 1
            for kind, name, where, again in _objects_of(kept):
                raw = bytes.fromhex(name)
                if raw not in named:
                    named.add(raw)
                    fault = self._git_fault(kind, name, again)
                    if fault is not None:
                        bad[name] = fault
                        self._faults.append(fault)
                _affect(bad.get(name), kept, where)
            self._check_large(kept, large)
            self._check_index(kept)
            self._rest()
        return named

    def _git_fault(self, kind: str, name: str, again: Callable[[], bytes | None]) -> Fault | None:
        self._counts["git"] = self._counts.get("git", 0) + 1
        damaged = False
        try:
            if not self._deep:
                if self._storage.objects.size(f"git/{name[:2]}/{name[2:]}") is not None:
                    return None
            else:
                found, data = self._storage.git_object(name)
                whole = f"{found} {len(data)}\0".encode() + data
                if found == kind and hashlib.sha1(whole, usedforsecurity=False).hexdigest() == name:
                    return None
                damaged = True
        except ContentNotFound:
            pass
        except Exception:  # what cannot be unpacked is as bad as what has another hash
            damaged = True
        what = f"the git {kind} is damaged" if damaged else f"the git {kind} is gone"
        fault = Fault(what=what, kind="git", name=name, advice="commit the file again, or restore it from a backup")
        if self._repair:
            aside = self._store.set_aside_git(name) if damaged else ""
            data = again() or b""
            if data:
                self._storage.put_git_object(kind, data)
                fault.repaired = "written anew from the list of files"
            elif aside:
                fault.repaired, fault.lost = f"moved to {aside}", True
        return fault

    def _check_large(self, kept: Kept, known: dict[str, Fault | None]) -> None:
        for path, file in kept.files.items():
            content = file.content
            if content.sha256 is None or content.kind not in ("lfs", "xet"):
                continue
            if content.sha256 not in known:
                known[content.sha256] = self._large_fault(content)
            _affect(known[content.sha256], kept, path)

    def _large_fault(self, content: Content) -> Fault | None:
        """What is wrong with a large file: what the store said of its object or file, or that it is in no form here."""
        for name in (("lfs", content.sha256), ("xet", content.xet_hash)):
            if name[1] is not None and (name[0], name[1]) in self._store.bad:
                return self._store.bad[name[0], name[1]]
        try:
            found = self._storage.form(content)
        except ContentNotFound:
            return self._add("the bytes of a file are gone", "file", content.sha256 or "", SEND_AGAIN)
        if isinstance(found, XetFile):
            return self._store.bad.get(("xet", found.hash))
        found.close()
        return None

    def _check_index(self, kept: Kept) -> None:
        missing = self._living.unlisted(kept)
        if not missing:
            return
        fault = self._add(
            f"{len(missing)} large files are missing from the index of the repository's objects",
            "index",
            missing[0],
            "run `ecotone fsck --repair`",
            [f"{kept.repository} {kept.sha}"],
        )
        if self._repair:
            self._living.list_again(kept)
            fault.repaired = "listed again"

    def _git_orphans(self, named: set[bytes]) -> int:
        listed = (bytes.fromhex(o.key.split("/", 1)[1].replace("/", "")) for o in self._storage.objects.listed("git"))
        return sum(1 for name in listed if name not in named)


def _objects_of(kept: Kept) -> Iterator[tuple[str, str, str, Callable[[], bytes | None]]]:
    """Kind, id and path of the git objects of a revision, and what gives their bytes again where that is possible."""
    made = build_trees({path: file.content.git_oid for path, file in kept.files.items()})
    trees: dict[str, bytes] = {tree.oid: tree.data for tree in made.objects}
    yield "commit", kept.sha, "", lambda: None
    yield "tree", kept.tree, "", lambda: trees.get(kept.tree)
    for path, oid in made.folders.items():
        yield "tree", oid, path, lambda oid=oid: trees.get(oid)  # type: ignore[misc]
    for path, file in kept.files.items():
        if file.content.kind == "git":
            yield "blob", file.content.git_oid, path, lambda: None


def _affect(fault: Fault | None, kept: Kept, where: str) -> None:
    if fault is not None and len(fault.affects) < MOST_AFFECTED:
        fault.affects.append(f"{kept.repository}@{kept.sha[:12]} {where}".rstrip())


def lines(checked: dict[str, Any]) -> Iterator[str]:
    """A report as a person reads it, one fault a line."""
    for fault in checked["faults"]:
        where = f" ({'; '.join(fault['affects'])})" if fault["affects"] else ""
        then = f"repaired: {fault['repaired']}" if fault["repaired"] else fault["advice"]
        still = f"; {fault['advice']}" if fault.get("lost") else ""
        yield f"{fault['kind']} {fault['name']}: {fault['what'].rstrip('.')}{where}. {then}{still}"
    told = ", ".join(f"{number} {what}" for what, number in sorted(checked["checked"].items()))
    orphans = ", ".join(f"{number} {kind}" for kind, number in sorted(checked["orphans"].items()) if number)
    yield f"checked {told}; {f'{orphans} without a name (garbage collection takes them)' if orphans else 'no orphans'}"
    yield f"{checked['found']} faults, {checked['repaired']} repaired" if checked["found"] else "no faults"
