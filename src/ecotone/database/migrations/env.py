"""Alembic's entry: runs the history on the connection that `Database.migrate` hands over."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from ecotone.database.engine import UtcDateTime


def render(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """How our own column type stands in a migration."""
    if kind == "type" and isinstance(item, UtcDateTime):
        autogenerate.imports.add("from ecotone.database.engine import UtcDateTime")
        return "UtcDateTime()"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes.get("metadata"),
    render_as_batch=True,
    render_item=render,
)
with context.begin_transaction():
    context.run_migrations()
