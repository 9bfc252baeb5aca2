"""A server process as its supervisor sees it: two pipes, one for each direction, and the words that pass over them.

To the server, a byte each: `d` stop accepting, give up the background work, end with the transfers; `o` the background
work is yours; `a` no other server is left. To a worker of the gateway: `d`, and `s` settle what
workers that are gone left open. From the server, a line each: `ready`, `given` (the background work is given up),
`failed WHY`. The server reads its pipe to its end: a supervisor that was killed takes the server along.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from ecotone.settings import Settings, options

NOT_RESTARTED = 3  # the server's status for "starting again will not help"
DRAIN, OWN, ALONE, SETTLE = b"d", b"o", b"a", b"s"


class Child:
    """A process that serves on an inherited socket, from its start to its end.

    Args:
        module: what it runs.
        arguments: of it, behind the descriptors of the socket and of the two pipes.

    Raises:
        OSError: no process can be had.
    """

    def __init__(
        self, listener: int, settings: Settings, environ: Mapping[str, str], module: str, *arguments: str
    ) -> None:
        commands, self._commands = os.pipe()
        self.reports, reports = os.pipe()
        os.set_blocking(self.reports, False)
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", module, str(listener), str(commands), str(reports), *arguments],
                pass_fds=(listener, commands, reports),
                env={**environ, **_as_environment(settings)},
            )
        except OSError:
            os.close(self._commands)
            os.close(self.reports)
            raise
        finally:
            os.close(commands)
            os.close(reports)
        self.pid = self._child.pid
        self.began = time.monotonic()
        self.ready = self.silent = False
        self.failure: str | None = None
        self._rest = b""

    def heard(self) -> Iterator[tuple[str, str]]:
        """Words that came since the last time, each with its text."""
        while not self.silent:
            try:
                found = os.read(self.reports, 65536)
            except BlockingIOError:
                break
            self.silent = not found
            *lines, self._rest = (self._rest + found).split(b"\n")
            for line in lines:
                word, _, text = line.decode("utf-8", "replace").partition(" ")
                yield word, text

    def ended(self) -> int | None:
        """The exit status of a process that has ended."""
        return self._child.poll()

    def drain(self) -> None:
        self.tell(DRAIN)

    def tell(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._commands, word)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.terminate()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()

    def close(self) -> None:
        """Close our ends of the pipes of a process that has ended."""
        self.silent = True
        os.close(self._commands)
        os.close(self.reports)


class ServerProcess(Child):
    """One server.

    Args:
        successor: whether another server is alive: then this one begins without the background work.
    """

    def __init__(self, listener: int, settings: Settings, environ: Mapping[str, str], *, successor: bool) -> None:
        super().__init__(listener, settings, environ, "ecotone.app.server", "successor" if successor else "first")
        self.owns = self.alone = not successor

    def own(self) -> None:
        self.owns = True
        self.tell(OWN)

    def be_alone(self) -> None:
        self.alone = True
        self.tell(ALONE)


def _as_environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment that gives them again."""
    found = {}
    for option in options():
        value = getattr(settings, option.name)
        if value is not None:
            found[option.variable] = "1" if value is True else "0" if value is False else str(value)
    return found
