"""How a process of the gateway asks the one that owns the engines to load a model: a datagram with the model's id.

The socket lies in the owner's private folder; asking changes nothing but when a deployed model is loaded. Imports
nothing heavy, as gateways load this.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("ecotone.engines")

_POINTER = "waking"
_LONGEST = 1024


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
            own.sendto(b"", str(self._path))
        self._thread.join(5)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _listen(self) -> None:
        while data := self._socket.recv(_LONGEST):
            try:
                self._wake(data.decode("utf-8", "replace"))
            except Exception:
                log.exception("a model could not be woken")


class Caller:
    """Asks the owner of the engines; for processes that are not it.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._pointer = folder / "engines" / _POINTER

    def __call__(self, model: str) -> None:
        """Ask, without waiting and without an answer: whether it worked is seen in the next snapshot."""
        if not model:
            return
        try:
            where = self._pointer.read_text()
            if os.stat(where).st_uid != os.getuid():  # noqa: PTH116
                return
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.setblocking(False)
                own.sendto(model.encode()[:_LONGEST], where)
        except OSError as error:
            log.warning("the engine of %s could not be asked for: %s", model, error.strerror)
