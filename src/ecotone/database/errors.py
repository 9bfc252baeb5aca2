"""The one reason for which the database refuses: there is no room on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from ecotone.vocabulary import Unavailable

_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_SHMMAP")
_POSTGRES = "53100"


class DatabaseFull(Unavailable):
    """No room on the disk. Nothing of what was to be kept is visible."""

    code = "database_full"

    def __init__(self) -> None:
        super().__init__(
            "The server's disk is full and nothing was changed; make room on it, then try again.", retry_after=30
        )


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Says that the disk is full, in place of the driver's error."""
    try:
        yield
    except DBAPIError as error:
        name, state = getattr(error.orig, "sqlite_errorname", None), getattr(error.orig, "sqlstate", None)
        if name in _SQLITE or state == _POSTGRES:
            raise DatabaseFull from error
        raise
