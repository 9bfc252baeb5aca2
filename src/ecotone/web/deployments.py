"""Pages of deployments: what is served, how it does, and one of each with its engines, figures and log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from ecotone.engines import Deployment, Options, deployment_of, visible
from ecotone.vocabulary import Conflict, DeploymentState, Forbidden, Invalid, NotFound, Refused, Unavailable
from ecotone.web.endpoint import Visit
from ecotone.web.managing import Fields, number_of
from ecotone.web.rendering import size

PATH = "/ecotone/deployments"
MARKS = {
    DeploymentState.READY: "live",
    DeploymentState.STARTING: "doubt",
    DeploymentState.IDLE: "",
    DeploymentState.FAILED: "bad",
    DeploymentState.STOPPED: "",
}
_LOG_LINES = 200
_MINUTE = 60
_HIDDEN = ("model", "revision", "quantised")


@dataclass(frozen=True, slots=True)
class Row:
    """A deployment in a line."""

    model: str
    state: str
    mark: str
    how: str
    replicas: str
    speed: str
    requests: str
    memory: str
    idle: str
    said: str


def listed(visit: Visit) -> Response:
    """GET /ecotone/deployments"""
    _check_user(visit)
    return _listed(visit, {})


def create(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/deployments: serve a model; returns when it answers."""
    name, _, rev = fields.get("model", "").strip().partition("@")
    try:
        options = _options(fields)
        model = visit.services.catalog.model(name, viewer=visit.actor)
        visit.services.intend("serve_model", visit.actor, model=model.id)
        made = visit.services.engines.serve(model.id, rev or "main", (), visit.actor, options)
    except (Invalid, Conflict, Forbidden, NotFound, Refused, Unavailable) as error:
        return _listed(visit, fields, error.message)
    told = {"model": made.model, "revision": made.revision, "projects": [], "options": msgspec.to_builtins(options)}
    told["base"] = made.base
    visit.services.note("model.served", visit.actor, **told)
    return visit.redirect(f"{PATH}/{made.model}")


def show(visit: Visit) -> Response:
    """GET /ecotone/deployments/{namespace}/{name}"""
    _check_user(visit)
    found = _found(visit)
    model = visit.catalog.model(found.model, viewer=visit.actor)
    return visit.page(
        "deployment.html",
        d=found,
        row=_row(found),
        model=model,
        facts=_facts(found),
        quantised=_quantised(found.info),
        options={k: v for k, v in msgspec.to_builtins(found.options).items() if v not in (None, {}, "")},
        log=_log(visit, found.model) if visit.actor.is_admin else None,
        marks=MARKS,
        size=size,
    )


def act(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/deployments/{namespace}/{name}: `act` is stop."""
    found = _found(visit)
    if fields.get("act") != "stop":
        raise Invalid("That is nothing this form does.", param="act")
    visit.services.intend("unserve_model", visit.actor, model=found.model)
    visit.services.engines.stop(found.model)
    visit.services.note("model.unserved", visit.actor, model=found.model)
    return visit.redirect(PATH)


def _check_user(visit: Visit) -> None:
    if visit.actor.kind != "user":
        raise Forbidden("Deployments are shown to users of this house; log in.")


def _found(visit: Visit) -> Deployment:
    wanted = f"{visit.path['namespace']}/{visit.path['name']}"
    return deployment_of(wanted, visit.services.engines, visit.catalog, visit.actor)


def _listed(visit: Visit, told: Fields, problem: str = "") -> Response:
    rows = [_row(d) for d in visible(visit.services.engines, visit.catalog, visit.actor)]
    answer = visit.page("deployments.html", rows=rows, told=told, problem=problem)
    answer.status_code = 400 if problem else 200
    return answer


def _options(fields: Fields) -> Options:
    """Raises Invalid, naming the field."""
    idle = number_of(fields, "idle", "Minutes without a request")
    return Options(
        replicas=number_of(fields, "replicas", "Replicas") or 1,
        quantise=fields.get("quantise") or None,
        idle=None if idle is None else float(idle * _MINUTE),
        pin=fields.get("pin") == "yes",
        on_demand=fields.get("on_demand") == "yes",
    )


def _row(d: Deployment) -> Row:
    ready = sum(replica.state is DeploymentState.READY for replica in d.replicas)
    how = [d.task or "", "int8" if d.options.quantise else "", f"on {d.on_base}" if d.on_base else ""]
    how.append(d.kind if d.kind != "builtin" else "")
    return Row(
        model=d.model,
        state=str(d.state),
        mark=MARKS[d.state],
        how=", ".join(filter(None, how)),
        replicas=f"{ready} of {max(len(d.replicas), d.options.replicas)}",
        speed=f"{d.tokens_per_second:,.0f}/s" if d.state is DeploymentState.READY else "",
        requests=f"{d.running} running, {d.waiting} waiting" if d.state is DeploymentState.READY else "",
        memory=size(d.memory) if d.memory else "",
        idle=_idle(d),
        said=d.progress or (d.error or "").split("\n", 1)[0],
    )


def _idle(d: Deployment) -> str:
    if d.options.pin:
        return "pinned"
    if d.idle_left is None:
        return "never" if d.state is DeploymentState.READY else ""
    minutes, seconds = divmod(int(d.idle_left), _MINUTE)
    return f"in {minutes}:{seconds:02d}"


def _facts(d: Deployment) -> list[tuple[str, str]]:
    """What the engine says of itself, but for what the page tells elsewhere."""
    found = [(name, value) for name, value in d.info.items() if name not in _HIDDEN and value not in (None, "", {})]
    return [(name.replace("_", " "), _text(value)) for name, value in [("base", d.base or ""), *found] if value != ""]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_text(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)


def _quantised(info: dict[str, Any]) -> list[tuple[str, str]]:
    """What reduced weights cost in accuracy, as the engine measured it when it loaded this very model."""
    told = info.get("quantised")
    if not isinstance(told, dict):
        return []
    return [(name.replace("_", " "), _text(value)) for name, value in told.items()]


def _log(visit: Visit, model: str) -> str:
    return "\n".join(visit.services.engines.logs(model).splitlines()[-_LOG_LINES:])
