"""Sessions of browsers, and why a project's texts are not looked through."""

import sqlalchemy as sa
from alembic import op

from ecotone.database.engine import UtcDateTime

revision = "0018_sessions"
down_revision = "0017_edge_words"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("token_id", sa.String(32), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("expires", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_sessions_token_id_tokens", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", name="pk_sessions"),
    )
    op.create_index("ix_sessions_token_id", "sessions", ["token_id"])
    op.create_index("ix_sessions_expires", "sessions", ["expires"])
    op.add_column("projects", sa.Column("scan_reason", sa.String(500), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("projects", "scan_reason")
    op.drop_table("sessions")
