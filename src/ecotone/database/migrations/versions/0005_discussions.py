"""Discussions and pull requests of a repository, and what happened in them."""

import sqlalchemy as sa
from alembic import op

from ecotone.database.engine import UtcDateTime

revision = "0005_discussions"
down_revision = "0004_detected_licences"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "discussions",
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("num", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("author", sa.String(length=96), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("base", sa.String(length=255), nullable=True),
        sa.Column("fork", sa.String(length=40), nullable=True),
        sa.Column("merge_commit", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_key"], ["models.key"], name=op.f("fk_discussions_model_key_models"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_key", "num", name=op.f("pk_discussions")),
    )
    with op.batch_alter_table("discussions", schema=None) as batch_op:
        batch_op.create_index("ix_discussions_author", ["model_key", "author"], unique=False)
    op.create_table(
        "discussion_events",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("num", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("author", sa.String(length=96), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_key", "num"],
            ["discussions.model_key", "discussions.num"],
            name="fk_discussion_events_discussions",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_discussion_events")),
    )
    with op.batch_alter_table("discussion_events", schema=None) as batch_op:
        batch_op.create_index("ix_discussion_events_order", ["model_key", "num", "place"], unique=False)


def downgrade() -> None:
    op.drop_table("discussion_events")
    op.drop_table("discussions")
