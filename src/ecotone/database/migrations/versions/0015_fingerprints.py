"""Fingerprints of weights by content, the tensors by which they are found, and the weights of revisions."""

import sqlalchemy as sa
from alembic import op

from ecotone.database.engine import UtcDateTime

revision = "0015_fingerprints"
down_revision = "0014_deployment_options"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "weight_prints",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_weight_prints")),
    )
    op.create_index(op.f("ix_weight_prints_created"), "weight_prints", ["created"])
    op.create_table(
        "weight_tensors",
        sa.Column("hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("hash", "name", name=op.f("pk_weight_tensors")),
    )
    op.create_index("ix_weight_tensors_name", "weight_tensors", ["name"])
    op.create_table(
        "weight_sets",
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("sha", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("signature", sa.String(length=32), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("job", sa.String(length=32), nullable=True),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_key"], ["models.key"], name=op.f("fk_weight_sets_model_key_models"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_key", "sha", name=op.f("pk_weight_sets")),
    )
    op.create_index("ix_weight_sets_signature_created", "weight_sets", ["signature", "created"])
    op.create_index(op.f("ix_weight_sets_state"), "weight_sets", ["state"])
    op.create_table(
        "weight_files",
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("added", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_key"], ["models.key"], name=op.f("fk_weight_files_model_key_models"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_key", "name", name=op.f("pk_weight_files")),
    )
    op.create_index(op.f("ix_weight_files_name"), "weight_files", ["name"])


def downgrade() -> None:
    for table in ("weight_files", "weight_sets", "weight_tensors", "weight_prints"):
        op.drop_table(table)
