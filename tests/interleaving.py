"""Two acts whose transactions overlap at a point that is named, so that what they do to each other is certain."""

import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ecotone.database import Database
from ecotone.vocabulary import EcotoneError

PATIENCE = 90
BLOCKED_SECONDS = 1.0
"""How long one that goes on is given before it is taken to wait for the one that was stopped."""


def overlapping(
    database: Database, first: Callable[[], object], second: Callable[[], object], *, behind: str
) -> list[str]:
    """What two acts came to: `done`, the code of a known failure, or another one's text.

    The first is stopped behind its first statement that holds all the words of `behind`, the second begins then, and the
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
            passed.wait(BLOCKED_SECONDS)

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

    def run() -> None:
        try:
            act()
            told.append("done")
        except Exception as error:
            told.append(error.code if isinstance(error, EcotoneError) else repr(error))

    thread = threading.Thread(target=run)
    with database.writing() as session:
        hold(session)
        session.flush()
        thread.start()
        thread.join(BLOCKED_SECONDS)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    return told[0]
