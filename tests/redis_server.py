"""A real Redis on a socket of its own, which keeps what it was told over its restarts."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.receiver import until

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")


class RedisServer:
    """Not started yet; `url` is what clients get.

    Args:
        folder: of its socket and its file; a short path.
        password: that it asks for, if any.
    """

    def __init__(self, folder: Path, password: str = "") -> None:
        self._socket = folder / "r"
        self._folder, self._password = folder, password
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://:{password}@{self._socket}" if password else f"unix://{self._socket}"

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        if self._password:
            command += ["--requirepass", self._password]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: self._socket.exists() and self.ask("ping").strip() == "PONG")

    def ask(self, *words: str) -> str:
        """What redis-cli prints."""
        login = ["-a", self._password, "--no-auth-warning"] if self._password else []
        command = ["redis-cli", "-s", str(self._socket), *login, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._socket.unlink(missing_ok=True)
            self._process = None
