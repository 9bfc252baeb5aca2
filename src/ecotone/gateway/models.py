"""Tables of the gateway."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, String
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
    """A route. `weights` stand beside `targets`; empty is the same for each. `options` are those of `routing.Route`."""

    __tablename__ = "routes"

    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    targets: Mapped[list[str]]
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    strategy: Mapped[str] = mapped_column(String(16), default="fallback")
    weights: Mapped[list[float]] = mapped_column(JSON, default=list)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)


class LimitRow(Base):
    """What a scope may use; `budgets` as they are written, such as `50USD/month`."""

    __tablename__ = "limits"

    scope: Mapped[str] = mapped_column(String(240), primary_key=True)
    requests: Mapped[int | None] = mapped_column(BigInteger)
    tokens: Mapped[int | None] = mapped_column(BigInteger)
    concurrent: Mapped[int | None] = mapped_column(BigInteger)
    budgets: Mapped[list[str]]
    updated: Mapped[datetime]
    updated_by: Mapped[str] = mapped_column(String(96))
