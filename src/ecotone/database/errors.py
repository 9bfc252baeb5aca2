"""The reasons for which the database refuses: there is no room on the disk, or two are in each other's way."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from ecotone.vocabulary import Unavailable

_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_SHMMAP")
_POSTGRES = "53100"
_CIRCLE = "40P01"
_HELD_TOO_LONG = "SQLITE_BUSY"


class DatabaseFull(Unavailable):
    """No room on the disk. Nothing of what was to be kept is visible."""

    code = "database_full"

    def __init__(self) -> None:
        super().__init__(
            "The server's disk is full and nothing was changed; make room on it, then try again.", retry_after=30
        )


class DatabaseBusy(Unavailable):
    """PostgreSQL ended this transaction, as it and another one waited for each other; on SQLite, another process wrote
    for longer than one waits for it. Nothing of it is visible."""

    code = "database_busy"

    def __init__(self) -> None:
        super().__init__("Something else was changed at the same moment and nothing was done here; try again.")


@contextmanager
def known_refusals() -> Iterator[None]:
    """Says in place of the driver's error that the disk is full, or that another try may succeed."""
    try:
        yield
    except DBAPIError as error:
        name, state = getattr(error.orig, "sqlite_errorname", None), getattr(error.orig, "sqlstate", None)
        if name in _SQLITE or state == _POSTGRES:
            raise DatabaseFull from error
        if state == _CIRCLE or name == _HELD_TOO_LONG:
            raise DatabaseBusy from error
        raise
