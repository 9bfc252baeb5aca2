"""Under which terms and when outputs were made that a data set holds, and the files of such data sets."""

import sqlalchemy as sa
from alembic import op

revision = "0016_output_provenance"
down_revision = "0015_fingerprints"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("lineage_edges") as table:
        table.add_column(sa.Column("terms", sa.String(400), nullable=True))
        table.add_column(sa.Column("made_from", sa.Date(), nullable=True))
        table.add_column(sa.Column("made_until", sa.Date(), nullable=True))
    op.create_table(
        "generated_files",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_key"], ["models.key"], name="fk_generated_files_model_key_models", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", "model_key", name="pk_generated_files"),
    )


def downgrade() -> None:
    op.drop_table("generated_files")
    with op.batch_alter_table("lineage_edges") as table:
        table.drop_column("made_until")
        table.drop_column("made_from")
        table.drop_column("terms")
