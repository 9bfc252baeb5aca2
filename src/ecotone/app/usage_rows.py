"""The tables of usage: a projection of the ledger, kept up to date from all chains and made anew at will.

Each segment's place up to which it was taken stands in the database and changes in the transaction that adds its
sums, so that every record counts once, whoever projects and whenever it is killed. The sums of segments that were
removed after their export are kept apart (`retired`) and survive a rebuild.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class UsageRow(Base):
    """What was used in an hour by one combination. Money is in 10^-6 USD and a rest in 10^-12, neither carried into the
    other: sums of either stay far below 2^63."""

    __tablename__ = "usage_rows"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    retired: Mapped[bool]
    hour: Mapped[str] = mapped_column(String(13), index=True)
    project: Mapped[str] = mapped_column(String(96), index=True)
    key: Mapped[str] = mapped_column(String(64))
    user: Mapped[str] = mapped_column(String(96))
    tags: Mapped[str] = mapped_column(Text)
    route: Mapped[str] = mapped_column(String(200))
    backend: Mapped[str] = mapped_column(String(96))
    model: Mapped[str] = mapped_column(String(300))
    face: Mapped[str] = mapped_column(String(32))
    requests: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    cost_rest: Mapped[int] = mapped_column(BigInteger)
    unpriced: Mapped[int] = mapped_column(BigInteger)
    estimates: Mapped[int] = mapped_column(BigInteger)
    estimated_tokens: Mapped[int] = mapped_column(BigInteger)
    estimated_micros: Mapped[int] = mapped_column(BigInteger)
    estimated_rest: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    cached: Mapped[int] = mapped_column(BigInteger)


class UsagePosition(Base):
    """How far a segment was taken: the byte behind a record and its hash. `retired`: its sums are kept apart."""

    __tablename__ = "usage_positions"

    writer: Mapped[str] = mapped_column(String(64), primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))
    records: Mapped[int] = mapped_column(BigInteger)
    retired: Mapped[bool]


class LedgerExport(Base):
    """A closed segment that was exported whole, and the SHA-256 of the export that held it last."""

    __tablename__ = "ledger_exports"

    writer: Mapped[str] = mapped_column(String(64), primary_key=True)
    segment: Mapped[int] = mapped_column(primary_key=True)
    exported: Mapped[datetime]
    sha256: Mapped[str] = mapped_column(String(64))


WHO = ("hour", "project", "key", "user", "tags", "route", "backend", "model", "face")
COUNTED = tuple(column.name for column in UsageRow.__table__.columns if isinstance(column.type, sa.BigInteger))
"""The columns that add up."""
