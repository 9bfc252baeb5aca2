"""The catalogue and the engines over REST."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.catalog import Model
from ecotone.engines import Deployment, Options, deployment_of, visible
from ecotone.policy import Action
from ecotone.vocabulary import Forbidden


class NewDeployment(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    revision: str = "main"
    projects: list[str] | None = None
    options: Options | None = None


@endpoint("GET", "/models", need=Need.READ, summary="Search models, open and proprietary")
def list_models(call: Call) -> Any:
    search = call.query.get("search", "").split()
    found = call.services.catalog.models(viewer=call.actor, search=search, limit=1000)
    return [_model(m) for m in found.models]


@endpoint("GET", "/models/{namespace}/{name}", need=Need.READ, summary="One model with lineage and measurements")
def show_model(call: Call) -> Any:
    catalog = call.services.catalog
    model = catalog.model(_id(call), viewer=call.actor)
    revision = catalog.revision(model, "main") if model.head else None
    return {
        **_model(model),
        "facts": model.facts,
        "card": revision.card if revision else {},
        "declared_licence": revision.declared_licence if revision else None,
        "detected_licences": list(revision.detected) if revision else [],
        "concluded_licences": list(revision.instruments) if revision else list(model.instruments),
        "findings": list(revision.findings) if revision else [],
        "parents": [msgspec.to_builtins(e) for e in catalog.told_edges(revision.edges if revision else (), call.actor)],
        "measurements": [msgspec.to_builtins(m) for m in catalog.measurements(model.id)],
    }


@endpoint("DELETE", "/models/{namespace}/{name}", need=Need.WRITE, summary="Delete a model; a tombstone remains")
def remove_model(call: Call) -> Any:
    model_id = _id(call)
    model = call.services.catalog.model(model_id, viewer=call.actor)
    call.services.catalog.delete(model, call.actor)
    call.services.note("model.deleted", call.actor, model=model_id)
    return {"removed": model_id}


@endpoint("POST", "/deployments", need=Need.WRITE, body=NewDeployment, status=201, summary="Serve a model; waits")
def serve_model(call: Call) -> Any:
    new: NewDeployment = call.body
    services = call.services
    model = services.catalog.model(new.model, viewer=call.actor)
    _check_options(call, new.options)
    before = next((d.projects for d in services.engines.deployments() if d.model == model.id), ())
    projects = before if new.projects is None else tuple(new.projects)
    declared = [services.accounts.project(name) for name in projects]
    deployment = services.engines.serve(model.id, new.revision, projects, call.actor, new.options)
    services.note(
        "model.served",
        call.actor,
        model=model.id,
        revision=deployment.revision,
        projects=list(projects),
        options=msgspec.to_builtins(deployment.options),
        base=deployment.base,
    )
    outcome = services.policy.may_serve(model.id, deployment.revision, projects)
    warnings = [outcome.warning] if outcome.warning else []
    if new.projects is None and before:
        warnings.append(f"still for {', '.join(before)} alone, as it was; --everybody lifts that")
    for project in declared:
        outcome = services.policy.for_project(model.id, deployment.revision, project, Action.CALL)
        if not outcome.allowed:
            warnings.append(f"calls of project {project.name} are refused: {outcome.message}")
    if model.private and not projects:
        warnings.append(
            f"{model.id} is private and is served to every project that may call private models; "
            "name some with --project to limit that."
        )
    return {**_deployment(deployment), "info": deployment.info, "warnings": warnings}


def _check_options(call: Call, options: Options | None) -> None:
    """What lets the server call addresses or run other programs is for administrators, as backends are."""
    if options is None or options.kind == "builtin":
        return
    if not call.actor.is_admin:
        raise Forbidden(
            f"Only administrators deploy engines of the kind {options.kind[:40]!r}; builtin is everybody's."
        )
    call.services.backends.check_reach(options.url, options.key_env)


@endpoint("GET", "/deployments", need=Need.USER, summary="Engines that run or should run")
def list_deployments(call: Call) -> Any:
    services = call.services
    return [_deployment(d) for d in visible(services.engines, services.catalog, call.actor)]


@endpoint("GET", "/deployments/{namespace}/{name}", need=Need.USER, summary="One deployment, with its replicas")
def show_deployment(call: Call) -> Any:
    found = _deployed(call)
    return {**_deployment(found), "info": found.info}


@endpoint("DELETE", "/deployments/{namespace}/{name}", need=Need.WRITE, summary="Stop a model's engine")
def stop_model(call: Call) -> Any:
    model_id = _deployed(call).model
    call.services.engines.stop(model_id)
    call.services.note("model.unserved", call.actor, model=model_id)
    return {"stopped": model_id}


@endpoint("GET", "/deployments/{namespace}/{name}/log", need=Need.WRITE, summary="The end of an engine's log")
def deployment_log(call: Call) -> Any:
    return {"log": call.services.engines.logs(_deployed(call).model)}


def _deployed(call: Call) -> Deployment:
    """Raises DeploymentNotFound, also for a model that is not the caller's to see."""
    return deployment_of(_id(call), call.services.engines, call.services.catalog, call.actor)


def _id(call: Call) -> str:
    return f"{call.path['namespace']}/{call.path['name']}"


def _model(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "kind": model.kind,
        "title": model.title,
        "licence": model.licence,
        "instruments": list(model.instruments),
        "private": model.private,
        "head": model.head,
        "pipeline_tag": model.pipeline_tag,
        "tags": list(model.tags),
        "created": model.created.isoformat(),
        "updated": model.updated.isoformat(),
    }


def _deployment(deployment: Deployment) -> dict[str, Any]:
    """What a caller may know of a deployment; its socket and process are the server's own business."""
    return {
        "id": deployment.id,
        "model": deployment.model,
        "revision": deployment.revision,
        "state": deployment.state,
        "task": deployment.task,
        "projects": list(deployment.projects),
        "kind": deployment.kind,
        "options": msgspec.to_builtins(deployment.options),
        "on_base": deployment.on_base,
        "replicas": [
            {name: value for name, value in msgspec.to_builtins(replica).items() if name != "pid"}
            for replica in deployment.replicas
        ],
        "progress": deployment.progress,
        "running": deployment.running,
        "waiting": deployment.waiting,
        "tokens_per_second": deployment.tokens_per_second,
        "memory": deployment.memory,
        "idle_left": None if deployment.idle_left is None else round(deployment.idle_left, 1),
        "restarts": deployment.restarts,
        "error": deployment.error,
        "context_length": deployment.context_length,
        "started": deployment.started.isoformat() if deployment.started else None,
    }
