"""Tables of the gateway."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class BackendRow(Base):
    __tablename__ = "backends"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    dialect: Mapped[str] = mapped_column(String(16))
    url: Mapped[str] = mapped_column(String(500))
    key_env: Mapped[str | None] = mapped_column(String(100))
    location: Mapped[str] = mapped_column(String(16))
    tier: Mapped[str] = mapped_column(String(32))
    terms: Mapped[str | None] = mapped_column(String(100))
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))


class RouteRow(Base):
    __tablename__ = "routes"

    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    targets: Mapped[list[str]]
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
