"""Which large objects each repository names, read once from the revisions that there are."""

import zlib

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0003_repository_objects"
down_revision = "0002_profile_and_approvals"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "repository_objects",
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_key"],
            ["models.key"],
            name=op.f("fk_repository_objects_model_key_models"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_key", "name", name=op.f("pk_repository_objects")),
    )
    revisions = sa.table("revisions", sa.column("model_key"), sa.column("sha"), sa.column("manifest"))
    connection = op.get_bind()
    kept: set[tuple[int, str]] = set()
    for key, sha in connection.execute(sa.select(revisions.c.model_key, revisions.c.sha)).all():
        one = sa.select(revisions.c.manifest).where(revisions.c.model_key == key, revisions.c.sha == sha)
        found = {(key, name) for name in _names(connection.scalars(one).one())} - kept
        if found:
            connection.execute(sa.insert(table), [{"model_key": k, "name": n} for k, n in sorted(found)])
            kept |= found


def _names(manifest: bytes) -> set[str]:
    """sha256 and Xet hash of the large files of a manifest, as it is kept in the first version."""
    contents = [file["content"] for file in msgspec.msgpack.decode(zlib.decompress(manifest))]
    return {name for content in contents for name in (content["sha256"], content["xet_hash"]) if name}


def downgrade() -> None:
    op.drop_table("repository_objects")
