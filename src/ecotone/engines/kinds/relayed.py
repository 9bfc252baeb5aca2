"""An engine of another make behind a relay of ours: a child that speaks our wire on a socket."""

import fnmatch
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ecotone.engines.errors import NotServable
from ecotone.engines.kinds.kind import Hear, Options, Running, Spec
from ecotone.engines.kinds.process import Process
from ecotone.settings import Settings
from ecotone.settings.addresses import is_forbidden, literal_address

RELAY = "ecotone.engines.kinds.relay"


class Relayed(Process):
    """A relay and what it started or attached.

    Args:
        kind: the relay's word for what stands behind it.
        more: what the relay's spec says beside a deployment's own.
        dialect: of OpenAI's API, as the gateway has to know it.
    """

    def __init__(
        self, kind: str, spec: Spec, hear: Hear, *, more: Mapping[str, Any] | None = None, dialect: str = "openai"
    ) -> None:
        told = {
            "kind": kind,
            "options": msgspec.to_builtins(spec.options),
            "log": str(spec.log_file.absolute()),
            **(more or {}),
        }
        super().__init__(RELAY, spec, hear, told, dialect=dialect)

    def stop(self, grace: float) -> None:
        super().stop(grace)
        self._sockets.drop(Path(f"{str(self._socket).removesuffix('.sock')}-v.sock"))


class Elsewhere:
    """A kind of engines that somebody else runs at an address; its `arguments` are those that it takes."""

    takes_files = False
    spreads = True
    libraries: tuple[str, ...] = ()
    extra = ""
    name = ""
    arguments: frozenset[str] = frozenset()

    def check(self, options: Options) -> None:
        check_url(options)
        refuse(options, "quantise", "slots", "threads", "device", "replicas", "most_replicas", kind=self.name)
        check_arguments(options, self.arguments, self.name)

    def start(self, spec: Spec, hear: Hear) -> Running:
        return Relayed(self.name, spec, hear, more={"key": key_of(spec.options)})


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
