"""Keys with terms and rotation, projects with bounds, limits and budgets by scope, routes with a strategy."""

import sqlalchemy as sa
from alembic import op

revision = "0012_limits"
down_revision = "0011_prices"
branch_labels = None
depends_on = None

_LISTS = {"projects": ("owners", "models", "networks", "tags"), "keys": ("models", "networks", "tags")}


def upgrade() -> None:
    for table, names in _LISTS.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in names:
                batch_op.add_column(sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("projects", schema=None) as batch_op:
        batch_op.add_column(sa.Column("scan", sa.Boolean(), nullable=False, server_default=sa.true()))
        batch_op.add_column(sa.Column("keep_days", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("note", sa.String(length=200), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("expires", sa.DateTime(timezone=True), nullable=True))
        # keys made before hang on nobody's rights: the installation itself answers for them
        batch_op.add_column(sa.Column("vouched_by", sa.String(length=96), nullable=False, server_default="ecotone"))
    op.create_table(
        "old_secrets",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_old_secrets_key_id_keys"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_old_secrets")),
    )
    op.create_index(op.f("ix_old_secrets_key_id"), "old_secrets", ["key_id"])
    op.create_table(
        "limits",
        sa.Column("scope", sa.String(length=240), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.Column("concurrent", sa.BigInteger(), nullable=True),
        sa.Column("budgets", sa.JSON(), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_limits")),
    )
    with op.batch_alter_table("routes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("strategy", sa.String(length=16), nullable=False, server_default="fallback"))
        batch_op.add_column(sa.Column("weights", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("options", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    with op.batch_alter_table("routes", schema=None) as batch_op:
        for name in ("options", "weights", "strategy"):
            batch_op.drop_column(name)
    op.drop_table("limits")
    op.drop_index(op.f("ix_old_secrets_key_id"), "old_secrets")
    op.drop_table("old_secrets")
    with op.batch_alter_table("keys", schema=None) as batch_op:
        for name in ("vouched_by", "expires", "note"):
            batch_op.drop_column(name)
    with op.batch_alter_table("projects", schema=None) as batch_op:
        for name in ("keep_days", "scan"):
            batch_op.drop_column(name)
    for table, names in _LISTS.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in names:
                batch_op.drop_column(name)
