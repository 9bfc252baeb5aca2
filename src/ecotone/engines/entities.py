"""What engines hand out: frozen values, never rows or processes."""

from datetime import datetime
from typing import Any

import msgspec

from ecotone.vocabulary import DeploymentState


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A model revision that is, or should be, served by a local engine.

    `projects` limits who may call it (empty: everybody whom the decision allows). `socket` is where its engine answers
    once it is ready. `error` says what went wrong last, also while it is being started again. `info` holds what the
    engine says of itself: dtype, device, parameters, pooling.
    """

    id: str
    model: str
    revision: str
    state: DeploymentState
    projects: tuple[str, ...] = ()
    task: str | None = None
    socket: str | None = None
    pid: int | None = None
    restarts: int = 0
    started: datetime | None = None
    error: str | None = None
    context_length: int | None = None
    info: dict[str, Any] = {}
