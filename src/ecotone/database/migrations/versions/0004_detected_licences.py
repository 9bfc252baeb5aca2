"""What the licence files of a revision were found to be, beside what its card declares."""

import sqlalchemy as sa
from alembic import op

revision = "0004_detected_licences"
down_revision = "0003_repository_objects"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("revisions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("detected", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    with op.batch_alter_table("revisions", schema=None) as batch_op:
        batch_op.drop_column("detected")
