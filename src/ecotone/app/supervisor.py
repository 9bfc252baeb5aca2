"""`ecotone up`: binds the port, starts the server process, restarts it when it dies, passes signals on.

The supervisor holds the listening socket, so that connections queue while the server restarts, and nothing else: it
imports no web framework and no database. At SIGHUP it starts a second server on the same socket; once that one is
ready the first stops accepting, gives up the background work, and ends when its transfers have.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from ecotone.app.outcome import Outcome
from ecotone.app.process import NOT_RESTARTED, ServerProcess
from ecotone.app.signals import terminal_is_gone, woken_by_signals
from ecotone.settings import Settings
from ecotone.vocabulary import EcotoneError

LOCK = "supervisor.lock"
_CALM_SECONDS = 60.0
_LONGEST_PAUSE = 30.0
_READY_SECONDS = 120.0
_MOST_DRAINING = 3
_LOOK_SECONDS = 0.01
_FIXED = ("data", "host", "port")  # what a restart cannot change: the folder that is held, the socket that is open

Reading = Callable[[], tuple[Settings, Mapping[str, str]]]


def run(read: Reading) -> int:
    """Run until told to stop; returns the exit status.

    Args:
        read: gives settings and the server's environment, anew at each restart.
    """
    settings, environ = read()
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EcotoneError(
            f"The data folder {settings.data} cannot be made: {error.strerror}. Choose another with --data or "
            "ECOTONE_DATA."
        ) from None
    signals: deque[int] = deque()
    with woken_by_signals(signals) as wake, only_one(settings.data):  # from the moment on in which others find us
        return _Supervisor(settings, environ, listen(settings), read, signals).run(wake)


@contextlib.contextmanager
def only_one(data: Path, lock: str = LOCK) -> Iterator[None]:
    """Hold the data folder: two servers must not write in one.

    Raises:
        EcotoneError: naming the process that holds it.
    """
    if not os.access(data, os.W_OK | os.X_OK):
        raise EcotoneError(
            f"The data folder {data} cannot be written to by this user; change its owner or take another."
        )
    with open(data / lock, "a+", opener=_for_the_owner) as file:
        while not _locked(file, fcntl.LOCK_EX):
            if _locked(file, fcntl.LOCK_SH):  # only somebody who looks whether there is a holder
                fcntl.flock(file, fcntl.LOCK_UN)
                time.sleep(_LOOK_SECONDS)
                continue
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise EcotoneError(
                f"Another Ecotone (process {holder}) uses the data folder {data}; stop it first, or name another "
                "folder with --data or ECOTONE_DATA."
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # the next holder is not taken for this process


def _locked(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def holder_of(data: Path) -> int | None:
    """The supervisor's process id, None when none holds the folder."""
    try:
        with open(data / LOCK) as file:
            if not _locked(file, fcntl.LOCK_SH):
                return int(file.read().strip())
    except (OSError, ValueError):
        return None
    return None


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def listen(settings: Settings) -> socket.socket:
    """The bound listening socket.

    Raises:
        EcotoneError: naming address and port when they cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise EcotoneError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. Is another server running there? "
            "Choose another port with --port or ECOTONE_PORT."
        ) from None
    listener.listen(2048)
    return listener


class _Supervisor:
    """One loop over signals, the servers' reports and their ends.

    `current` serves; `next` is being started to take its place; `leaving` have been told to end with their transfers.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        listener: socket.socket,
        read: Reading,
        signals: "deque[int]",
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._listener = listener
        self._read = read
        self._outcome = Outcome(settings.data)
        self._signals = signals
        self._current: ServerProcess | None = None
        self._next: ServerProcess | None = None
        self._next_settings: tuple[Settings, Mapping[str, str]] | None = None
        self._leaving: list[ServerProcess] = []
        self._stopping = False
        self._pause = 0.5
        self._again_at: float | None = None
        self._status = 0

    def run(self, wake: int) -> int:
        """Until all servers have ended; `wake` can be read when a signal came."""
        self._current = self._start()
        while not (self._stopping and not self._alive()):
            self._wait(wake)
            while self._signals:
                self._obey(self._signals.popleft())
            for server in self._alive():
                self._attend(server)
            self._look_after()
        return self._status

    def _alive(self) -> list[ServerProcess]:
        return [s for s in (self._current, self._next, *self._leaving) if s is not None]

    def _start(self) -> ServerProcess:
        others = bool(self._alive())
        return ServerProcess(self._listener.fileno(), self._settings, self._environ, successor=others)

    def _wait(self, wake: int) -> None:
        late = None if self._next is None else self._next.began + _READY_SECONDS
        soonest = min((t for t in (self._again_at, late) if t is not None), default=time.monotonic() + 60.0)
        reports = [s.reports for s in self._alive() if not s.silent]
        found, _, _ = select.select([wake, *reports], [], [], max(0.0, soonest - time.monotonic()))
        if wake in found:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

    # -- signals -----------------------------------------------------------------------------------------------------
    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP and not terminal_is_gone():
            self._restart()
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for server in self._alive():
                server.kill() if self._stopping else server.stop()
            self._stopping = True

    def _restart(self) -> None:
        if self._stopping:
            return
        self._outcome.begin()
        if self._next is not None:
            self._outcome.failed("a restart is under way already")
            return
        if len(self._leaving) >= _MOST_DRAINING:
            self._outcome.failed(
                f"{len(self._leaving)} earlier servers still finish their transfers (ECOTONE_DRAIN_SECONDS bounds it)"
            )
            return
        try:
            settings, environ = self._read()
            changed = [n for n in _FIXED if getattr(settings, n) != getattr(self._settings, n)]
            if changed:
                names = ", ".join(f"ECOTONE_{n.upper()}" for n in changed)
                raise EcotoneError(f"{names} cannot change while the server runs; stop it and start it again.")
        except EcotoneError as error:
            self._outcome.failed(error.message)
            return
        if self._current is None:  # between two tries of a server that dies
            self._settings, self._environ = settings, environ
            self._again_at = time.monotonic()
            self._outcome.done("the server was down; it is started now")
            return
        try:
            self._next = ServerProcess(self._listener.fileno(), settings, environ, successor=True)
        except OSError as error:
            self._outcome.failed(f"no process can be started ({error.strerror}). The server that was running goes on.")
            return
        self._next_settings = settings, environ

    # -- what servers tell -------------------------------------------------------------------------------------------
    def _attend(self, server: ServerProcess) -> None:
        status = server.ended()
        self._hear(server, over=status is not None)  # asked first: what it said last is read in any case
        if status is not None:
            self._ended(server, status)

    def _hear(self, server: ServerProcess, *, over: bool = False) -> None:
        for word, text in server.heard():
            if word == "ready":
                server.ready = True
                if server is self._next and not over:
                    self._hand_over()
            elif word == "given":
                server.owns = False
            elif word == "failed":
                server.failure = text

    def _hand_over(self) -> None:
        old, self._current, self._next = self._current, self._next, None
        self._take_settings()
        if old is not None and self._current is not None:
            old.drain()
            self._leaving.append(old)
            self._outcome.done(
                f"process {self._current.pid} serves now; process {old.pid} finishes its transfers "
                f"(at most {self._settings.drain_seconds:g} s)"
            )

    def _take_settings(self) -> None:
        if self._next_settings is not None:
            (self._settings, self._environ), self._next_settings = self._next_settings, None

    def _ended(self, server: ServerProcess, status: int) -> None:
        server.close()
        if server in self._leaving:
            self._leaving.remove(server)
        elif server is self._next:
            self._next = None
            why = server.failure or f"it ended with status {status}; the server's log tells why"
            self._outcome.failed(f"{why} The server that was running goes on.")
        else:
            self._current = None
            self._died(server, status)

    def _died(self, server: ServerProcess, status: int) -> None:
        if self._stopping:
            return
        if self._next is not None:  # the one that was to follow is the only one now
            self._current, self._next = self._next, None
            self._take_settings()
            self._outcome.done("the server that was running died meanwhile; the new one takes its place")
            return
        if status == NOT_RESTARTED:
            self._status = 1
            self._stopping = True
            for other in self._alive():
                other.stop()
            return
        calm = time.monotonic() - server.began > _CALM_SECONDS
        self._put_off(calm=calm)
        _say(f"the server ended with status {status}; starting it again in {self._pause:g} s")

    def _put_off(self, *, calm: bool = False) -> None:
        """Start the server again after a pause: twice the last one, or the shortest where the one before was calm."""
        self._pause = 0.5 if calm else min(self._pause * 2, _LONGEST_PAUSE)
        self._again_at = time.monotonic() + self._pause

    def _look_after(self) -> None:
        """What time brings, and the passing on of background work: it has one owner, or none for a moment."""
        if self._stopping:
            return
        now = time.monotonic()
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            try:
                self._current = self._start()
            except OSError as error:  # memory or processes are short: the reason, perhaps, why the last one died
                self._put_off()
                _say(f"the server cannot be started ({error.strerror}); trying again in {self._pause:g} s")
        if self._next is not None and now > self._next.began + _READY_SECONDS:
            self._next.failure = self._next.failure or f"it was not ready after {_READY_SECONDS:g} s."
            self._next.kill()
        current = self._current
        if current is None or not current.ready:
            return
        others = [s for s in self._alive() if s is not current and s is not self._next]
        if not current.owns and not any(s.owns for s in others):
            current.own()
        if not others and not current.alone:
            current.be_alone()


def _say(text: str) -> None:
    print(f"ecotone: {text}", file=sys.stderr, flush=True)
