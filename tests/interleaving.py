"""Two acts whose transactions overlap at a point that is named, so that what they do to each other is certain."""

import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ecotone.database import Database
from ecotone.vocabulary import EcotoneError

PATIENCE = 90
_SQLITE_SECONDS = 0.5
_LOOK_SECONDS = 0.05
_WAITING = """
select exists (
    select from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database()
)
"""


def _until_ended_or_waiting(database: Database, ended: threading.Event) -> None:
    """Until an act has ended, or waits for what another transaction has; on SQLite no longer than a moment."""
    if database.is_sqlite:
        ended.wait(_SQLITE_SECONDS)
        return
    for _ in range(int(PATIENCE / _LOOK_SECONDS)):
        if ended.wait(_LOOK_SECONDS):
            return
        with database.engine.connect() as connection:
            if connection.scalar(sa.text(_WAITING)):
                return


def overlapping(
    database: Database, first: Callable[[], object], second: Callable[[], object], *, behind: str
) -> list[str]:
    """What two acts came to: `done`, the code of a known failure, or another one's text.

    The first is stopped behind its first statement that has all the words of `behind`, the second begins then, and the
    first goes on when the second has ended or waits for it. SQLite has one writer at a time, who is not stopped long.
    """
    told: dict[str, str] = {}
    reached, passed = threading.Event(), threading.Event()

    def run(name: str, act: Callable[[], object], end: threading.Event) -> None:
        try:
            act()
            told[name] = "done"
        except Exception as error:
            told[name] = error.code if isinstance(error, EcotoneError) else repr(error)
        end.set()

    threads = [threading.Thread(target=run, args=("first", first, reached))]
    threads.append(threading.Thread(target=run, args=("second", second, passed)))
    words = behind.lower().split()

    def stop(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        here = threading.current_thread() is threads[0] and not reached.is_set()
        if here and all(word in statement.lower() for word in words):
            reached.set()
            _until_ended_or_waiting(database, passed)

    sa.event.listen(database.engine, "after_cursor_execute", stop)
    try:
        threads[0].start()
        assert reached.wait(PATIENCE)
        threads[1].start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    finally:
        sa.event.remove(database.engine, "after_cursor_execute", stop)
    return [told["first"], told["second"]]


def while_held(database: Database, hold: Callable[[Any], object], act: Callable[[], object]) -> str:
    """What an act came to that began while a transaction had done something and not ended yet; as `overlapping`."""
    told: list[str] = []
    ended = threading.Event()

    def run() -> None:
        try:
            act()
            told.append("done")
        except Exception as error:
            told.append(error.code if isinstance(error, EcotoneError) else repr(error))
        ended.set()

    thread = threading.Thread(target=run)
    with database.writing() as session:
        hold(session)
        session.flush()
        thread.start()
        _until_ended_or_waiting(database, ended)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    return told[0]
