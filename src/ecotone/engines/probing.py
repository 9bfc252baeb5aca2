"""Asks an engine over its socket whether it is well. Knows nothing of deployments."""

import http.client
import socket
from pathlib import Path


class Connection(http.client.HTTPConnection):
    """To an engine's socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def healthy(path: Path, timeout: float) -> bool:
    """Whether `/health` answers 200 in time: the process listens, and its computing thread gets on."""
    connection = Connection(path, timeout)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
