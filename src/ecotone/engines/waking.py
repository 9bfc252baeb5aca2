"""Hears which models processes of the gateway want to have loaded (`gateway.waking` asks): datagrams with a model's id.

The socket lies in the owner's private folder; asking changes nothing but when a deployed model is loaded.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("ecotone.engines")

_POINTER = "waking"
_LONGEST = 1024
_PATIENCE_SECONDS = 5.0


class Ear:
    """Listens for models to be woken, in a thread.

    Args:
        folder: of the engines; a file there says where the socket is.
        path: of the socket.
        wake: called with each id; must not raise.
    """

    def __init__(self, folder: Path, path: Path, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._path = path
        self._pointer = folder / _POINTER
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o600)
        draft = self._pointer.with_name(f".{_POINTER}.{path.stem}")
        draft.write_text(str(path))
        draft.chmod(0o600)
        draft.rename(self._pointer)
        self._thread = threading.Thread(target=self._listen, name="waking", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._pointer.read_text() == str(self._path):
                self._pointer.unlink()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.settimeout(_PATIENCE_SECONDS)  # nobody may be left to empty a full queue
            own.sendto(b"", str(self._path))
        self._thread.join(_PATIENCE_SECONDS)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed while one is being woken
            while data := self._socket.recv(_LONGEST):
                try:
                    self._wake(data.decode("utf-8", "replace"))
                except Exception:
                    log.exception("a model could not be woken")
