"""One after another where what is read decides what is written, and there may be no row yet that could be held."""

import sqlalchemy as sa
from sqlalchemy.orm import Session


def alone(session: Session, what: str) -> None:
    """From here to the end of the transaction no other one passes here with the same word.

    So two who make the same thing at once are told the same as if one had come a second later. On SQLite writers come
    one after another anyway.

    Args:
        session: of `Database.writing`, before it has read what the writing depends on.
        what: names the table or thing.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0))))
