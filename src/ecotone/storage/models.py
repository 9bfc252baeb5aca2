"""Tables of storage: which namespace may name which object. The bytes are files."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


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
