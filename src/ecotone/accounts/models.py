"""Tables of accounts."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class TokenRow(Base):
    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    user: Mapped[str] = mapped_column(String(96))
    role: Mapped[str] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(String(200), default="")
    created: Mapped[datetime]
    revoked: Mapped[datetime | None]


class ProjectRow(Base):
    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    mode: Mapped[str] = mapped_column(String(32))
    purpose: Mapped[str] = mapped_column(String(32))
    personal_data: Mapped[str] = mapped_column(String(16))
    users: Mapped[int | None]
    revenue: Mapped[float | None]
    territory: Mapped[list[str]]
    variables: Mapped[dict[str, Any]]
    may_call_private: Mapped[bool]
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))


class KeyRow(Base):
    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name", ondelete="CASCADE"), index=True)
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    revoked: Mapped[datetime | None]


class ProfileRow(Base):
    """The organisation's profile, one row; what it was before stands in the ledger."""

    __tablename__ = "organisation_profile"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    profile: Mapped[dict[str, Any]]
    updated: Mapped[datetime]
    updated_by: Mapped[str] = mapped_column(String(96))
