"""How a process of the gateway asks the server of its machine, which owns the engines, to have a model loaded."""

import logging
import os
import socket
from pathlib import Path

log = logging.getLogger("ecotone.gateway")

_POINTER = "waking"
_LONGEST = 1024


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
