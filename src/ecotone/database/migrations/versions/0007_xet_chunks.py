"""An index of chunks for global deduplication."""

import sqlalchemy as sa
from alembic import op

revision = "0007_xet_chunks"
down_revision = "0006_community"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "xet_chunks",
        sa.Column("tenant", sa.String(96), nullable=False),
        sa.Column("chunk", sa.String(64), nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "file"],
            ["xet_files.tenant", "xet_files.hash"],
            name=op.f("fk_xet_chunks_tenant_xet_files"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant", "chunk", name=op.f("pk_xet_chunks")),
    )
    op.create_index("ix_xet_chunks_file", "xet_chunks", ["tenant", "file"])


def downgrade() -> None:
    op.drop_index("ix_xet_chunks_file", table_name="xet_chunks")
    op.drop_table("xet_chunks")
