"""What a list of tasks is, and the loop that does them on request inside a client's own environment.

A list is a file beside this one. Run as a script it reads the titles of tasks on stdin, one a line, and answers each
with one line of JSON on stdout: `{"task", "ok", "detail", "seconds"}`; `ok` is true, false, or null where the task is
not applicable to this client, and `detail` says why. Imported elsewhere it only says which tasks there are, so a list
imports its client inside the tasks. Needs nothing but Python.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


class NotApplicable(Exception):
    """A task that this client has not; says why."""


@dataclass(frozen=True)
class Task:
    """`moves`: moves large files, so that it is done with Xet and without; `quick`: done on each run of the tests."""

    title: str
    do: Callable[["Place"], object]
    moves: bool = False
    quick: bool = False


class Tasks:
    """A list of tasks, in the order of the table."""

    def __init__(self) -> None:
        self.found: dict[str, Task] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter(self.found.values())

    def __call__(
        self, title: str, *, moves: bool = False, quick: bool = False
    ) -> Callable[[Callable[["Place"], object]], Callable[["Place"], object]]:
        """Put a function into the list."""

        def put(do: Callable[["Place"], object]) -> Callable[["Place"], object]:
            assert title not in self.found, title
            self.found[title] = Task(title, do, moves, quick)
            return do

        return put


class Place:
    """Where a task is done: the server, tokens of several users, a fresh folder, and names that nobody else has."""

    def __init__(self, number: int) -> None:
        self.url = os.environ["HF_ENDPOINT"]
        self.tokens: dict[str, str] = json.loads(os.environ["CLIENT_TOKENS"])
        self.client = os.environ["CLIENT_NAME"]
        self.user = "will"
        self.webhook = os.environ.get("CLIENT_WEBHOOK", "https://hooks.example.com/models")
        self.number = number
        self.made = 0
        self.folder = Path(os.environ["CLIENT_FOLDER"]) / f"task-{number}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def name(self, word: str = "model") -> str:
        """`will/...`, new at each call."""
        self.made += 1
        return f"{self.user}/{word}-{self.client}-{self.number}-{self.made}"

    def environment(self, home: str | None = None, **more: str | None) -> dict[str, str]:
        """What a child process gets: this process's variables, a cache of its own, and changes; None removes."""
        changed = {**os.environ, **more}
        if home is not None:
            changed["HF_HOME"] = str(self.folder / home)
        return {key: value for key, value in changed.items() if value is not None}

    def python(
        self, code: str, *argv: str, home: str | None = None, check: bool = True, **more: str | None
    ) -> "subprocess.CompletedProcess[str]":
        """Run code in a fresh interpreter of this environment."""
        done = subprocess.run(
            [sys.executable, "-c", code, *argv],
            env=self.environment(home, **more),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert not check or done.returncode == 0, done.stdout[-300:] + done.stderr[-1500:]
        return done


@contextlib.contextmanager
def raises(
    expected: type[BaseException] | tuple[type[BaseException], ...], *, exactly: bool = True, says: str = ""
) -> Iterator[None]:
    """The block must raise this class itself (a subclass where not `exactly`), with these words in its text."""
    try:
        yield
    except expected as error:
        assert not exactly or type(error) is expected, f"{type(error).__name__} instead of {expected}"
        assert says in str(error), f"{says!r} is not in: {error}"
        return
    raise AssertionError(f"{expected} was not raised")


def outcome(task: Task, place: Place) -> tuple[bool | None, str]:
    try:
        task.do(place)
    except NotApplicable as why:
        return None, str(why)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == Path(__file__).parent]
        where = f" (line {own[-1].lineno} of {Path(own[-1].filename).name})" if own else ""
        return False, f"{type(error).__name__}: {' '.join(str(error).split())[:1500]}{where}"
    shutil.rmtree(place.folder, ignore_errors=True)
    return True, ""


def serve(tasks: Tasks) -> None:
    """Answer titles until stdin ends. What clients print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for number, line in enumerate(sys.stdin):
        task = tasks.found[line.rstrip("\n")]
        began = time.monotonic()
        ok, detail = outcome(task, Place(number))
        row = {"task": task.title, "ok": ok, "detail": detail, "seconds": round(time.monotonic() - began, 2)}
        answers.write(json.dumps(row) + "\n")
