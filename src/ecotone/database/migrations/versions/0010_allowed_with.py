"""With which token the device login was allowed that a token came of."""

import sqlalchemy as sa
from alembic import op

revision = "0010_allowed_with"
down_revision = "0009_collecting"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("allowed_with", sa.String(length=32), nullable=True))
    op.create_index(op.f("ix_tokens_allowed_with"), "tokens", ["allowed_with"])


def downgrade() -> None:
    op.drop_index(op.f("ix_tokens_allowed_with"), "tokens")
    op.drop_column("tokens", "allowed_with")
