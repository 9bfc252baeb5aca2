"""What administrators say of lineage edges."""

import sqlalchemy as sa
from alembic import op

from ecotone.database.engine import UtcDateTime

revision = "0017_edge_words"
down_revision = "0016_output_provenance"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "edge_words",
        sa.Column("id", sa.String(24), nullable=False),
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("sha", sa.String(40), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("parent", sa.String(200), nullable=False),
        sa.Column("parent_folded", sa.String(600), nullable=False),
        sa.Column("parent_key", sa.Integer(), nullable=True),
        sa.Column("relation", sa.String(32), nullable=False),
        sa.Column("word", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(96), nullable=False),
        sa.Column("approved", UtcDateTime(), nullable=True),
        sa.Column("approved_by", sa.String(96), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_key"], ["models.key"], name="fk_edge_words_model_key_models", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_key"], ["models.key"], name="fk_edge_words_parent_key_models", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_edge_words"),
    )
    op.create_index("ix_edge_words_model_key", "edge_words", ["model_key"])
    with op.batch_alter_table("lineage_edges") as table:
        table.add_column(sa.Column("word_id", sa.String(24), nullable=True))
        table.create_foreign_key(
            "fk_lineage_edges_word_id_edge_words", "edge_words", ["word_id"], ["id"], ondelete="SET NULL"
        )
        table.create_index("ix_lineage_edges_word_id", ["word_id"])


def downgrade() -> None:
    with op.batch_alter_table("lineage_edges") as table:
        table.drop_index("ix_lineage_edges_word_id")
        table.drop_constraint("fk_lineage_edges_word_id_edge_words", type_="foreignkey")
        table.drop_column("word_id")
    op.drop_table("edge_words")
