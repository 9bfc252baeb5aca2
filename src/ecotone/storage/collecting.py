"""Garbage collection: what no living repository names goes, in two steps that may run beside any upload or commit.

A run takes away the rows by which a namespace names what nobody uses, and notes each object that is left without a name
as condemned. A later run, at least `delay` after, removes the condemned ones that still have no name, each inside the
transaction that holds its row. Whoever names an object meanwhile takes it off that list in the transaction that makes
the name count (see `placing`), so that either the removal finds nothing to do or the writer finds the object gone and
puts it back. Objects of git have no names of their own here: what is written again is taken off the list when it is
written, and a commit is long seen when the delay is over.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ecotone.database import Database, batches, utc_now
from ecotone.storage.gitobjects import KIND as GIT
from ecotone.storage.hashfilter import HashFilter
from ecotone.storage.lfs import KIND as LFS
from ecotone.storage.models import CondemnedRow, EpochRow, LfsObjectRow, XetFileRow, XorbTenantRow
from ecotone.storage.objects import Listed, Objects, key, name_of
from ecotone.storage.reconstruction import unpacked_terms
from ecotone.storage.xorbs import KIND as XORBS

KINDS = (LFS, XORBS, GIT)
_PAGE = 200
_LARGE_PAGE = 20
_AT_ONCE = 20


class Naming(Protocol):
    """Who knows what is still named; the catalogue."""

    def naming(self, names: Iterable[str]) -> set[tuple[str, str]]:
        """(namespace, name) of those of some sha256 and Xet hashes that a living repository names."""
        ...

    def git_ids(self) -> Iterator[str]:
        """Ids of all git objects that revisions are made of."""
        ...


class Count(msgspec.Struct):
    """How many objects of a kind, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.objects += 1
        self.bytes += size


class Collected(msgspec.Struct, kw_only=True):
    """What a run did, or would do: rows taken away by table; objects condemned, removed and spared by kind."""

    dry_run: bool
    started: datetime
    seconds: float = 0.0
    rows: dict[str, int] = {}
    condemned: dict[str, Count] = {}
    removed: dict[str, Count] = {}
    spared: dict[str, int] = {}
    parts: int = 0
    waiting: int = 0


