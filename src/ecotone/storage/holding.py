"""Where the bytes of files are held: by which namespaces, in which form, and whole in the cache. Only reads."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa

from ecotone.database import Database, batches
from ecotone.storage.models import CondemnedRow, LfsObjectRow, XetFileRow

_BATCH = 300


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A large file that a namespace may name, whole (`lfs`) or as ranges of xorbs (`xet`). `condemned`: garbage
    collection has it on its list, since nobody names it."""

    tenant: str
    sha256: str
    form: str
    size: int
    condemned: bool = False


class WholeCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of whole files that engines, audits and tuning read: of a repository's row and a revision."""

    row: int
    revision: str
    folder: str
    size: int


class Holdings:
    """Questions to the tables and the cache of one installation.

    Args:
        materialised: the folder of whole files.
    """

    def __init__(self, database: Database, materialised: Path) -> None:
        self._database, self._materialised = database, materialised

    def of(self, sha256s: Iterable[str]) -> list[Held]:
        """Who holds these files, by namespace and hash."""
        wanted, found = sorted(set(sha256s)), list[Held]()
        with self._database.reading() as session:
            for some in batches(wanted, _BATCH):
                gone = sa.select(CondemnedRow.name).where(CondemnedRow.kind == "lfs", CondemnedRow.name.in_(some))
                condemned = set(session.scalars(gone))
                for table, form in ((LfsObjectRow, "lfs"), (XetFileRow, "xet")):
                    columns = sa.select(table.tenant, table.sha256, table.size).where(table.sha256.in_(some))
                    found += [
                        Held(tenant=t, sha256=s, form=form, size=n, condemned=form == "lfs" and s in condemned)
                        for t, s, n in session.execute(columns)
                    ]
                for name in sorted(condemned - {h.sha256 for h in found}):
                    found.append(Held(tenant="", sha256=name, form="lfs", size=0, condemned=True))
        return sorted(found, key=lambda h: (h.tenant, h.sha256, h.form))

    def whole_copies(self, rows: Iterable[int]) -> Iterator[WholeCopy]:
        """Folders of whole files of these repositories."""
        wanted = set(rows)
        if not self._materialised.is_dir():
            return
        for folder in sorted(self._materialised.iterdir()):
            row, _, revision = folder.name.partition("-")
            if row.isascii() and row.isdigit() and int(row) in wanted:
                with contextlib.suppress(FileNotFoundError):  # the cache drops folders at any time
                    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
                    yield WholeCopy(row=int(row), revision=revision, folder=folder.name, size=size)
