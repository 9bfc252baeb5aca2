"""Tables of accounts."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class TokenRow(Base):
    """A user's token. `allowed_with` is the id of the one with which the device login was allowed that it came of."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    user: Mapped[str] = mapped_column(String(96))
    role: Mapped[str] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(String(200), default="")
    created: Mapped[datetime]
    revoked: Mapped[datetime | None]
    expires: Mapped[datetime | None]
    allowed_with: Mapped[str | None] = mapped_column(String(32), index=True)


class SessionRow(Base):
    """A browser's session, opened with a token. `hash` is SHA-256 of what its cookie holds."""

    __tablename__ = "sessions"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), index=True)
    created: Mapped[datetime]
    expires: Mapped[datetime] = mapped_column(index=True)


class DeviceLoginRow(Base):
    """A login that a device asked for (RFC 8628), until its token is fetched. `device_hash` is SHA-256 of its code."""

    __tablename__ = "device_logins"

    device_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_code: Mapped[str] = mapped_column(String(16), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    asked_from: Mapped[str] = mapped_column(String(200))
    created: Mapped[datetime]
    expires: Mapped[datetime] = mapped_column(index=True)
    interval: Mapped[int]
    polled: Mapped[datetime | None]
    user: Mapped[str | None] = mapped_column(String(96))
    role: Mapped[str | None] = mapped_column(String(16))
    until: Mapped[datetime | None]
    approved_with: Mapped[str | None] = mapped_column(String(32))


class RefreshRow(Base):
    """What renews the token of a device login, once. `until` is the moment beyond which nothing is renewed."""

    __tablename__ = "refresh_tokens"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), index=True)
    expires: Mapped[datetime] = mapped_column(index=True)
    until: Mapped[datetime | None]
    used: Mapped[datetime | None]
    followed_by: Mapped[str | None] = mapped_column(String(32))


class ProjectRow(Base):
    """A project. `owners` are users who may keep its keys; `models` and `networks` bound every key of it; texts are
    kept for `keep_days`, 0 for not at all, and where they are not looked through, `scan_reason` says why."""

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
    owners: Mapped[list[str]] = mapped_column(default=list)
    models: Mapped[list[str]] = mapped_column(default=list)
    networks: Mapped[list[str]] = mapped_column(default=list)
    tags: Mapped[list[str]] = mapped_column(default=list)
    scan: Mapped[bool] = mapped_column(default=True)
    scan_reason: Mapped[str] = mapped_column(String(500), default="")
    keep_days: Mapped[int] = mapped_column(default=0)


class KeyRow(Base):
    """A key. `hash` is that of its newest secret; `vouched_by` is the user whose rights bound it."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name", ondelete="CASCADE"), index=True)
    created: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(96))
    revoked: Mapped[datetime | None]
    note: Mapped[str] = mapped_column(String(200), default="")
    expires: Mapped[datetime | None]
    models: Mapped[list[str]] = mapped_column(default=list)
    networks: Mapped[list[str]] = mapped_column(default=list)
    tags: Mapped[list[str]] = mapped_column(default=list)
    vouched_by: Mapped[str] = mapped_column(String(96))


class OldSecretRow(Base):
    """A secret that a key had before it was rotated, good until a moment."""

    __tablename__ = "old_secrets"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id", ondelete="CASCADE"), index=True)
    until: Mapped[datetime]


class ProfileRow(Base):
    """The organisation's profile, one row; what it was before stands in the ledger."""

    __tablename__ = "organisation_profile"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    profile: Mapped[dict[str, Any]]
    updated: Mapped[datetime]
    updated_by: Mapped[str] = mapped_column(String(96))