class Collector:
    """One run.

    Args:
        naming: what is still named.
        grace: what is younger stays whatever nobody names it: an upload of a large folder takes days.
        delay: between condemning an object and removing it; longer than any commit takes.
        dry_run: only count.
        rest: called between small steps; it may sleep, and what it raises ends the run.
        removed: called with kind and name of each object that is gone.
    """

    def __init__(
        self,
        database: Database,
        objects: Objects,
        naming: Naming,
        *,
        grace: timedelta,
        delay: timedelta,
        dry_run: bool = False,
        rest: Callable[[], None] = lambda: None,
        removed: Callable[[str, str], None] = lambda _kind, _name: None,
    ) -> None:
        self._database = database
        self._objects = objects
        self._naming = naming
        self._dry = dry_run
        self._rest = rest
        self._removed = removed
        self._now = utc_now()
        self._cutoff = self._now - grace
        self._due = self._now - delay
        self._files = HashFilter()  # of Xet files that only a dry run leaves there
        self._xorbs = HashFilter()
        self._git = HashFilter()
        self._renewed: set[str] = set()
        self.done = Collected(dry_run=dry_run, started=self._now)

    def run(self) -> Collected:
        """Do all of it; what was done before an error stays done."""
        began = time.monotonic()
        self._sweep_files(LfsObjectRow, LfsObjectRow.sha256)
        self._sweep_files(XetFileRow, XetFileRow.hash)
        self._mark()
        self._remove_condemned()
        self._sweep_xorb_rows()
        for kind in KINDS:
            self._sweep_objects(kind)
        with self._database.reading() as session:
            self.done.waiting = session.scalar(sa.select(sa.func.count()).select_from(CondemnedRow)) or 0
        self.done.seconds = round(time.monotonic() - began, 3)
        return self.done

    # -- files that no repository names ------------------------------------------------------------------------------
    def _sweep_files(self, table: type[Any], name: Any) -> None:
        columns = (table.tenant, name, table.sha256, table.size)
        for rows in self._pages(columns, table.created < self._cutoff, (table.tenant, name)):
            named = self._naming.naming({n for row in rows for n in row[1:3]})
            elsewhere = {n for _, n in named}
            doomed = [
                (tenant, own, own in elsewhere or sha256 in elsewhere, size)
                for tenant, own, sha256, size in rows
                if (tenant, own) not in named and (tenant, sha256) not in named
            ]
            if table is LfsObjectRow:
                twice = self._also_xet([(row[0], row[1]) for row in rows])
                gone = {row[:2] for row in doomed}
                doomed += [(t, n, False, size) for t, n, _, size in rows if (t, n) in twice - gone]
            if doomed:
                self._drop_files(table, name, doomed)
            self._rest()

    def _also_xet(self, names: list[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of some (namespace, sha256) that the namespace has as Xet too: the whole object is not needed."""
        at = sa.tuple_(XetFileRow.tenant, XetFileRow.sha256)
        with self._database.reading() as session:
            return {
                (t, n) for t, n in session.execute(sa.select(XetFileRow.tenant, XetFileRow.sha256).where(at.in_(names)))
            }

    def _drop_files(self, table: type[Any], name: Any, doomed: list[tuple[str, str, bool, int]]) -> None:
        """Take rows away. One that a repository of another namespace counts on stays when it is the only one."""
        if self._dry:
            for tenant, own, needed, size in doomed:
                if not needed:
                    self._count_rows(table, 1)
                    self._files.add(f"{tenant}/{own}")
                    if table is LfsObjectRow:
                        self.done.condemned.setdefault(LFS, Count()).add(size)
            return
        sizes = {own: size for _, own, _, size in doomed}
        with self._database.writing() as session:
            locked = self._locked(session, table, name, doomed)
            only = [row for row in locked if row[2] and self._is_only(session, table, name, *row[:2])]
            pairs = [row[:2] for row in locked if row not in only]
            session.execute(sa.delete(table).where(sa.tuple_(table.tenant, name).in_(pairs)))
            gone = [own for _, own in pairs]
            self._count_rows(table, len(gone))
            if table is LfsObjectRow:
                left = set(session.scalars(sa.select(name).where(name.in_(gone))))
                self._condemn(session, LFS, {own: sizes[own] for own in gone if own not in left})

    def _is_only(self, session: Session, table: type[Any], name: Any, tenant: str, own: str) -> bool:
        others = sa.select(sa.literal(1)).where(name == own, table.tenant != tenant).limit(1)
        return session.scalar(others) is None

    def _locked(
        self, session: Session, table: type[Any], name: Any, doomed: list[tuple[str, str, bool, int]]
    ) -> list[tuple[str, str, bool]]:
        """Those rows that are still old and that nobody holds; one that is held is being named at this moment."""
        needed = {(tenant, own): flag for tenant, own, flag, _ in doomed}
        wanted = (
            sa.select(table.tenant, name)
            .where(sa.tuple_(table.tenant, name).in_(list(needed)), table.created < self._cutoff)
            .with_for_update(skip_locked=True)
        )
        return [(tenant, own, needed[tenant, own]) for tenant, own in session.execute(wanted).all()]

    # -- what is named -----------------------------------------------------------------------------------------------
    def _mark(self) -> None:
        """Note the xorbs that files are made of, for each namespace and in all, and the git objects of revisions."""
        columns = (XetFileRow.tenant, XetFileRow.hash, XetFileRow.terms)
        everything = sa.true()
        for rows in self._pages(columns, everything, (XetFileRow.tenant, XetFileRow.hash), _LARGE_PAGE):
            for tenant, name, terms in rows:
                if self._dry and f"{tenant}/{name}" in self._files:
                    continue
                for xorb in {term.xorb for term in unpacked_terms(terms)}:
                    self._xorbs.add(xorb)
                    self._xorbs.add(f"{tenant}/{xorb}")
            self._rest()
        for number, name in enumerate(self._naming.git_ids()):
            self._git.add(name)
            if number % 1000 == 0:
                self._rest()

    # -- xorbs that no file of their namespace is made of ------------------------------------------------------------
    def _sweep_xorb_rows(self) -> None:
        table = XorbTenantRow
        for rows in self._pages((table.tenant, table.hash), table.created < self._cutoff, (table.tenant, table.hash)):
            doomed = [(t, n, False, 0) for t, n in rows if f"{t}/{n}" not in self._xorbs]
            if self._dry:
                self._count_rows(table, len(doomed))
                for name in {n for _, n, _, _ in doomed if n not in self._xorbs}:
                    self.done.condemned.setdefault(XORBS, Count()).add(self._objects.size(key(XORBS, name)) or 0)
            elif doomed:
                self._drop_xorbs(doomed)
            self._rest()

    def _drop_xorbs(self, doomed: list[tuple[str, str, bool, int]]) -> None:
        sizes = {name: self._objects.size(key(XORBS, name)) or 0 for _, name, _, _ in doomed}
        table = XorbTenantRow
        with self._database.writing() as session:
            gone = [(t, n) for t, n, _ in self._locked(session, table, table.hash, doomed)]
            session.execute(sa.delete(table).where(sa.tuple_(table.tenant, table.hash).in_(gone)))
            renewed = {tenant for tenant, _ in gone} - self._renewed
            for tenant in sorted(renewed):
                self._next_epoch(session, tenant)
            self._count_rows(table, len(gone))
            names = {name for _, name in gone}
            left = set(session.scalars(sa.select(table.hash).where(table.hash.in_(names))))
            self._condemn(session, XORBS, {n: sizes[n] for n in names - left if n not in self._xorbs})
        self._renewed |= renewed

    def _next_epoch(self, session: Session, tenant: str) -> None:
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        first = insert(EpochRow).values(tenant=tenant, epoch=1)
        more = {"epoch": EpochRow.epoch + 1}
        session.execute(first.on_conflict_do_update(index_elements=[EpochRow.tenant], set_=more))

    # -- objects without any name ------------------------------------------------------------------------------------
    def _sweep_objects(self, kind: str) -> None:
        page: list[Listed] = []
        for listed in self._objects.listed(kind):
            if listed.placed < self._cutoff:
                page.append(listed)
            if len(page) >= _PAGE:
                self._sweep_page(kind, page)
                page = []
        self._sweep_page(kind, page)

    def _sweep_page(self, kind: str, page: list[Listed]) -> None:
        sizes = {name_of(listed.key): listed.size for listed in page}
        with self._database.reading() as session:
            at = (CondemnedRow.kind == kind, CondemnedRow.name.in_(sizes))
            known = set(session.scalars(sa.select(CondemnedRow.name).where(*at)))
        doomed = {name: size for name, size in sizes.items() if name not in known}
        used = self._used(kind, doomed)
        doomed = {name: size for name, size in doomed.items() if name not in used}
        if doomed and self._dry:
            for size in doomed.values():
                self.done.condemned.setdefault(kind, Count()).add(size)
        elif doomed:
            with self._database.writing() as session:
                self._condemn(session, kind, doomed)
        self._rest()

    def _used(self, kind: str, names: Iterable[str]) -> set[str]:
        """Those of some objects that are named: by a row, by what was marked, by a repository without any row."""
        wanted = set(names)
        if kind == GIT:
            return {name for name in wanted if name in self._git}
        if kind == XORBS:
            return {name for name in wanted if name in self._xorbs} | self._with_rows(XorbTenantRow.hash, wanted)
        whole = self._with_rows(LfsObjectRow.sha256, wanted)
        named = {name for _, name in self._naming.naming(wanted - whole)}
        return whole | named - self._with_rows(XetFileRow.sha256, named)

    def _with_rows(self, column: Any, names: set[str]) -> set[str]:
        if not names:
            return set()
        with self._database.reading() as session:
            return set(session.scalars(sa.select(column).where(column.in_(names))))

    def _condemn(self, session: Session, kind: str, sizes: dict[str, int]) -> None:
        if not sizes:
            return
        rows = [{"kind": kind, "name": name, "size": sizes[name], "condemned": utc_now()} for name in sorted(sizes)]
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        session.execute(insert(CondemnedRow).values(rows).on_conflict_do_nothing())
        for row in rows:
            self.done.condemned.setdefault(kind, Count()).add(sizes[str(row["name"])])

    # -- removing ----------------------------------------------------------------------------------------------------
    def _remove_condemned(self) -> None:
        columns = (CondemnedRow.kind, CondemnedRow.name, CondemnedRow.size)
        order = (CondemnedRow.kind, CondemnedRow.name)
        for rows in self._pages(columns, CondemnedRow.condemned <= self._due, order):
            if self._dry:
                for kind in KINDS:
                    mine = {name: size for k, name, size in rows if k == kind}
                    for name in set(mine) - self._used(kind, mine):
                        self.done.removed.setdefault(kind, Count()).add(mine[name])
                self._rest()
                continue
            for some in batches(rows, _AT_ONCE):
                for kind in KINDS:
                    self._remove(kind, [name for k, name, _ in some if k == kind])
                self._rest()

    def _remove(self, kind: str, names: list[str]) -> None:
        """Remove objects while their rows are held, so that whoever names one now waits and then sees that it is gone.

        Those that somebody holds are named at this moment; they are left to a later run.
        """
        if not names:
            return
        with self._database.writing() as session:
            at = (CondemnedRow.kind == kind, CondemnedRow.name.in_(names), CondemnedRow.condemned <= self._due)
            held = sa.select(CondemnedRow.name, CondemnedRow.size).where(*at).with_for_update(skip_locked=True)
            sizes = {row.name: row.size for row in session.execute(held)}
            session.execute(sa.delete(CondemnedRow).where(CondemnedRow.kind == kind, CondemnedRow.name.in_(sizes)))
            used = self._used(kind, sizes)
            for name in sorted(set(sizes) - used):
                self._objects.remove(key(kind, name))
                self._removed(kind, name)
        if used:
            self.done.spared[kind] = self.done.spared.get(kind, 0) + len(used)
        for name in set(sizes) - used:
            self.done.removed.setdefault(kind, Count()).add(sizes[name])

    # -- pages -------------------------------------------------------------------------------------------------------
    def _pages(
        self, columns: tuple[Any, ...], where: sa.ColumnElement[bool], order: tuple[Any, Any], size: int = _PAGE
    ) -> Iterator[list[Any]]:
        """Rows in the order of their keys, some at a time, no transaction open between."""
        after: tuple[str, str] | None = None
        while True:
            wanted = sa.select(*columns).where(where).order_by(*order).limit(size)
            if after is not None:
                wanted = wanted.where(sa.tuple_(*order) > sa.tuple_(*(sa.literal(part) for part in after)))
            with self._database.reading() as session:
                rows = [tuple(row) for row in session.execute(wanted)]
            if not rows:
                return
            after = rows[-1][:2]
            yield rows

    def _count_rows(self, table: type[Any], number: int) -> None:
        if number:
            name = table.__tablename__
            self.done.rows[name] = self.done.rows.get(name, 0) + number
