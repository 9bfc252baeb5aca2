"""What a supervisor hears, whom it finds and who finds it, when it and another do something in the same moment."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.app import gateway_worker, supervisor
from ecotone.app.gateway_worker import _Worker
from ecotone.app.outcome import last
from ecotone.app.process import DRAIN, Child
from ecotone.app.supervisor import LOCK, holder_of, only_one
from ecotone.settings import Settings
from tests.receiver import until


class Server:
    """One that says why it cannot serve, and ends, right after it was listened to."""

    def __init__(self, *, serves: bool, ended: Callable[[], None] = lambda: None) -> None:
        self.pid, self.began = 1, time.monotonic()
        self.silent = self.ready = self.owns = self.alone = True
        self.failure: str | None = None
        self._status: int | None = None
        self._words: list[tuple[str, str]] = []
        self._serves, self._ended = serves, ended

    def heard(self) -> Iterator[tuple[str, str]]:
        words, self._words = self._words, []
        yield from words
        if not self._serves and self._status is None:
            self._words, self._status = [("failed", "it has no key")], 3

    def ended(self) -> int | None:
        if self._status is not None:
            self._ended()
        return self._status

    def stop(self) -> None:
        self._status = 0

    def close(self) -> None:
        pass


def test_what_a_new_server_says_in_its_last_moment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever restarted was told "status 3; the log tells why", when the reason came a moment too late."""
    signals: deque[int] = deque([signal.SIGHUP])

    def server(*_: object, successor: bool) -> Any:
        if successor:
            return Server(serves=False, ended=lambda: signals.append(signal.SIGTERM))
        return Server(serves=True)

    monkeypatch.setattr(supervisor, "ServerProcess", server)
    monkeypatch.setattr(supervisor._Supervisor, "_wait", lambda *_: None)
    settings, listener = Settings(data=tmp_path), SimpleNamespace(fileno=lambda: 0)
    found: Any = supervisor._Supervisor
    assert found(settings, {}, listener, lambda: (settings, {}), signals).run(0) == 0
    assert last(tmp_path)["text"].startswith("the restart failed: it has no key The server that was running")


PROGRAM = """
import os, signal, sys
from pathlib import Path
from ecotone.app import {module} as module
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError
settings = Settings(data=Path(sys.argv[1]), limits_url="redis://127.0.0.1:1")
"""


