"""Work of a server that begins by itself: files that arrived, traces. A moment without room for it ends none of it."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecotone.app.trace_child import NOT_STARTED, TraceChild
from ecotone.app.upkeep import _Soon
from ecotone.settings import Settings
from tests.receiver import until

FILES = [("demo", str(number) * 64, 1) for number in range(3)]


def test_files_that_arrive_while_no_thread_can_be_had_are_converted_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The upload that met it is whole and must not fail by it; nor may those that follow wait for another thread."""
    done: list[Any] = []
    soon = _Soon(done.extend)

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patching:
        patching.setattr(threading.Thread, "start", fail)
        soon.put(FILES[0])
    soon.put(FILES[1])
    until(lambda: done == FILES[:2])


def test_files_that_arrive_after_a_fault_are_converted() -> None:
    done: list[Any] = []

    def work(files: Iterator[Any]) -> None:
        for file in files:
            if file is FILES[0]:
                raise ValueError("a fault")
            done.append(file)

    soon = _Soon(work)
    soon.put(FILES[0])
    until(lambda: not soon._running)
    soon.put(FILES[1])
    until(lambda: done == [FILES[1]])


def test_traces_are_sent_although_no_process_could_be_had_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, begun = [OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))], []

    async def once(_child: TraceChild) -> int:
        if failing:
            raise failing.pop()
        begun.append(True)
        return NOT_STARTED

    monkeypatch.setattr("ecotone.app.trace_child._is_installed", lambda: True)
    monkeypatch.setattr("ecotone.app.trace_child._FIRST_PAUSE", 0.01)
    monkeypatch.setattr(TraceChild, "_once", once)
    asyncio.run(TraceChild(Settings(data=tmp_path, otlp_endpoint="http://127.0.0.1:4318")).run())
    assert begun
