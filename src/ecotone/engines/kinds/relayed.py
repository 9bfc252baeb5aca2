"""An engine of another make behind a relay of ours: a child that speaks our wire on a socket."""

import fnmatch
import json
import os
import threading
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ecotone.engines.errors import EngineFailed, NotServable, NotSupported
from ecotone.engines.kinds.kind import Beat, Event, Hear, Options, Progress, Ready, Refused, Spec, Where
from ecotone.engines.probing import asked, healthy
from ecotone.jobs import Child, Message
from ecotone.settings import Settings
from ecotone.settings.addresses import is_forbidden, literal_address

RELAY = "ecotone.engines.kinds.relay"


class Relayed:
    """A relay and what it started or attached. Thread-safe.

    Args:
        kind: the relay's word for what stands behind it.
        more: what the relay's spec says beside a deployment's own.
        dialect: of OpenAI's API, as the gateway has to know it.
    """

    def __init__(
        self, kind: str, spec: Spec, hear: Hear, *, more: Mapping[str, Any] | None = None, dialect: str = "openai"
    ) -> None:
        self._name = spec.model
        self._sockets = spec.sockets
        self._socket = spec.sockets.new()
        self._where = Where(socket=self._socket, dialect=dialect)
        self._hear = hear
        self._stopped = threading.Lock()
        self._child = Child(
            RELAY,
            {
                "kind": kind,
                "socket": str(self._socket),
                "info": {**spec.info, "model": spec.model, "revision": spec.revision},
                "options": msgspec.to_builtins(spec.options),
                "folder": None if spec.folder is None else str(spec.folder),
                "base": None if spec.base is None else str(spec.base),
                "log": str(spec.log_file.absolute()),
                **(more or {}),
            },
            log=spec.log_file,
            on_message=self._told,
        )

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def wait(self, seconds: float) -> bool:
        try:
            self._child.wait(seconds)
        except TimeoutError:
            return False
        return True

    def failure(self, what: str) -> str:
        if self._child.poll() is None:
            return f"{what}. The end of its log:\n{self._child.tail()}"
        return self._child.failure(what).message

    def probe(self, within: float) -> bool:
        return healthy(self._socket, within)

    def load(self, name: str, folder: Path, within: float) -> None:
        status, told = self._adapters("POST", {"name": name, "folder": str(folder)}, within)
        if status == 200:
            return
        message = told.get("message") or f"its engine answered {status}"
        if told.get("code") in ("adapters_unsupported", "not_an_adapter"):
            raise NotSupported(message)
        raise EngineFailed(f"{name} was not loaded: {message}")

    def unload(self, name: str, within: float) -> None:
        status, told = self._adapters("DELETE", {"name": name}, within)
        if status not in (200, 404):
            raise EngineFailed(f"{name} was not unloaded: {told.get('message') or f'its engine answered {status}'}")

    def stop(self, grace: float) -> None:
        with self._stopped:
            self._child.stop(grace)
            self._sockets.drop(self._socket)
            self._sockets.drop(Path(f"{str(self._socket).removesuffix('.sock')}-v.sock"))

    # -- inside ------------------------------------------------------------------------------------------------------
    def _told(self, message: Message) -> None:
        event = _event(message, self._where)
        if event is not None:
            self._hear(event)

    def _adapters(self, method: str, body: dict[str, str], within: float) -> tuple[int, dict[str, Any]]:
        """Status and error of a question about adapters."""
        try:
            status, raw = asked(self._socket, method, "/adapters", body, within)
            found = json.loads(raw or b"{}")
        except (OSError, HTTPException, ValueError) as failed:
            raise EngineFailed(f"The engine of {self._name} does not answer: {type(failed).__name__}.") from None
        error = found.get("error") if isinstance(found, dict) else None
        return status, error if isinstance(error, dict) else {}


def _event(message: Message, where: Where) -> Event | None:
    if "loading" in message:
        return Progress(str(message["loading"]))
    if "ready" in message:
        return Ready(where, message["ready"])
    if "refused" in message:
        return Refused(str(message["refused"]))
    if "beat" in message:
        beat = message["beat"]
        memory = beat.get("memory")
        return Beat(
            running=int(beat.get("running") or 0),
            waiting=int(beat.get("waiting") or 0),
            tokens=int(beat.get("tokens") or 0),
            requests=int(beat.get("requests") or 0),
            memory=None if memory is None else int(memory),
            well=bool(beat.get("well", True)),
        )
    return None


# -- options that several kinds share --------------------------------------------------------------------------------
def check_arguments(options: Options, known: frozenset[str], kind: str) -> None:
    """Raises NotServable, naming the argument that the kind does not take."""
    for name in options.arguments:
        if name not in known:
            raise NotServable(
                f"Engines of kind {kind} take no argument {name!r}; known are {', '.join(sorted(known)) or 'none'}."
            )


def refuse(options: Options, *names: str, kind: str) -> None:
    """Raises NotServable, naming an option that is set and has no meaning for the kind."""
    empty = Options()
    for name in names:
        if getattr(options, name) != getattr(empty, name):
            raise NotServable(f"Engines of kind {kind} have no option {name}; leave it out.")


def check_url(options: Options) -> None:
    """Raises NotServable for an address that cannot be meant, or whose place nobody has named."""
    parts = urlsplit(options.url or "")
    try:
        parts.port  # noqa: B018  raises for what is no number
    except ValueError:
        raise NotServable(f"The port in the address {options.url!r} is no number.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise NotServable(
            "An address is expected as url, http or https with neither a password nor a query in it, e.g. "
            "http://127.0.0.1:8000/v1."
        )
    address = literal_address(parts.hostname)
    if address is not None and is_forbidden(address):
        raise NotServable(f"No request may go to {parts.hostname}.")
    here = parts.hostname == "localhost" or (address is not None and address.is_loopback)
    if not here and options.location is None:
        raise NotServable(
            f"{parts.hostname} is not this machine: say where it is, with --location local for a machine of the "
            "house, --location external for one outside."
        )


def key_of(options: Options) -> str | None:
    """The key of an attached engine, from the server's own variable.

    Raises:
        NotServable: the variable is no engine's, or is not set.
    """
    name = options.key_env
    if not name:
        return None
    patterns = Settings.from_environment().provider_key_patterns
    if name.startswith("ECOTONE_") or not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
        raise NotServable(
            f"{name} may hold no key of an engine; its name has to fit {', '.join(patterns)} (ECOTONE_PROVIDER_KEYS)."
        )
    found = os.environ.get(name)
    if not found:
        raise NotServable(f"The variable {name} holds no key; set it in the server's environment.")
    return found
