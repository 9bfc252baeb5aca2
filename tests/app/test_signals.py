"""Signals of a supervisor, as whoever stops it twice meets them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_in_the_last_moment_makes_no_failure_of_an_end_in_order(name: str) -> None:
    """An orderly stop ended with status -15, or a traceback, when it was asked for twice."""
    program = f"""
import os, signal
from collections import deque
from ecotone.app.signals import woken_by_signals
told = deque()
with woken_by_signals(told):
    os.kill(os.getpid(), signal.{name})
os.kill(os.getpid(), signal.{name})
print([signal.Signals(number).name for number in told])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"['{name}']\n", "")