def run(folder: Path, module: str, program: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-c", PROGRAM.format(module=module) + program, str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=240)


def test_what_a_new_worker_says_in_its_last_moment_is_told(tmp_path: Path) -> None:
    program = """
from types import SimpleNamespace
from tests.app.test_supervising import Server
made = []
def child(*_):
    made.append(Server(serves=not made, ended=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    return made[-1]
module.Child = child
listener = SimpleNamespace(fileno=lambda: 0, close=lambda: None)
tree = module._Tree(settings, {}, [listener], lambda: (settings, {}))
tree._signals.append(signal.SIGHUP)
tree._wait = lambda wake: None
tree.run()
"""
    done = run(tmp_path, "gateways", program)
    assert done.returncode == 0, done.stderr
    assert "not restarted: it has no key The workers that were running go on." in done.stderr


def test_a_restart_that_is_asked_for_while_the_supervisor_begins_does_not_kill_it(tmp_path: Path) -> None:
    """Whoever finds its number in the data folder may send it a signal at once."""
    program = """
def listen(_settings):
    os.kill(os.getpid(), signal.SIGHUP)
    raise EcotoneError("the port is taken")
module.listen = listen
try:
    module.run(lambda: (settings, {}))
except EcotoneError as error:
    print(error.message)
"""
    done = run(tmp_path, "supervisor", program)
    assert (done.returncode, done.stdout) == (0, "the port is taken\n"), done.stderr


def test_who_only_looks_for_a_server_keeps_none_from_starting(tmp_path: Path) -> None:
    with open(tmp_path / LOCK, "w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.5, looking.close).start()
        with only_one(tmp_path):
            assert holder_of(tmp_path) == os.getpid()


def test_the_number_of_a_server_that_has_ended_is_nobodys(tmp_path: Path) -> None:
    """The next one holds the folder a moment before it writes its own: a signal for it met a stranger."""
    with only_one(tmp_path):
        pass
    with open(tmp_path / LOCK) as next_one:
        fcntl.flock(next_one, fcntl.LOCK_EX)
        assert holder_of(tmp_path) is None


def test_a_worker_that_is_told_to_drain_before_it_serves_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was replaced while it started, and went on for ever beside its successor, with the settings of before."""
    ours, theirs = os.pipe()
    read, ended = threading.Event(), threading.Event()
    words = iter([DRAIN])

    def word(*_: object) -> bytes:
        read.set()
        return next(words, b"")

    monkeypatch.setattr(gateway_worker, "os", SimpleNamespace(read=word, getpid=os.getpid, kill=lambda *_: ended.set()))
    worker: Any = object.__new__(_Worker)
    worker._settings, worker._loop, worker._looping = Settings(), None, threading.Event()
    worker._settle = lambda *_: None
    told: list[object] = []
    thread = threading.Thread(target=worker.obey, args=(ours, "", 1, 1))
    thread.start()
    assert read.wait(90)
    ended.wait(0.2)  # a word that is passed over is gone by now
    worker._loop = SimpleNamespace(call_soon_threadsafe=lambda *args: told.append(args))
    worker._looping.set()
    until(ended.is_set)
    thread.join()
    assert told == [(worker._begin_end, Settings().drain_seconds, gateway_worker._FAREWELL_RESTART)]
    os.close(ours)
    os.close(theirs)


def test_a_supervisor_that_gets_no_process_for_a_moment_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Memory is short, which killed the server, and is short still when it is to be started again: the supervisor, and
    with it the installation, must not end by that. A restart that is asked for then fails, and says why."""
    signals: deque[int] = deque()
    asked: list[bool] = []

    def server(*_: object, successor: bool) -> Any:
        asked.append(successor)
        if len(asked) == 1:
            dying = Server(serves=True)
            dying._status = -9
            return dying
        if len(asked) == 2:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if successor:
            signals.append(signal.SIGTERM)
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        signals.append(signal.SIGHUP)
        return Server(serves=True)

    monkeypatch.setattr(supervisor, "ServerProcess", server)
    monkeypatch.setattr(supervisor._Supervisor, "_wait", lambda *_: time.sleep(0.01))
    settings, listener = Settings(data=tmp_path), SimpleNamespace(fileno=lambda: 0)
    found: Any = supervisor._Supervisor
    assert found(settings, {}, listener, lambda: (settings, {}), signals).run(0) == 0
    assert asked == [False, False, False, True]
    assert f"cannot be started ({os.strerror(errno.EAGAIN)}); trying again in 2 s" in capfd.readouterr().err
    assert f"no process can be started ({os.strerror(errno.ENOMEM)})" in last(tmp_path)["text"]


def test_a_gateway_that_gets_no_process_for_a_moment_goes_on(tmp_path: Path) -> None:
    program = """
from types import SimpleNamespace
from tests.app.test_supervising import Server
made = []
def child(*_):
    made.append(Server(serves=True))
    if len(made) == 1:
        made[0]._status = -9
    if len(made) == 2:
        raise OSError(11, "no process is left")
    if len(made) == 3:
        tree._signals.append(signal.SIGHUP)
    if len(made) == 4:
        tree._signals.append(signal.SIGTERM)
        raise OSError(12, "no memory is left")
    return made[-1]
module.Child = child
listener = SimpleNamespace(fileno=lambda: 0, close=lambda: None)
tree = module._Tree(settings, {}, [listener], lambda: (settings, {}))
tree._wait = lambda wake: None
tree.run()
print(len(made))
"""
    done = run(tmp_path, "gateways", program)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr
    assert "worker 1 cannot be started (no process is left); again in" in done.stderr
    assert "no process can be started (no memory is left). The workers that were running go on." in done.stderr


def test_a_process_that_cannot_be_started_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("ecotone.app.process.subprocess.Popen", fail)
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
            Child(0, Settings(data=tmp_path), {}, "none")
    if before:
        assert len(os.listdir("/proc/self/fd")) <= len(before)
