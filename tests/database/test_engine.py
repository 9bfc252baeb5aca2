"""The database: what was committed stays, what failed is gone, writers wait for each other."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ecotone.database import Base, Database, DatabaseFull, utc_now


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
