"""Fingerprints of weight files, by the name of their content: sha256 of a large file, git id of a small one.

The fingerprints are objects beside the files; tables find those that hold a tensor. They outlive their bytes as long as
a repository, or the tombstone of one, names them: a deleted parent still answers.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from math import prod
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from ecotone.database import Base, Database, batches, utc_now
from ecotone.lineage import Fingerprint
from ecotone.lineage.arriving import Print
from ecotone.storage.errors import ContentNotFound
from ecotone.storage.models import LfsObjectRow, XetFileRow
from ecotone.storage.objects import Objects, key, pieces

KIND = "prints"
MOST_TENSORS = 1024
MOST_ASKED = 256
_PAGE = 500
_HASH_BYTES = 16


class PrintRow(Base):
    """A weight file has a fingerprint. `created` is when it was last taken."""

    __tablename__ = "weight_prints"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    created: Mapped[datetime] = mapped_column(index=True)


class TensorRow(Base):
    """A weight file holds a tensor; `hash` is the first 16 bytes of the tensor's. The largest of each file are here."""

    __tablename__ = "weight_tensors"
    __table_args__ = (Index("ix_weight_tensors_name", "name"),)

    hash: Mapped[bytes] = mapped_column(LargeBinary(_HASH_BYTES), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)


class Prints:
    """The service. Thread-safe."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects

    def keep(self, name: str, found: Print | None) -> None:
        """Keep what was taken of a content, durable when it returns; nothing for what is no weights."""
        if found is None:
            return
        data, at = msgspec.msgpack.encode(found), key(KIND, name)
        self._objects.put(data, at)
        with self._database.writing() as session:
            self._insert(session, PrintRow, [{"name": name, "created": utc_now()}])
            session.execute(sa.update(PrintRow).where(PrintRow.name == name).values(created=utc_now()))
            if found.fingerprint is not None:
                rows: list[dict[str, Any]] = [{"hash": value, "name": name} for value in _largest(found.fingerprint)]
                for some in batches(rows, _PAGE):
                    self._insert(session, TensorRow, some)
            if self._objects.size(at) is None:  # collected in between
                self._objects.put(data, at)

    def of(self, name: str) -> Print | None:
        """What is kept of a content; None when nothing is, or when a later version must take it anew."""
        try:
            with self._objects.open(key(KIND, name)) as stored:
                return msgspec.msgpack.decode(b"".join(pieces(stored, 0, stored.size)), type=Print)
        except (ContentNotFound, msgspec.MsgspecError):
            return None

    def known(self, names: Iterable[str]) -> set[str]:
        """Those of some contents that something is kept of."""
        found: set[str] = set()
        with self._database.reading() as session:
            for some in batches(sorted(set(names)), _PAGE):
                found |= set(session.scalars(sa.select(PrintRow.name).where(PrintRow.name.in_(some))))
        return found

    def sharing(self, fingerprint: Fingerprint, *, limit: int) -> dict[str, int]:
        """The contents that hold most of a fingerprint's large tensors, with how many of them."""
        wanted = list(_largest(fingerprint))[:MOST_ASKED]
        if not wanted:
            return {}
        count = sa.func.count()
        rows = sa.select(TensorRow.name, count).where(TensorRow.hash.in_(wanted)).group_by(TensorRow.name)
        with self._database.reading() as session:
            return {n: int(c) for n, c in session.execute(rows.order_by(count.desc(), TensorRow.name).limit(limit))}

    def collect(
        self,
        named: Callable[[set[str]], set[str]],
        cutoff: datetime,
        *,
        dry_run: bool = False,
        rest: Callable[[], None] = lambda: None,
    ) -> int:
        """Remove the fingerprints of contents that are gone and that nobody names; returns how many.

        Args:
            named: those of some contents that a repository or a tombstone names.
            cutoff: what was taken later stays.
        """
        removed = 0
        for names in self._pages(cutoff):
            doomed = sorted(names - self._stored(names) - named(names))
            if doomed and not dry_run:
                with self._database.writing() as session:
                    for name in self._old(session, doomed, cutoff):
                        session.execute(sa.delete(TensorRow).where(TensorRow.name == name))
                        session.execute(sa.delete(PrintRow).where(PrintRow.name == name))
                        self._objects.remove(key(KIND, name))
            removed += len(doomed)
            rest()
        return removed

    def _old(self, session: Session, names: list[str], cutoff: datetime) -> list[str]:
        wanted = sa.select(PrintRow.name).where(PrintRow.name.in_(names), PrintRow.created < cutoff)
        return list(session.scalars(wanted.with_for_update(skip_locked=True)))

    def _pages(self, cutoff: datetime) -> Iterator[set[str]]:
        after = ""
        while True:
            wanted = sa.select(PrintRow.name).where(PrintRow.name > after, PrintRow.created < cutoff)
            with self._database.reading() as session:
                names = session.scalars(wanted.order_by(PrintRow.name).limit(_PAGE)).all()
            if not names:
                return
            yield set(names)
            after = names[-1]

    def _stored(self, names: set[str]) -> set[str]:
        """Those whose bytes some namespace has."""
        found: set[str] = set()
        with self._database.reading() as session:
            for column in (LfsObjectRow.sha256, XetFileRow.sha256):
                found |= set(session.scalars(sa.select(column).where(column.in_(names)).distinct()))
        return found

    def _insert(self, session: Session, table: type[Any], rows: list[dict[str, Any]]) -> None:
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        session.execute(insert(table).values(rows).on_conflict_do_nothing())


def _largest(fingerprint: Fingerprint) -> Iterable[bytes]:
    """Hashes of the largest tensors, largest first, each once."""
    hashed = [(prod(t.shape), t.hash) for t in fingerprint.tensors.values() if t.hash is not None]
    ordered = (h for _, h in sorted(hashed, key=lambda one: (-one[0], one[1])))
    return list(dict.fromkeys(bytes.fromhex(h)[:_HASH_BYTES] for h in ordered))[:MOST_TENSORS]
