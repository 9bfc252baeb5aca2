"""Prices that the organisation set itself, with every version of them."""

import sqlalchemy as sa
from alembic import op

from ecotone.database.engine import UtcDateTime

revision = "0011_prices"
down_revision = "0010_allowed_with"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "price_overrides",
        sa.Column("model", sa.String(length=300), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("free", sa.Boolean(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=96), nullable=False),
        sa.Column("ended", UtcDateTime(), nullable=True),
        sa.Column("ended_by", sa.String(length=96), nullable=True),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_price_overrides")),
    )
    op.create_index(
        "ix_price_overrides_in_force",
        "price_overrides",
        ["model"],
        unique=True,
        sqlite_where=sa.text("ended IS NULL"),
        postgresql_where=sa.text("ended IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_price_overrides_in_force", "price_overrides")
    op.drop_table("price_overrides")
