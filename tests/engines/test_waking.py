"""Other processes ask by a socket for a model to be loaded."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from ecotone.engines import waking
from ecotone.engines.waking import Ear
from tests.receiver import until


def say(path: Path, *words: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        for word in words:
            own.sendto(word, str(path))


def test_what_cannot_be_woken_keeps_nothing_else_asleep(tmp_path: Path) -> None:
    heard: list[str] = []

    def wake(name: str) -> None:
        if name == "broken":
            raise RuntimeError("no such engine")
        heard.append(name)

    ear = Ear(tmp_path, tmp_path / "ear", wake)
    say(tmp_path / "ear", b"broken", b"whole")
    until(lambda: heard == ["whole"])
    ear.close()
    assert not (tmp_path / "ear").exists() and not (tmp_path / "waking").exists()


def test_it_is_closed_though_nobody_empties_its_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "_PATIENCE_SECONDS", 0.1)
    held, over = threading.Event(), threading.Event()

    def wake(_: str) -> None:
        held.set()
        over.wait(90)

    ear = Ear(tmp_path, tmp_path / "ear", wake)
    say(tmp_path / "ear", b"one")
    assert held.wait(90)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own, contextlib.suppress(BlockingIOError):
        own.setblocking(False)
        while True:
            own.sendto(b"more", str(tmp_path / "ear"))
    began = time.monotonic()
    ear.close()
    assert time.monotonic() - began < 60
    over.set()
