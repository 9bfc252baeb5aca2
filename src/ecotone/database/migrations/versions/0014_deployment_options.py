"""Options of deployments: replicas, kind, idle time."""

import sqlalchemy as sa
from alembic import op

revision = "0014_deployment_options"
down_revision = "0013_usage"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("deployments") as table:
        table.add_column(sa.Column("options", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("deployments") as table:
        table.alter_column("options", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("deployments") as table:
        table.drop_column("options")
