"""The table of deployments: what should be served, also after a restart of the server."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base


class DeploymentRow(Base):
    __tablename__ = "deployments"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(200), unique=True)
    revision: Mapped[str] = mapped_column(String(40))
    projects: Mapped[list[str]]
    options: Mapped[dict[str, Any]]
    actor: Mapped[str] = mapped_column(String(96))
    created: Mapped[datetime]
