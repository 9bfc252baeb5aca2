"""Tables of storage: which namespace may name which object. The bytes are files."""

import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, LargeBinary, String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from ecotone.database import Base, Database

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
    sha256: Mapped[str] = mapped_column(String(64))
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


def remember(database: Database, rows: Iterable[Base]) -> int:
    """Add the rows of one table that are not there yet, in one transaction; returns how many they were.

    Rows of these tables are facts that never change, so a writer that came first was right too.
    """
    wanted = {tuple(sa.inspect(type(row)).primary_key_from_instance(row)): row for row in rows}
    if not wanted:
        return 0
    for attempt in range(_ATTEMPTS):
        try:
            with database.writing() as session:
                new = 0
                for some in _batches(wanted):
                    new += _add(session, dict(some))
                return new
        except IntegrityError:  # another process added one of them in between
            if attempt == _ATTEMPTS - 1:
                raise
    return 0


def _add(session: Session, rows: dict[tuple[Any, ...], Base]) -> int:
    mapper = sa.inspect(type(next(iter(rows.values()))))
    key = sa.tuple_(*mapper.primary_key)
    known = {tuple(found) for found in session.execute(sa.select(*mapper.primary_key).where(key.in_(list(rows))))}
    fresh = [row for name, row in rows.items() if name not in known]
    if fresh:
        names = [column.key for column in mapper.columns]
        session.execute(sa.insert(mapper.class_), [{name: getattr(row, name) for name in names} for row in fresh])
    return len(fresh)


def _batches(rows: dict[tuple[Any, ...], Base]) -> Iterator[list[tuple[tuple[Any, ...], Base]]]:
    items = iter(rows.items())
    while some := list(itertools.islice(items, _BATCH)):
        yield some
