"""Tables of storage: which namespace may name which object. The bytes are files."""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import BigInteger, Index, LargeBinary, String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base, Database

_ATTEMPTS = 5


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


class LfsObjectRow(Base):
    """A whole file by sha256, sent by a namespace."""

    __tablename__ = "lfs_objects"

    tenant: Mapped[str] = mapped_column(String(96), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime]


def remember(database: Database, rows: Iterable[Base]) -> int:
    """Add the rows that are not there yet, in one transaction; returns how many they were.

    Rows of these tables are facts that never change, so a writer that came first was right too.
    """
    wanted = list(rows)
    for attempt in range(_ATTEMPTS):
        try:
            with database.writing() as session:
                new = 0
                for row in wanted:
                    key = sa.inspect(type(row)).primary_key_from_instance(row)
                    if session.get(type(row), tuple(key)) is None:
                        session.merge(row)
                        new += 1
                return new
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
    return 0
