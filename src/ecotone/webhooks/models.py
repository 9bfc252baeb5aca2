"""Tables of webhooks: who is told of what, and the outbox of what is to be told."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class WebhookRow(Base):
    """A subscription of a user. `secret` is encrypted; `failures` counts deliveries given up in a row."""

    __tablename__ = "webhooks"

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(24), unique=True)
    user: Mapped[str] = mapped_column(String(96), index=True)
    url: Mapped[str] = mapped_column(String(500))
    domains: Mapped[list[str]]
    secret: Mapped[str | None] = mapped_column(Text)
    disabled: Mapped[bool]
    why_disabled: Mapped[str] = mapped_column(String(300), default="")
    failures: Mapped[int] = mapped_column(default=0)
    left_out: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime]


class WatchRow(Base):
    """A repository (`model`, `dataset`, `space`) or namespace (`user`, `org`) that a webhook watches."""

    __tablename__ = "webhook_watches"
    __table_args__ = (Index("ix_webhook_watches_watched", "kind", "folded"),)

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    webhook_key: Mapped[int] = mapped_column(ForeignKey("webhooks.key", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(200))
    folded: Mapped[str] = mapped_column(String(600))


class DeliveryRow(Base):
    """One event for one webhook, with the exact body. Written in the transaction of the change that it tells of."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_waiting", "state", "webhook_key", "key"),
        Index("ix_webhook_deliveries_recent", "webhook_key", "created"),
    )

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    webhook_key: Mapped[int] = mapped_column(ForeignKey("webhooks.key", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(200))
    model_key: Mapped[int]
    private: Mapped[bool]
    body: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    due: Mapped[datetime]
    tried: Mapped[datetime | None]
    status: Mapped[int | None]
    problem: Mapped[str] = mapped_column(String(300), default="")
