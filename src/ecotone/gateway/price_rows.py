"""The table of prices that the organisation set itself."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class PriceRow(Base):
    """One version of a price; the one without an end is in force."""

    __tablename__ = "price_overrides"
    __table_args__ = (
        Index(
            "ix_price_overrides_in_force",
            "model",
            unique=True,
            sqlite_where=text("ended IS NULL"),
            postgresql_where=text("ended IS NULL"),
        ),
    )

    model: Mapped[str] = mapped_column(String(300), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    free: Mapped[bool]
    figures: Mapped[dict[str, Any]]
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    ended: Mapped[datetime | None]
    ended_by: Mapped[str | None] = mapped_column(String(96))
