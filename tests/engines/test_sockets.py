"""Socket paths fit the system's limit, and lie where nobody else can reach them."""

import os
import socket
from pathlib import Path

import pytest

from ecotone.engines.sockets import Sockets


def bind(path: Path) -> None:
    assert len(os.fsencode(path)) <= 107
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_a_short_folder_is_used_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("/tmp") / f"ecotone-test-{os.getpid()}"
    try:
        sockets = Sockets(folder)
        path = sockets.new()
        bind(path)
        assert path.parent == folder and path.exists() and folder.stat().st_mode & 0o077 == 0
        assert sockets.new() != path
        Sockets(folder).sweep()
        assert not path.exists(), "what an earlier server left is cleared"
    finally:
        for left in folder.glob("*"):
            left.unlink()
        folder.rmdir()


def test_a_long_folder_gets_a_short_private_one(tmp_path: Path) -> None:
    sockets = Sockets(tmp_path / ("x" * 90) / "run")
    path = sockets.new()
    bind(path)
    assert path.parent.stat().st_mode & 0o077 == 0
    assert Sockets(tmp_path / ("x" * 90) / "run").new().parent == path.parent
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def test_a_folder_that_others_can_reach_is_not_trusted(tmp_path: Path) -> None:
    long = tmp_path / ("y" * 90) / "run"
    first = Sockets(long).new().parent
    first.chmod(0o755)
    second = Sockets(long).new().parent
    assert second != first and second.stat().st_mode & 0o077 == 0
    first.rmdir()
    second.rmdir()
