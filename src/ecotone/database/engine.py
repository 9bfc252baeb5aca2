"""The database engine: SQLite by default, PostgreSQL by URL, the same code path for both.

On SQLite all writing goes through one lock and `BEGIN IMMEDIATE`, so that a transaction never fails half-way for want
of the write lock; readers never wait (WAL). Every commit is flushed to disk (`synchronous=FULL`).
"""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.orm import DeclarativeBase, Session

from ecotone.database.errors import known_refusals
from ecotone.database.turns import alone

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC; always aware in Python, on SQLite (which drops the zone) as on PostgreSQL."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored; use ecotone.database.utc_now()")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Declarative base of every table. `dict`/`list` columns are JSON, `datetime` columns are UTC."""

    metadata = sa.MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012
        dict[str, Any]: sa.JSON,
        list[str]: sa.JSON,
        list[dict[str, Any]]: sa.JSON,
        datetime: UtcDateTime,
    }


def utc_now() -> datetime:
    return datetime.now(UTC)


class Database:
    """Sessions on one database.

    Args:
        url: an SQLAlchemy URL, e.g. `sqlite:////var/lib/ecotone/ecotone.db` or `postgresql+psycopg://user@host/name`.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._write_lock = threading.RLock()
        if self.is_sqlite:
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = sa.create_engine(parsed, connect_args={"check_same_thread": False, "timeout": 30})
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = sa.create_engine(parsed, pool_pre_ping=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading, of one moment: what others commit meanwhile is not in it. Objects stay usable after it
        ends, nothing is written."""
        with known_refusals(), Session(self._of_one_moment, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: committed (and on disk) when the block ends, rolled back when it raises.

        Not re-entrant: call a function that takes the session instead of opening a second one inside.

        Raises:
            DatabaseFull: when the disk has no room; nothing was written then.
            DatabaseBusy: when PostgreSQL ended it, as it and another one waited for each other in a circle; nothing was
                written then. That is a fault of the order in which they hold rows, told so that the caller may try
                again: the block cannot be run again here. Also when another process writes to SQLite for 30 seconds.
        """
        lock: AbstractContextManager[object]
        if self.is_sqlite:
            engine, lock = self._immediate, self._write_lock
        else:
            engine, lock = self.engine, contextlib.nullcontext()
        with known_refusals(), lock, Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @property
    def _of_one_moment(self) -> sa.Engine:
        """As SQLite reads always; PostgreSQL would look at each statement anew."""
        return self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def _immediate(self) -> sa.Engine:
        return self.engine.execution_options(sqlite_begin="IMMEDIATE")

    def migrate(self) -> None:
        """Bring the schema to the newest migration. Safe to call at each start, also of several servers at once."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self._write_lock, self.engine.connect() as connection, self._tables_apart(connection):
            alone(connection, "migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    @contextmanager
    def _tables_apart(self, connection: sa.Connection) -> Iterator[None]:
        """No foreign key acts: SQLite makes tables anew to change them, and the rows that hang on a table's rows would
        go with the old one (https://www.sqlite.org/lang_altertable.html, section 7)."""
        cursor: Any = connection.connection.cursor() if self.is_sqlite else None
        if cursor is None:
            yield
            return
        cursor.execute("PRAGMA foreign_keys=OFF")
        try:
            yield
        finally:
            if connection.in_transaction():
                connection.rollback()
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

    def at_head(self) -> bool:
        """Whether the schema is that of the newest migration known here."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        newest = set(ScriptDirectory.from_config(config).get_heads())
        with self.engine.connect() as connection:
            return set(MigrationContext.configure(connection).get_current_heads()) == newest

    def dispose(self) -> None:
        self.engine.dispose()


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's `begin` event below starts transactions, not the driver
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
