"""Tables of storage: which namespace may name which object, and which objects are to go. The bytes are files.

`created` of a row is when it was sent or last named by a shard or a commit: whoever names it again, in the transaction
that makes the name count, brings it up to date, and garbage collection leaves young rows alone.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, LargeBinary, String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from ecotone.database import HELD, Base, Database, batches, utc_now

_ATTEMPTS = 5
_BATCH = 200


class XorbTenantRow(Base):
    """A namespace has sent this xorb, so its files may be made of it."""

    __tablename__ = "xorb_tenants"

    tenant: Mapped[str] = mapped_column(String(96), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    created: Mapped[datetime]


class XetFileRow(Base):
    """A file made of chunk ranges of xorbs, in a namespace. `sha256` was checked by rebuilding the bytes."""

    __tablename__ = "xet_files"
    __table_args__ = (Index("ix_xet_files_tenant_sha256", "tenant", "sha256"),)

    tenant: Mapped[str] = mapped_column(String(96), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    terms: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime]


class ChunkRow(Base):
    """A chunk that clients ask for (see `deduplication`), and a file of the namespace that has it."""

    __tablename__ = "xet_chunks"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "file"], ["xet_files.tenant", "xet_files.hash"], ondelete="CASCADE"),
        Index("ix_xet_chunks_file", "tenant", "file"),
    )

    tenant: Mapped[str] = mapped_column(String(96), primary_key=True)
    chunk: Mapped[str] = mapped_column(String(64), primary_key=True)
    file: Mapped[str] = mapped_column(String(64))


class LfsObjectRow(Base):
    """A whole file by sha256, sent by a namespace."""

    __tablename__ = "lfs_objects"

    tenant: Mapped[str] = mapped_column(String(96), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime]


class CondemnedRow(Base):
    """An object that nobody names and that garbage collection will remove, unless somebody names it again before."""

    __tablename__ = "condemned_objects"

    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    condemned: Mapped[datetime] = mapped_column(index=True)


class EpochRow(Base):
    """How often garbage collection has taken xorbs of a namespace away: its address changes with each time."""

    __tablename__ = "tenant_epochs"

    tenant: Mapped[str] = mapped_column(String(96), primary_key=True)
    epoch: Mapped[int]


def remember(
    database: Database, rows: Iterable[Base], settle: Callable[[Session], None] = lambda _session: None
) -> int:
    """Add the rows of one table that are not there yet, in one transaction; returns how many they were.

    Rows of these tables are facts that never change, so a writer that came first was right too; those that are there
    become as young as new ones.

    Args:
        settle: called last before the transaction ends; what it raises undoes everything.
    """
    given = {tuple(sa.inspect(type(row)).primary_key_from_instance(row)): row for row in rows}
    if not given:
        return 0
    wanted = sorted(given.items(), key=lambda named: named[0])  # two writers of the same rows must not wait in a circle
    for attempt in range(_ATTEMPTS):
        try:
            with database.writing() as session:
                new = 0
                for some in batches(wanted, _BATCH):
                    new += _add(session, dict(some))
                settle(session)
                return new
        except IntegrityError:  # another process added one of them in between
            if attempt == _ATTEMPTS - 1:
                raise
    return 0


def _add(session: Session, rows: dict[tuple[Any, ...], Base]) -> int:
    mapper = sa.inspect(type(next(iter(rows.values()))))
    key = sa.tuple_(*mapper.primary_key)
    known = touch(session, mapper.class_, key.in_(list(rows)))
    fresh = [row for name, row in rows.items() if name not in known]
    if fresh:
        names = [column.key for column in mapper.columns]
        session.execute(sa.insert(mapper.class_), [{name: getattr(row, name) for name in names} for row in fresh])
    return len(fresh)


def touch(session: Session, table: type[Any], wanted: sa.ColumnElement[bool]) -> set[tuple[Any, ...]]:
    """Make rows that have an age as young as new ones; returns the keys of those that there are, which are locked in
    their order. Chunks may come to refer to them meanwhile, which they do in an order of their own."""
    keys = sa.inspect(table).primary_key
    there = sa.select(*keys).where(wanted).order_by(*keys)
    found = {tuple(row) for row in session.execute(there.with_for_update(**HELD))}
    if found and hasattr(table, "created"):
        session.execute(
            sa.update(table)
            .where(sa.tuple_(*keys).in_(list(found)))
            .values(created=utc_now())
            .execution_options(synchronize_session=False)
        )
    return found


def spare(session: Session, kind: str, names: Iterable[str]) -> None:
    """Take objects off the list of those to go. Waits for whoever removes one at this moment: afterwards the caller
    sees whether the object is still there."""
    wanted = sorted(set(names))
    for some in batches(wanted, _BATCH):
        at = (CondemnedRow.kind == kind, CondemnedRow.name.in_(some))
        for name in session.scalars(
            sa.select(CondemnedRow.name).where(*at).order_by(CondemnedRow.name).with_for_update()
        ).all():
            session.execute(sa.delete(CondemnedRow).where(CondemnedRow.kind == kind, CondemnedRow.name == name))
