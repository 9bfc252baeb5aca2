"""What engines hand out: frozen values, never rows or processes."""

from datetime import datetime
from typing import Any

import msgspec

from ecotone.engines.kinds.kind import Options
from ecotone.vocabulary import DeploymentState


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of a deployment. `memory` is in bytes, `progress` a phase with a percentage while it loads."""

    state: DeploymentState
    pid: int | None = None
    memory: int | None = None
    restarts: int = 0
    running: int = 0
    waiting: int = 0
    error: str | None = None
    progress: str | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A model revision that is, or should be, served by local engines.

    `projects` limits who may call it (empty: everybody whom the decision allows). `sockets` are where its ready engines
    answer, `socket` the first of them; an engine that runs elsewhere has `url`, `key_env` and `dialect` instead.
    `engine_model` is what the engine calls it, where that is not its id: an adapter on its base's engine
    (`on_base`: the base's id). `error` says what went wrong last, also while it is being started again. `info` holds
    what the engine says of itself: dtype, device, parameters, pooling, the accuracy of quantised weights.
    `tokens_per_second` is of the last seconds and, like `running` and `memory`, of the whole engine, which others may
    use too. `idle_left`: seconds until it is unloaded, None when it never is. `loadable`: a call has it loaded.
    """

    id: str
    model: str
    revision: str
    state: DeploymentState
    projects: tuple[str, ...] = ()
    kind: str = "builtin"
    options: Options = Options()
    task: str | None = None
    socket: str | None = None
    sockets: tuple[str, ...] = ()
    url: str | None = None
    key_env: str | None = None
    dialect: str = "openai"
    engine_model: str | None = None
    on_base: str | None = None
    pid: int | None = None
    replicas: tuple[Replica, ...] = ()
    restarts: int = 0
    started: datetime | None = None
    error: str | None = None
    progress: str | None = None
    loadable: bool = False
    idle_left: float | None = None
    running: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0
    memory: int | None = None
    context_length: int | None = None
    info: dict[str, Any] = {}

    @property
    def base(self) -> str | None:
        """`NAMESPACE/NAME@REVISION` of the base whose engine answers for an adapter, once it is known."""
        return f"{self.on_base}@{self.info['revision']}" if self.on_base and self.info.get("revision") else None
