"""Signals of a supervisor: they wake its loop and are handled there."""

import contextlib
import os
import signal
from collections import deque
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def woken_by_signals(signals: "deque[int]") -> Iterator[int]:
    """A descriptor that can be read when a signal came; the signal itself is in the queue by then.

    Behind the block the process ends: who signals once more than is needed does not make a failure of it.
    """
    ours, theirs = os.pipe()
    for descriptor in (ours, theirs):
        os.set_blocking(descriptor, False)

    def note(number: int, _frame: Any) -> None:
        if number != signal.SIGCHLD:
            signals.append(number)

    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in (*ends, signal.SIGCHLD):
        signal.signal(number, note)
    woken = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(woken)
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(ours)
        os.close(theirs)


def terminal_is_gone() -> bool:
    """Whether this hang-up is that of our terminal, which means stop; one sent to a process without a terminal, or
    whose terminal is still there, means restart."""
    if not _HAD_TERMINAL:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return True
    return False


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


_HAD_TERMINAL = _has_terminal()
