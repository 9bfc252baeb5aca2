"""What supervision needs of an engine, whatever it is: a child of ours, vLLM, an address somewhere, Ray Serve.

A kind starts (or attaches) one engine for a `Spec` and tells what happens to it as events. It never restarts one, keeps
no rows and decides nothing: that is supervision's. A kind is a module of this package, named as users name it, with the
object `KIND`; see `kinds.named`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ecotone.engines.sockets import Sockets


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a deployment runs, as its owner chose; what is left out is the engine's or the settings' default.

    `replicas` engines run, up to `most_replicas` where calls wait for them. `idle`: seconds without a request after
    which it is unloaded, 0 for never. `pin`: never unloaded, neither for time nor for memory. `on_demand`: the first
    call starts it. `slots`: answers computed at once. `url` and `key_env`: the address of an engine that runs elsewhere
    and the server's variable with its key; `served_as`: what it calls the model. `location`: where that is, as a
    backend's; without one it is local on this machine's own addresses alone. `arguments`: further ones of the kind's
    own program or cluster (`max-model-len`, `min_replicas` ...).
    """

    kind: str = "builtin"
    replicas: int = 1
    most_replicas: int | None = None
    quantise: str | None = None
    idle: float | None = None
    pin: bool = False
    on_demand: bool = False
    slots: int | None = None
    threads: int | None = None
    device: str | None = None
    url: str | None = None
    key_env: str | None = None
    served_as: str | None = None
    location: str | None = None
    arguments: dict[str, str] = {}


@dataclass(frozen=True)
class Spec:
    """One engine to start.

    `folder` has the revision's whole files and `base` those of its base when it is an adapter that is merged; both None
    for kinds that take no files. `replica` counts from 0. `info` stands in what the engine tells of itself. `log_file`
    gets what it writes; `root` is the data folder, which no message names.
    """

    model: str
    revision: str
    options: Options
    replica: int
    sockets: Sockets
    log_file: Path
    root: Path
    folder: Path | None = None
    base: Path | None = None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Where:
    """Where an engine answers: a Unix socket, or an address (with its `/v1`) and the server's variable with the key.

    `dialect` is one of `gateway.dialects`; `model` what the engine calls the model, None for the model's own id.
    """

    socket: Path | None = None
    url: str | None = None
    key_env: str | None = None
    dialect: str = "openai"
    model: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far loading is: what is done now, and the share of it all from 0 to 1 where that is known."""

    phase: str
    share: float | None = None


@dataclass(frozen=True)
class Ready:
    """It answers. `info` is what it says of itself: task, context_length, dtype, device ..."""

    where: Where
    info: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """It will never serve this model, and why; supervision does not try again."""

    reason: str


@dataclass(frozen=True)
class Beat:
    """What it does, about each second once it is ready.

    `tokens` counts all that it made since it started (for engines that make vectors: those that it read), `requests`
    all that came; either may stay 0 where nobody counts. `running` and `waiting` are of this moment. `memory` is in
    bytes. `well` is False when it says itself that it does not get on.
    """

    running: int = 0
    waiting: int = 0
    tokens: int = 0
    requests: int = 0
    memory: int | None = None
    well: bool = True


Event = Progress | Ready | Refused | Beat
Hear = Callable[[Event], None]


class Running(Protocol):
    """An engine that was started or attached. Thread-safe."""

    @property
    def pid(self) -> int | None:
        """Its process here; None where there is none."""

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, as soon as it has, at most after `seconds`; each of its events was delivered then."""

    def failure(self, what: str) -> str:
        """`what`, how it ended, and the end of its log or its last error. Only after it has ended, or for one that does
        not get ready: then with the end of its log."""

    def probe(self, within: float) -> bool:
        """Whether it answers within these seconds, by its own means (`/health`, a completion of one token)."""

    def load(self, name: str, folder: Path, within: float) -> None:
        """Let it serve an adapter under the name `NAMESPACE/NAME@REVISION`; returns once it can be called.

        Raises:
            NotSupported: it takes no adapters while it runs, or not this one's kind; it may be merged instead.
            EngineFailed: it did not work, and why.
        """

    def unload(self, name: str, within: float) -> None:
        """Let it forget an adapter once the last answer with it has ended. One that is not there is no error."""

    def stop(self, grace: float) -> None:
        """End what was started (attached ones are left alone), politely, by force after `grace` seconds. Idempotent."""


class Kind(Protocol):
    """A way to run models."""

    takes_files: bool
    """Whether it needs the revision's files on this machine."""
    spreads: bool
    """Whether one start runs all replicas of a deployment (a cluster); else each is started on its own."""
    libraries: tuple[str, ...]
    """Importable names that have to be installed beside the server; `extra` is what installs them."""
    extra: str

    def check(self, options: Options) -> None:
        """Whether these options make sense for this kind. Raises NotServable, naming the option and what to do."""

    def start(self, spec: Spec, hear: Hear) -> Running:
        """Begin to start or attach it, and return at once; what happens is told to `hear`, in any thread, one event at
        a time. The order is `Progress`*, then `Ready` or `Refused`, then `Beat`*.

        Raises:
            EngineFailed: nothing could be started.
        """
