"""`ecotone up`: binds the port, starts the server process, restarts it when it dies, passes signals on.

The supervisor holds the listening socket, so that connections queue while the server restarts, and nothing else: it
imports no web framework and no database.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecotone.settings import Settings, options
from ecotone.vocabulary import EcotoneError

_CALM_SECONDS = 60.0
_LONGEST_PAUSE = 30.0
NOT_RESTARTED = 3  # the server's status for "starting again will not help"


def run(settings: Settings) -> int:
    """Run until told to stop; returns the exit status."""
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EcotoneError(
            f"The data folder {settings.data} cannot be made: {error.strerror}. Choose another with --data or "
            "ECOTONE_DATA."
        ) from None
    with only_one(settings.data):
        return _Supervisor(settings, listen(settings)).run()


@contextlib.contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data folder: two servers must not write in one.

    Raises:
        EcotoneError: naming the process that holds it.
    """
    if not os.access(data, os.W_OK | os.X_OK):
        raise EcotoneError(
            f"The data folder {data} cannot be written to by this user; change its owner or take another."
        )
    with open(data / "supervisor.lock", "a+", opener=_for_the_owner) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise EcotoneError(
                f"Another Ecotone (process {holder}) uses the data folder {data}; stop it first, or name another "
                "folder with --data or ECOTONE_DATA."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


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
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        pause = 0.5
        while True:
            began = time.monotonic()
            self._child = self._start()
            if self._stopping.is_set():
                self._child.terminate()
            status = self._child.wait()
            if self._stopping.is_set() or status == NOT_RESTARTED:
                return 0 if self._stopping.is_set() else 1
            pause = 0.5 if time.monotonic() - began > _CALM_SECONDS else min(pause * 2, _LONGEST_PAUSE)
            print(f"ecotone: the server ended with status {status}; starting it again in {pause:g} s", file=sys.stderr)
            if self._stopping.wait(pause):
                return 0

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = self._listener.fileno()
        # the server reads this pipe to its end: a supervisor that was killed takes the server along
        ours, theirs = os.pipe()
        child = subprocess.Popen(
            [sys.executable, "-m", "ecotone.app.server", str(descriptor), str(ours)],
            pass_fds=(descriptor, ours),
            env={**os.environ, **_as_environment(self._settings)},
        )
        os.close(ours)
        if (old := getattr(self, "_pipe", None)) is not None:
            os.close(old)
        self._pipe = theirs
        return child

    def _stop(self, _number: int, _frame: Any) -> None:
        self._stopping.set()
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()


def _as_environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment that gives them again."""
    found = {}
    for option in options():
        value = getattr(settings, option.name)
        if value is not None:
            found[option.variable] = "1" if value is True else "0" if value is False else str(value)
    return found
