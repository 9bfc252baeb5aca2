"""Asks an engine over its socket: whether it is well, and to take or forget adapters. Knows nothing of deployments."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

_MOST_ANSWER = 1024 * 1024


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def healthy(path: Path, timeout: float) -> bool:
    """Whether `/health` answers 200 in time: the process listens, and its computing thread gets on."""
    try:
        return asked(path, "GET", "/health", None, timeout)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def asked(path: Path, method: str, target: str, body: dict[str, Any] | None, timeout: float) -> tuple[int, bytes]:
    """Status and body of one request; OSError or HTTPException when there is no answer in time."""
    connection = _Connection(path, timeout)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"content-type": "application/json"} if data else {})
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_ANSWER)
    finally:
        connection.close()
