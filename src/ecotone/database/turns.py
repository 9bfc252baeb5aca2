"""One after another where what is read decides what is written.

Where there is a row, it is held (`with_for_update`). Held first, read then: what a session has read of a row before is
not read again by holding it, unless `populate_existing` says so.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

HELD: Final[dict[str, Any]] = {"key_share": True}
"""For `with_for_update`: nobody else changes the row; rows that refer to it may come meanwhile, as their foreign keys
wait for a plain one."""
STAYS: Final[dict[str, Any]] = {"read": True, "key_share": True}
"""For `with_for_update`: the row is not deleted meanwhile, but may be changed."""


def alone(session: Session | sa.Connection, what: str) -> None:
    """From here to the end of the transaction no other one passes here with the same word. For where there may be no
    row yet that could be held.

    So two who make the same thing at once are told the same as if one had come a second later. On SQLite writers come
    one after another anyway.

    Args:
        session: of `Database.writing`, or a connection, before it has read what the writing depends on.
        what: names the table or thing.
    """
    dialect = session.get_bind().dialect if isinstance(session, Session) else session.dialect
    if dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0))))
