"""Large files with the moment and place of their first push; parameters and small files of repositories, for lists."""

import zlib
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0008_repositories"
down_revision = "0007_xet_chunks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "large_files",
        sa.Column("model_key", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("ref", sa.String(length=255), nullable=False),
        sa.Column("pushed", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_key"], ["models.key"], name=op.f("fk_large_files_model_key_models"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_key", "sha256", name=op.f("pk_large_files")),
    )
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("parameters", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("small_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    _fill(table)


def _fill(table: sa.Table) -> None:
    """Read from the revisions, oldest first; the ref is not known of old ones, so that main is taken."""
    connection = op.get_bind()
    revisions = sa.table(
        "revisions",
        *map(sa.column, ("model_key", "sha")),
        sa.column("date", sa.DateTime(timezone=True)),
        sa.column("weights", sa.JSON()),
        sa.column("manifest"),
    )
    models = sa.table("models", *map(sa.column, ("key", "head", "parameters", "small_bytes")))
    heads = {row.key: row.head for row in connection.execute(sa.select(models.c.key, models.c.head))}
    c = revisions.c
    known: set[tuple[int, str]] = set()
    for key, sha, date in connection.execute(sa.select(c.model_key, c.sha, c.date).order_by(c.date)).all():
        one = sa.select(c.manifest, c.weights).where(c.model_key == key, c.sha == sha)
        manifest, weights = connection.execute(one).one()
        files = msgspec.msgpack.decode(zlib.decompress(manifest))
        fresh = {f["content"]["sha256"]: f for f in reversed(files) if f["content"]["sha256"]}
        rows = [_row(key, name, file, date) for name, file in sorted(fresh.items()) if (key, name) not in known]
        if rows:
            connection.execute(sa.insert(table), rows)
        known |= {(key, name) for name in fresh}
        if heads.get(key) == sha:
            small = sum(f["content"]["size"] for f in files if not f["content"]["sha256"])
            change = sa.update(models).where(models.c.key == key)
            connection.execute(change.values(parameters=(weights or {}).get("total"), small_bytes=small))


def _row(key: int, sha256: str, file: dict[str, Any], date: Any) -> dict[str, Any]:
    size = file["content"]["size"]
    return {
        "model_key": key,
        "sha256": sha256,
        "size": size,
        "path": file["path"],
        "ref": "refs/heads/main",
        "pushed": date,
    }


def downgrade() -> None:
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_column("small_bytes")
        batch_op.drop_column("parameters")
    op.drop_table("large_files")
