"""Condemned objects, epochs of the namespaces' addresses; Xet files and objects of repositories by their names."""

import sqlalchemy as sa
from alembic import op

from ecotone.database.engine import UtcDateTime

revision = "0009_collecting"
down_revision = "0008_repositories"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "condemned_objects",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("condemned", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_condemned_objects")),
    )
    op.create_index(op.f("ix_condemned_objects_condemned"), "condemned_objects", ["condemned"])
    op.create_table(
        "tenant_epochs",
        sa.Column("tenant", sa.String(length=96), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenant_epochs")),
    )
    op.create_index(op.f("ix_xet_files_sha256"), "xet_files", ["sha256"])
    op.create_index(op.f("ix_repository_objects_name"), "repository_objects", ["name"])


def downgrade() -> None:
    op.drop_index(op.f("ix_repository_objects_name"), "repository_objects")
    op.drop_index(op.f("ix_xet_files_sha256"), "xet_files")
    op.drop_table("tenant_epochs")
    op.drop_table("condemned_objects")
