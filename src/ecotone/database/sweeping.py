"""What has had its time goes, beside whoever looks at it at this moment."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session


def sweep(session: Session, table: type[Any], *where: sa.ColumnElement[bool]) -> None:
    """Delete rows that are over. Those that another transaction holds are left to the next sweep: waiting for them,
    with rows of one's own in hand, could be waiting in a circle."""
    keys = sa.inspect(table).primary_key
    over = sa.select(*keys).where(*where).with_for_update(skip_locked=True)
    gone = sa.delete(table).where(sa.tuple_(*keys).in_(over))
    session.execute(gone.execution_options(synchronize_session=False))
