"""Checks of the store: every row has its object, every object is what its name says, and what may be mended of it.

Nothing is deleted: a damaged object is moved to a folder of its own, and the row that named it goes, so that whoever
has the bytes can send them again.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from ecotone.database import Database
from ecotone.storage import hashes, xorbs
from ecotone.storage.errors import BrokenXorb, ContentNotFound
from ecotone.storage.files import Draft, make_folder
from ecotone.storage.gitobjects import KIND as GIT
from ecotone.storage.lfs import KIND as LFS
from ecotone.storage.models import LfsObjectRow, XetFileRow, XorbTenantRow
from ecotone.storage.objects import Objects, key, name_of, pieces
from ecotone.storage.reconstruction import XetFile, file_of, unpacked_terms
from ecotone.storage.xet import XetStore
from ecotone.storage.xorbs import KIND as XORBS

_PAGE = 200
_FOOTER_AND_LENGTH = 92 + 4
SEND_AGAIN = "send the file again from where it came, or restore the object from a backup"


class Fault(msgspec.Struct, kw_only=True):
    """One thing that is wrong: what, which object, what it affects (repository, revision, file), what to do."""

    what: str
    kind: str
    name: str
    advice: str
    affects: list[str] = []
    repaired: str = ""


class StoreCheck:
    """One check of rows and objects. What it found bad is in `bad`, by (kind, name).

    Args:
        quarantine: folder that damaged objects are moved to.
        deep: read and hash every byte.
        repair: mend what can be mended safely.
        rest: called between small steps; what it raises ends the check.
    """

    def __init__(
        self,
        database: Database,
        objects: Objects,
        xet: XetStore,
        quarantine: Path,
        staging: Path,
        *,
        deep: bool,
        repair: bool,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._objects = objects
        self._xet = xet
        self._quarantine = quarantine
        self._staging = staging
        self._deep = deep
        self._repair = repair
        self._rest = rest
        self.bad: dict[tuple[str, str], Fault] = {}
        self.counts: dict[str, int] = {}
        self.orphans: dict[str, int] = {}

    def run(self) -> None:
        for kind, table, name in (
            ("lfs", LfsObjectRow, LfsObjectRow.sha256),
            ("xorbs", XorbTenantRow, XorbTenantRow.hash),
        ):
            for names in self._names(name):
                for one in names:
                    self._count(kind)
                    self._check(kind, table, name, one)
                    self._rest()
        self._check_files()
        for kind, column in ((LFS, LfsObjectRow.sha256), (XORBS, XorbTenantRow.hash)):
            self._count_orphans(kind, column)

    def _names(self, column: Any) -> Iterator[list[str]]:
        after = ""
        while True:
            wanted = sa.select(column).distinct().where(column > after).order_by(column).limit(_PAGE)
            with self._database.reading() as session:
                found = list(session.scalars(wanted))
            if not found:
                return
            yield found
            after = found[-1]

    # -- one object --------------------------------------------------------------------------------------------------
    def _check(self, kind: str, table: type[Any], column: Any, name: str) -> None:
        try:
            damage = self._whole_damage(name) if kind == LFS else self._xorb_damage(name)
        except ContentNotFound:
            if not self._has_rows(column, name):
                return  # taken away while the check ran
            fault = self._fault(kind, name, "the object is gone", SEND_AGAIN)
            if self._repair:
                self._drop_rows(table, column, name)
                fault.repaired = "the rows that named it were dropped"
            return
        if damage is None:
            return
        fault = self._fault(kind, name, damage, SEND_AGAIN)
        if self._repair:
            self._mend(kind, table, column, name, fault)

    def _whole_damage(self, name: str) -> str | None:
        with self._database.reading() as session:
            sizes = set(session.scalars(sa.select(LfsObjectRow.size).where(LfsObjectRow.sha256 == name)))
        with self._objects.open(key(LFS, name)) as stored:
            if sizes and sizes != {stored.size}:
                return f"the object has {stored.size} bytes, {sizes.pop()} were stored"
            if not self._deep:
                return None
            digest = hashlib.sha256()
            for piece in pieces(stored, 0, stored.size):
                digest.update(piece)
                self._rest()
            return None if digest.hexdigest() == name else "the bytes have another sha256"

    def _xorb_damage(self, name: str) -> str | None:
        with self._objects.open(key(XORBS, name)) as stored:
            try:
                index = xorbs.ChunkIndex.of_stored(stored)
                if stored.size != index.stored_size + _FOOTER_AND_LENGTH + 40 * index.count:
                    return "the xorb has another size than its footer tells"
                if self._deep:
                    _, found = xorbs.verify(stored.read(0, stored.size), name)
                    if found.footer(name)[:-20] != index.footer(name)[:-20]:
                        return "the xorb's footer does not tell its chunks"
            except (BrokenXorb, IndexError, ValueError) as error:
                return f"the xorb is damaged: {error}"
        return None

    def _fault(self, kind: str, name: str, what: str, advice: str) -> Fault:
        fault = Fault(what=what, kind=kind, name=name, advice=advice)
        self.bad[kind, name] = fault
        return fault

    def _has_rows(self, column: Any, name: str) -> bool:
        with self._database.reading() as session:
            return session.scalar(sa.select(sa.literal(1)).where(column == name).limit(1)) is not None

    def _drop_rows(self, table: type[Any], column: Any, name: str) -> None:
        with self._database.writing() as session:
            session.execute(sa.delete(table).where(column == name))

    # -- mending -----------------------------------------------------------------------------------------------------
    def _mend(self, kind: str, table: type[Any], column: Any, name: str, fault: Fault) -> None:
        """A xorb whose chunks are whole gets its footer anew; anything else is set aside and no longer named."""
        footed = self._with_footer(name) if kind == XORBS else None
        self._set_aside(kind, name)
        if footed is not None:
            with Draft(self._staging, "footer") as draft:
                draft.write(footed)
                self._objects.place(draft, key(kind, name))
            fault.repaired = "the footer was written anew"
            return
        self._drop_rows(table, column, name)
        fault.repaired = f"moved to {self._aside(kind, name)}; the rows that named it were dropped"

    def _with_footer(self, name: str) -> bytes | None:
        with self._objects.open(key(XORBS, name)) as stored:
            data = stored.read(0, stored.size)
        with contextlib.suppress(BrokenXorb):
            length, index = xorbs.verify(data, name)
            return data[:length] + index.footer(name)
        for cut in _ends_of_chunks(data):  # what follows the chunks is no footer any more
            with contextlib.suppress(BrokenXorb):
                length, index = xorbs.verify(data[:cut], name)
                return data[:length] + index.footer(name)
        return None

    def _set_aside(self, kind: str, name: str) -> None:
        target = self._aside(kind, name)
        make_folder(target.parent)
        with contextlib.suppress(FileExistsError):
            self._objects.fetch(key(kind, name), target)
        self._objects.remove(key(kind, name))

    def _aside(self, kind: str, name: str) -> Path:
        return self._quarantine / kind / name

    def set_aside_git(self, name: str) -> str:
        """Move a damaged git object away; returns where to."""
        self._set_aside(GIT, name)
        return str(self._aside(GIT, name))

    # -- files made of xorbs -----------------------------------------------------------------------------------------
    def _check_files(self) -> None:
        after = ("", "")
        order = sa.tuple_(XetFileRow.tenant, XetFileRow.hash)
        while True:
            wanted = (
                sa.select(XetFileRow)
                .where(order > sa.tuple_(*map(sa.literal, after)))
                .order_by(XetFileRow.tenant, XetFileRow.hash)
                .limit(20)
            )
            with self._database.reading() as session:
                rows = list(session.scalars(wanted))
            if not rows:
                return
            for row in rows:
                self._count("xet")
                self._check_file(file_of(row.tenant, row.hash, row.sha256, unpacked_terms(row.terms)), row.size)
                self._rest()
            after = (rows[-1].tenant, rows[-1].hash)

    def _check_file(self, file: XetFile, size: int) -> None:
        damage = self._file_damage(file, size)
        if damage is None:
            return
        mine = (XetFileRow.tenant == file.tenant, XetFileRow.hash == file.hash)
        with self._database.reading() as session:
            if session.scalar(sa.select(XetFileRow.hash).where(*mine)) is None:
                return  # taken away while the check ran
        fault = self._fault("xet", file.hash, damage, SEND_AGAIN)
        if self._repair:
            with self._database.writing() as session:
                session.execute(sa.delete(XetFileRow).where(*mine))
            fault.repaired = "the row of the file was dropped"

    def _file_damage(self, file: XetFile, size: int) -> str | None:
        if file.size != size:
            return f"the file's terms have {file.size} bytes, {size} were stored"
        for term in file.terms:
            bad = self.bad.get((XORBS, term.xorb))
            if bad is not None and not bad.repaired.startswith("the footer"):
                return f"its xorb {term.xorb}: {bad.what}"
            try:
                index = self._xet.index(term.xorb)
                if not 0 <= term.start < term.end <= index.count:
                    return f"it names chunks that the xorb {term.xorb} does not have"
                if index.raw_length(term.start, term.end) != term.length:
                    return f"its chunks of the xorb {term.xorb} have another length"
            except ContentNotFound:
                return f"its xorb {term.xorb} is gone"
            except BrokenXorb as error:
                return f"its xorb {term.xorb}: {error.message}"
        return self._deep_damage(file) if self._deep else None

    def _deep_damage(self, file: XetFile) -> str | None:
        nodes = (node for term in file.terms for node in self._xet.index(term.xorb).nodes(term.start, term.end))
        if hashes.to_text(hashes.file_hash(nodes)) != file.hash:
            return "its chunks give another file hash"
        digest = hashlib.sha256()
        try:
            for number, piece in enumerate(self._xet.read(file, 0, file.size)):
                digest.update(piece)
                if number % 64 == 0:
                    self._rest()
        except BrokenXorb as error:
            return f"it cannot be rebuilt: {error.message}"
        return None if digest.hexdigest() == file.sha256 else "its bytes have another sha256"

    # -- the rest ----------------------------------------------------------------------------------------------------
    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _count_orphans(self, kind: str, column: Any) -> None:
        page: list[str] = []

        def count() -> None:
            with self._database.reading() as session:
                named = set(session.scalars(sa.select(column).where(column.in_(page))))
            self.orphans[kind] = self.orphans.get(kind, 0) + len(set(page) - named)
            page.clear()
            self._rest()

        for listed in self._objects.listed(kind):
            page.append(name_of(listed.key))
            if len(page) >= _PAGE:
                count()
        count()


def _ends_of_chunks(data: bytes) -> Iterator[int]:
    """Where the chunks of a xorb may end by what their headers tell, the furthest two first."""
    ends, at = [0, 0], 0
    while at + xorbs.HEADER <= len(data) and data[at] == 0:
        at += xorbs.HEADER + int.from_bytes(data[at + 1 : at + 4], "little")
        if at <= len(data):
            ends.append(at)
    yield from reversed(ends[-2:])
