"""The child's end of `child`: receive the spec, report messages, end when the parent is gone. Imports nothing heavy."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

PARENT_GONE = 70


def receive() -> tuple[dict[str, Any], Callable[[dict[str, Any]], None]]:
    """The spec, and a function that sends a message (a JSON object) to the parent; thread-safe.

    From here on the process ends, with all that it started, as soon as the parent does.
    """
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    lifeline = os.dup(0)  # standard input becomes empty, so that no library can eat the lifeline
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    line = _first_line(lifeline)
    spec: dict[str, Any] = json.loads(line)
    threading.Thread(target=_watch, args=(lifeline,), name="lifeline", daemon=True).start()
    lock = threading.Lock()

    def report(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            with lock:
                while data:
                    data = data[os.write(descriptor, data) :]
        except BrokenPipeError:
            end()

    return spec, report


def end() -> None:
    """End this process and its group at once: nobody is there any more to take its work."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(PARENT_GONE)


def _first_line(descriptor: int) -> bytes:
    data = b""
    while not data.endswith(b"\n"):  # the parent writes one line and then nothing more
        piece = os.read(descriptor, 65536)
        if not piece:
            end()
        data += piece
    return data


def _watch(descriptor: int) -> None:
    while os.read(descriptor, 65536):
        pass
    end()
