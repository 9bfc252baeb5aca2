"""An engine of ours, or a relay of ours before another, as a child on a Unix socket, heard over its pipe."""

import contextlib
import http.client
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecotone.engines.errors import EngineFailed, NotSupported
from ecotone.engines.kinds.kind import Beat, Event, Hear, Progress, Ready, Refused, Spec, Where
from ecotone.engines.probing import asked, healthy
from ecotone.jobs import Child, Message


class Process:
    """A child that answers on a socket of its own. Thread-safe.

    Args:
        module: what runs in the child.
        told: what its spec says beside where it answers, from which files, and what it is called.
        dialect: of OpenAI's API, as the gateway has to know it.

    Raises:
        EngineFailed: no process could be started.
    """

    def __init__(
        self, module: str, spec: Spec, hear: Hear, told: Mapping[str, Any], *, dialect: str = "openai"
    ) -> None:
        self._hear = hear
        self._sockets = spec.sockets
        self._socket = spec.sockets.new()
        self._where = Where(socket=self._socket, dialect=dialect)
        self._stopping = threading.Lock()
        self._was_stopped = False
        whole = {
            "folder": None if spec.folder is None else str(spec.folder),
            "base": None if spec.base is None else str(spec.base),
            "socket": str(self._socket),
            "info": {**spec.info, "model": spec.model, "revision": spec.revision},
            **told,
        }
        try:
            self._child = Child(module, whole, log=spec.log_file, on_message=self._heard)
        except OSError as error:
            raise EngineFailed(f"No process could be started for {spec.model}: {error.strerror}.") from None

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def wait(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            self._child.wait(seconds)
            return True
        return False

    def failure(self, what: str) -> str:
        if self._child.poll() is None:
            return f"{what}. The end of its log:\n{self._child.tail()}"
        return self._child.failure(what).message

    def probe(self, within: float) -> bool:
        return healthy(self._socket, within)

    def load(self, name: str, folder: Path, within: float) -> None:
        status, error = self._adapters("POST", {"name": name, "folder": str(folder)}, within)
        if status == 200:
            return
        text = error.get("message") or f"its engine answered {status}"
        if self.is_unsupported(status, error.get("code")):
            raise NotSupported(f"{name} cannot be added to a running engine: {text}")
        raise EngineFailed(f"{name} could not be added to the engine: {text}")

    def unload(self, name: str, within: float) -> None:
        status, error = self._adapters("DELETE", {"name": name}, within)
        if status not in (200, 404):
            text = error.get("message") or f"its engine answered {status}"
            raise EngineFailed(f"{name} could not be removed from the engine: {text}")

    def stop(self, grace: float) -> None:
        with self._stopping:
            self._was_stopped = True
            self._child.stop(grace)
            self._sockets.drop(self._socket)

    def is_unsupported(self, status: int, code: Any) -> bool:
        """Whether a refusal of an adapter means that it may be merged into its base instead."""
        return code in ("adapters_unsupported", "not_an_adapter")

    def _adapters(self, method: str, body: dict[str, str], within: float) -> tuple[int, dict[str, Any]]:
        """Status and error of a question about adapters."""
        try:
            status, raw = asked(self._socket, method, "/adapters", body, within)
        except (OSError, http.client.HTTPException) as failed:
            raise EngineFailed(f"The engine did not answer: {type(failed).__name__}.") from None
        error: Any = None
        with contextlib.suppress(ValueError, TypeError, KeyError):
            error = json.loads(raw)["error"]
        return status, error if isinstance(error, dict) else {}

    def _heard(self, message: Message) -> None:
        event = event_of(message, self._where)
        if event is not None:
            self._hear(event)


def event_of(message: Message, where: Where) -> Event | None:
    """What a child's message means; None for one that means nothing here."""
    match message:
        case {"ready": dict() as info}:
            return Ready(where, info)
        case {"refused": reason}:
            return Refused(str(reason))
        case {"progress": str() as phase}:
            share = message.get("share")
            return Progress(phase, float(share) if isinstance(share, int | float) else None)
        case {"beat": dict() as beat}:
            memory = beat.get("memory")
            counts = {name: int(beat.get(name) or 0) for name in ("running", "waiting", "tokens", "requests")}
            return Beat(**counts, memory=None if memory is None else int(memory), well=bool(beat.get("well", True)))
    return None
