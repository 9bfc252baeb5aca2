"""A child process that does heavy or dangerous work: started, listened to and ended from the server process.

The wire: the child's standard input carries its spec as one line of JSON and stays open for as long as the parent
lives; a second pipe (its number is the child's first argument) carries JSON lines back. Output and errors go to a log
file. The child leads a session of its own, so that whatever it starts ends with it.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from ecotone.jobs.environment import scrubbed
from ecotone.jobs.errors import ChildFailed

log = logging.getLogger("ecotone.jobs")

Message = dict[str, Any]

_LISTEN_SECONDS = 10.0
_LONGEST_LINE = 16 * 1024 * 1024
_TAIL_LINES = 15
_TAIL_BYTES = 16 * 1024


class Child:
    """A running `python -m MODULE`, which must begin with `ecotone.jobs.child_side.receive`.

    Args:
        module: module to run.
        spec: JSON value handed to it.
        log: file that its output is appended to.
        env: variables beside the scrubbed environment.
        on_message: called with each message, in a thread of this child, one at a time; it should not raise.
        folder: working folder; the log's by default.
    """

    def __init__(
        self,
        module: str,
        spec: Mapping[str, Any],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        on_message: Callable[[Message], None] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.log = log
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = os.pipe()
        try:
            with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
                self._log_start = output.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, str(theirs)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs,),
                    env=scrubbed(more=env),
                    cwd=folder or log.parent,
                    start_new_session=True,
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self.pid = self._process.pid
        self._on_message = on_message
        self._stopping = False
        self._taken, self._taking = 0, False
        self._ended = threading.Event()
        self._signalling = threading.Lock()
        line = json.dumps(spec).encode() + b"\n"
        self._talk = threading.Thread(target=self._listen, args=(os.fdopen(ours, "rb"), line), daemon=True)
        self._watch = threading.Thread(target=self._await_end, name=f"child-{self.pid}", daemon=True)
        self._talk.start()
        self._watch.start()

    def poll(self) -> int | None:
        """Exit status (negative: the signal that ended it), or None while it runs or its messages are not all read."""
        return self._process.returncode if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when the child has ended and each of its messages was delivered.

        Raises:
            TimeoutError: it still runs.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        status: int = self._process.returncode
        return status

    def stop(self, grace: float = 5.0) -> int:
        """End it: politely, then after `grace` seconds by force, with all that it started. Idempotent."""
        self._stopping = True
        if not self._ended.is_set():
            self._signal(signal.SIGTERM)
            if not self._ended.wait(grace):
                self._signal(signal.SIGKILL)
        return self.wait()

    def tail(self) -> str:
        """The last lines that this run wrote to its log."""
        with open(self.log, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def failure(self, what: str) -> ChildFailed:
        """The error of a child that has ended: how, and the last lines of its log."""
        status = self.wait()
        tail = self.tail()
        message = f"{what}: {describe(status)}."
        if tail:
            message += f" The end of its log:\n{tail}"
        return ChildFailed(message, status=status, tail=tail)

    def _listen(self, messages: IO[bytes], spec: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, OSError):
            self._process.stdin.write(spec)
            self._process.stdin.flush()
        with messages:
            while line := messages.readline(_LONGEST_LINE):
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # torn by the child's death: how it died is told by its status
                if isinstance(message, dict) and self._on_message is not None:
                    self._taking = True
                    try:
                        self._on_message(message)
                    except Exception:  # those that follow are taken all the same
                        log.exception("a message of process %d could not be taken", self.pid)
                    self._taking = False
                self._taken += 1

    def _await_end(self) -> None:
        if hasattr(os, "waitid"):  # leaves the process unreaped, so that its number still names its group
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        self._signal(signal.SIGKILL)  # whatever it left behind
        with self._signalling:
            self._process.wait()
        self._hear_out()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._ended.set()

    def _hear_out(self) -> None:
        """Wait for the messages that are still to be taken, however long that takes; not for who holds the pipe open
        without a word, having left the child's group."""
        taken = -1
        while self._talk.is_alive() and (self._taking or taken != self._taken):
            taken = self._taken
            self._talk.join(_LISTEN_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        with self._signalling, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self.pid, number)


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"the process ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "; somebody ended it, or the machine ran out of memory" if -status == signal.SIGKILL else ""
    return f"the process was ended by {name}{hint}"
