"""The database: what was committed stays, what failed is gone, writers wait for each other."""

import functools
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base, Database, DatabaseBusy, DatabaseFull, sweep, utc_now
from tests.interleaving import overlapping


class CounterRow(Base):
    __tablename__ = "test_counters"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    at: Mapped[datetime]


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.writing() as session:
        session.add(CounterRow(id=1, value=1, at=utc_now()))
        session.flush()
        raise RuntimeError
    with database.reading() as session:
        assert session.get(CounterRow, 1) is None


def test_writers_of_two_connections_lose_no_update(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'two.db'}"
    first, second = Database(url), Database(url)
    Base.metadata.create_all(first.engine)
    with first.writing() as session:
        session.add(CounterRow(id=1, value=0, at=utc_now()))

    def add(database: Database) -> None:
        for _ in range(25):
            with database.writing() as session:
                row = session.get(CounterRow, 1)
                assert row is not None
                row.value += 1

    threads = [threading.Thread(target=add, args=(d,)) for d in (first, second, first)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    with second.reading() as session:
        row = session.get(CounterRow, 1)
        assert row is not None
        assert row.value == 75
    first.dispose()
    second.dispose()


def test_a_reading_session_sees_one_moment(database: Database) -> None:
    """Else what is read first misses what the rest names: a key of a project that was made in between."""
    with database.writing() as session:
        session.add(CounterRow(id=1, value=1, at=utc_now()))
    with database.reading() as session:
        first = session.scalars(sa.select(CounterRow.id)).all()
        with database.writing() as other:
            other.add(CounterRow(id=2, value=1, at=utc_now()))
        assert session.scalars(sa.select(CounterRow.id)).all() == first == [1]
    with database.reading() as session:
        assert len(session.scalars(sa.select(CounterRow.id)).all()) == 2


def test_moments_come_back_in_utc_and_naive_ones_are_refused(database: Database) -> None:
    moment = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
    with database.writing() as session:
        session.add(CounterRow(id=1, value=1, at=moment))
    with database.reading() as session:
        assert session.scalar(sa.select(CounterRow.at)) == moment
    with pytest.raises(Exception, match="time zone"), database.writing() as session:
        session.add(CounterRow(id=2, value=1, at=datetime(2026, 11, 24)))


def test_sqlite_flushes_each_commit(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'one.db'}")
    with database.reading() as session:
        assert session.execute(sa.text("PRAGMA synchronous")).scalar() == 2
        assert session.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"


def test_a_full_disk_is_said_and_nothing_is_half_kept(tmp_path: Path) -> None:
    """Whoever revokes a key must know that it was not revoked, and when to try again."""
    database = Database(f"sqlite:///{tmp_path / 'full.db'}")
    Base.metadata.create_all(database.engine)
    with database.reading() as session:
        session.execute(sa.text("PRAGMA max_page_count = 1"))  # SQLite's own word for no more room
    refused = None
    for n in range(1, 5000):
        try:
            with database.writing() as session:
                session.execute(sa.text("PRAGMA max_page_count = 1"))
                session.add(CounterRow(id=n, value=n, at=utc_now()))
        except DatabaseFull as error:
            refused = error
            break
    assert refused is not None and "disk is full" in refused.message and refused.retry_after > 1
    with database.reading() as session:
        assert session.get(CounterRow, n) is None and session.get(CounterRow, n - 1) is not None
    database.dispose()


def test_two_that_wait_for_each_other_are_told_so_and_one_of_them_is_done(database: Database) -> None:
    """On SQLite one comes after the other. No transaction of ours should; where one does, another try may succeed."""
    with database.writing() as session:
        session.add_all(CounterRow(id=n, value=0, at=utc_now()) for n in (1, 2))

    def add(*rows: int) -> None:
        with database.writing() as session:
            for row in rows:
                mine = sa.update(CounterRow).where(CounterRow.id == row)
                session.execute(mine.values(value=CounterRow.value + 1))

    acts = (functools.partial(add, 1, 2), functools.partial(add, 2, 1))
    told = overlapping(database, *acts, behind="update test_counters")
    assert sorted(told) == (["done", "done"] if database.is_sqlite else ["database_busy", "done"])
    with database.reading() as session:
        assert set(session.scalars(sa.select(CounterRow.value))) == {told.count("done")}


def test_a_writer_that_another_process_keeps_waiting_for_too_long_is_told_to_try_again(tmp_path: Path) -> None:
    """SQLite lets one process write at a time, and the others wait half a minute for it."""
    database, other = (Database(f"sqlite:///{tmp_path / 'one.db'}") for _ in range(2))
    sa.event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=1"))
    make = sa.text("create table thing (id integer)")
    with other.writing() as session:
        session.execute(sa.text("select 1"))
        with pytest.raises(DatabaseBusy), database.writing() as waiting:
            waiting.execute(make)
    with database.writing() as session:
        session.execute(make)
    for one in (database, other):
        one.dispose()


def test_what_is_over_is_swept_past_what_somebody_holds(database: Database) -> None:
    with database.writing() as session:
        session.add_all(CounterRow(id=n, value=n, at=utc_now()) for n in range(4))

    def clear() -> None:
        with database.writing() as session:
            sweep(session, CounterRow, CounterRow.value > 0)

    with database.writing() as session:
        session.execute(sa.select(CounterRow.id).where(CounterRow.id == 2).with_for_update())
        if not database.is_sqlite:  # which would wait for this transaction
            clear()
            assert session.scalars(sa.select(CounterRow.id).order_by(CounterRow.id)).all() == [0, 2]
    clear()
    with database.reading() as session:
        assert session.scalars(sa.select(CounterRow.id)).all() == [0]


def test_servers_that_start_at_once_on_an_empty_database_migrate_it_once(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("several servers share PostgreSQL; SQLite has the supervisor's")
    Base.metadata.drop_all(database.engine)
    url = database.url.render_as_string(hide_password=False)
    program = f"from ecotone.database import Database; Database({url!r}).migrate()"

    def other() -> None:
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

    assert overlapping(database, database.migrate, other, behind="create table alembic_version") == ["done", "done"]
    assert database.at_head()
