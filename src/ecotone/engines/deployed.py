"""A deployment as this process has it: its row, the fleet that serves it, its adapter; and what is told of it."""

import time
from contextlib import ExitStack

from ecotone.engines.entities import Deployment, Replica
from ecotone.engines.fleets import Fleet
from ecotone.engines.kinds.kind import Options, Progress
from ecotone.engines.models import DeploymentRow
from ecotone.engines.supervision import Supervised
from ecotone.vocabulary import DeploymentState


class Deployed:
    """What serves one model.

    Args:
        fleet: its own, or its base's when it is an adapter; None while the base is still looked for.
        adapter: the name `NAMESPACE/NAME@REVISION` by which the engine knows it; None where it has its own engine.
        held: keeps the adapter's files for as long as they may be needed.
    """

    def __init__(
        self,
        row: DeploymentRow,
        options: Options,
        fleet: Fleet | None,
        *,
        adapter: str | None = None,
        held: ExitStack | None = None,
    ) -> None:
        self.row = row
        self.options = options
        self.fleet = fleet
        self.adapter = adapter
        self.held = held or ExitStack()
        self.error: str | None = None
        self.has_failed = False
        self.over = False
        """Whether it was stopped or replaced."""

    @property
    def model(self) -> str:
        return self.row.model


def described(deployed: Deployed, idle: float | None) -> Deployment:
    """What others see of it.

    Args:
        idle: seconds without a request after which its fleet is unloaded; None for never.
    """
    row, fleet, adapter = deployed.row, deployed.fleet, deployed.adapter
    replicas = list(fleet.replicas) if fleet is not None else []
    ready = [r for r in replicas if _is_ready(r, adapter)] if fleet is not None and not fleet.leaving else []
    places = [where for r in ready if (where := r.where) is not None]
    first = places[0] if places else None
    state, error = _state(deployed, replicas, bool(places))
    info = next((r.info for r in (*ready, *replicas) if r.info), {})
    sockets = tuple(str(where.socket) for where in places if where.socket is not None)
    memory = [m for r in replicas if (m := r.beat.memory) is not None]
    return Deployment(
        id=row.id,
        model=row.model,
        revision=row.revision,
        state=state,
        projects=tuple(row.projects),
        kind=deployed.options.kind,
        options=deployed.options,
        task=info.get("task"),
        socket=sockets[0] if sockets else None,
        sockets=sockets,
        url=first.url if first is not None else None,
        key_env=first.key_env if first is not None else deployed.options.key_env,
        dialect=first.dialect if first is not None else "openai",
        engine_model=adapter or (first.model if first is not None else None),
        on_base=fleet.model if adapter is not None and fleet is not None else None,
        pid=next((r.pid for r in (*ready, *replicas) if r.pid is not None), None),
        replicas=tuple(_replica(r) for r in replicas),
        restarts=sum(r.restarts for r in replicas),
        started=min((r.started for r in ready if r.started is not None), default=None),
        error=error,
        progress=_progress(fleet, replicas) if state != DeploymentState.READY else None,
        loadable=fleet is not None and state in (DeploymentState.IDLE, DeploymentState.STARTING),
        idle_left=_idle_left(fleet, idle) if state == DeploymentState.READY else None,
        running=sum(r.beat.running for r in replicas),
        waiting=sum(r.beat.waiting for r in replicas),
        tokens_per_second=round(sum(r.speed for r in replicas), 1),
        memory=sum(memory) if memory else None,
        context_length=info.get("context_length"),
        info=info,
    )


def _is_ready(replica: Supervised, adapter: str | None) -> bool:
    return replica.state == DeploymentState.READY and (adapter is None or adapter in replica.loaded)


def _state(deployed: Deployed, replicas: list[Supervised], answers: bool) -> tuple[DeploymentState, str | None]:
    fleet, adapter = deployed.fleet, deployed.adapter
    if deployed.has_failed:
        return DeploymentState.FAILED, deployed.error
    if answers:
        return DeploymentState.READY, None if all(r.error is None for r in replicas) else _error(replicas)
    if fleet is None:
        return DeploymentState.STARTING, deployed.error
    error = _error(replicas) or deployed.error
    if fleet.state == DeploymentState.READY and adapter is not None:  # its base answers, and it does not
        told = next((why for r in replicas if (why := r.adapter_errors.get(adapter)) is not None), None)
        return (DeploymentState.FAILED, told) if told else (DeploymentState.STARTING, error)
    return fleet.state, error


def _error(replicas: list[Supervised]) -> str | None:
    return next((r.error for r in replicas if r.error), None)


def _replica(replica: Supervised) -> Replica:
    return Replica(
        state=replica.state,
        pid=replica.pid,
        memory=replica.beat.memory,
        restarts=replica.restarts,
        running=replica.beat.running,
        waiting=replica.beat.waiting,
        error=replica.error,
        progress=None if replica.progress is None else in_words(replica.progress),
    )


def _progress(fleet: Fleet | None, replicas: list[Supervised]) -> str | None:
    if fleet is not None and fleet.leaving:
        return "unloading"
    found = [p for r in replicas if r.state == DeploymentState.STARTING and (p := r.progress) is not None]
    return in_words(min(found, key=lambda p: (p.share is not None, p.share or 0.0))) if found else None


def in_words(progress: Progress) -> str:
    return progress.phase if progress.share is None else f"{progress.phase}, {progress.share:.0%}"


def _idle_left(fleet: Fleet | None, idle: float | None) -> float | None:
    if fleet is None or idle is None:
        return None
    return idle if fleet.busy else max(0.0, idle - (time.monotonic() - fleet.used))
