"""Each chain's length and head in the database, so that a ledger whose tail was cut fails verification."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base, Database, alone
from ecotone.ledger import Head


class LedgerHeadRow(Base):
    __tablename__ = "ledger_heads"

    writer: Mapped[str] = mapped_column(String(64), primary_key=True)
    records: Mapped[int]
    hash: Mapped[str] = mapped_column(String(64))


class LedgerHeads:
    """The last known head of each writer's chain."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, heads: Mapping[str, Head]) -> None:
        """Record heads that have reached the disk; a head never moves back."""
        with self._database.writing() as session:
            alone(session, "ledger heads")
            for writer, head in heads.items():
                row = session.get(LedgerHeadRow, writer)
                if row is None:
                    session.add(LedgerHeadRow(writer=writer, records=head.records, hash=head.hash))
                elif head.records > row.records:
                    row.records, row.hash = head.records, head.hash

    def known(self) -> dict[str, Head]:
        with self._database.reading() as session:
            rows = session.scalars(sa.select(LedgerHeadRow)).all()
        return {row.writer: Head(records=row.records, hash=row.hash) for row in rows}
