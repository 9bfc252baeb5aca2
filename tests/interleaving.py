"""Two acts whose transactions overlap at a point that is named, so that what they do to each other is certain."""

import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.database import Database
from ecotone.vocabulary import EcotoneError

Act = Callable[[], object]
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


def _outcome(act: Act) -> str:
    try:
        act()
    except Exception as error:
        return error.code if isinstance(error, EcotoneError) else repr(error)
    return "done"


def overlapping(database: Database, first: Act, second: Act, *, behind: str | None = None) -> list[str]:
    """What two acts came to: `done`, the code of a known failure, or another one's text.

    The first is stopped behind its first statement that has all the words of `behind`, or, without any, before it first
    writes what its session has gathered; the second begins then, and the first goes on when the second has ended or
    waits for it. SQLite has one writer at a time, who is not stopped long.
    """
    told: dict[str, str] = {}
    reached, passed = threading.Event(), threading.Event()

    def run(name: str, act: Act, end: threading.Event) -> None:
        told[name] = _outcome(act)
        end.set()

    threads = [threading.Thread(target=run, args=("first", first, reached))]
    threads.append(threading.Thread(target=run, args=("second", second, passed)))

    def stop(*of: Any) -> None:
        if threading.current_thread() is not threads[0] or reached.is_set():
            return
        if behind is None or all(word in of[2].lower() for word in behind.lower().split()):
            reached.set()
            _until_ended_or_waiting(database, passed)

    where = (Session, "before_flush") if behind is None else (database.engine, "after_cursor_execute")
    sa.event.listen(*where, stop)
    try:
        threads[0].start()
        assert reached.wait(PATIENCE)
        threads[1].start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    finally:
        sa.event.remove(*where, stop)
    return [told["first"], told["second"]]


def while_held(database: Database, hold: Callable[[Session], object], act: Act) -> str:
    """What an act came to that began while a transaction had done something and not ended yet; as `overlapping`."""
    told: list[str] = []
    ended = threading.Event()

    def run() -> None:
        told.append(_outcome(act))
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
