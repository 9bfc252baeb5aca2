"""Tables of policy."""

from datetime import date, datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class RuleRow(Base):
    __tablename__ = "rules"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(200), index=True)
    value: Mapped[str | None] = mapped_column(String(400))
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    expires: Mapped[date | None]
    evidence: Mapped[str | None] = mapped_column(Text)
    approved: Mapped[datetime | None]
    approved_by: Mapped[str | None] = mapped_column(String(96))
