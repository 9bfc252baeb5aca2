"""Usage as projections of the ledger, how far its segments were taken, and which of them were exported."""

import sqlalchemy as sa
from alembic import op

from ecotone.database.engine import UtcDateTime

revision = "0013_usage"
down_revision = "0012_limits"
branch_labels = None
depends_on = None

_WHO = {"project": 96, "key": 64, "user": 96}
_WHERE = {"route": 200, "backend": 96, "model": 300, "face": 32}
_COUNTED = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_micros",
    "cost_rest",
    "unpriced",
    "estimates",
    "estimated_tokens",
    "estimated_micros",
    "estimated_rest",
    "errors",
    "cached",
)


def upgrade() -> None:
    op.create_table(
        "usage_rows",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("hour", sa.String(length=13), nullable=False),
        *(sa.Column(name, sa.String(length=length), nullable=False) for name, length in _WHO.items()),
        sa.Column("tags", sa.Text(), nullable=False),
        *(sa.Column(name, sa.String(length=length), nullable=False) for name, length in _WHERE.items()),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTED),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_rows")),
    )
    op.create_index(op.f("ix_usage_rows_hour"), "usage_rows", ["hour"])
    op.create_index(op.f("ix_usage_rows_project"), "usage_rows", ["project"])
    op.create_table(
        "usage_positions",
        sa.Column("writer", sa.String(length=64), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("writer", "segment", name=op.f("pk_usage_positions")),
    )
    op.create_table(
        "ledger_exports",
        sa.Column("writer", sa.String(length=64), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("exported", UtcDateTime(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("writer", "segment", name=op.f("pk_ledger_exports")),
    )


def downgrade() -> None:
    op.drop_table("ledger_exports")
    op.drop_table("usage_positions")
    op.drop_index(op.f("ix_usage_rows_project"), "usage_rows")
    op.drop_index(op.f("ix_usage_rows_hour"), "usage_rows")
    op.drop_table("usage_rows")
