"""Tuning runs, audits and their jobs over REST."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.jobs import Job

MOST_ROWS_BYTES = 64 * 1024 * 1024


class NewTuning(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    to: str
    data: str | None = None
    dataset: str | None = None
    revision: str = "main"
    method: str = "lora"
    epochs: int = 3
    learning_rate: float = 2e-4
    seed: int = 0
    project: str | None = None


class NewAudit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    suite: str
    revision: str = "main"
    project: str | None = None


@endpoint(
    "POST", "/tuning", need=Need.WRITE, body=NewTuning, status=202, most=MOST_ROWS_BYTES, summary="Start a tuning run"
)
def start_tuning(call: Call) -> Any:
    new: NewTuning = call.body
    model = call.services.catalog.model(new.model, viewer=call.actor)
    job = call.services.tuning.start(
        model.id,
        new.revision,
        new.data.encode() if new.data is not None else None,
        dataset=new.dataset,
        method=new.method,
        to=new.to,
        epochs=new.epochs,
        learning_rate=new.learning_rate,
        seed=new.seed,
        actor=call.actor,
        project=new.project,
    )
    call.services.note("tuning.started", call.actor, model=model.id, to=new.to, job=job.id)
    return job_json(job)


@endpoint("POST", "/audits", need=Need.WRITE, body=NewAudit, status=202, summary="Start an audit")
def start_audit(call: Call) -> Any:
    new: NewAudit = call.body
    model = call.services.catalog.model(new.model, viewer=call.actor)
    job = call.services.audits.start(model.id, new.revision, new.suite, actor=call.actor, project=new.project)
    call.services.note("audit.started", call.actor, model=model.id, suite=new.suite, job=job.id)
    return job_json(job)


@endpoint("GET", "/audits", need=Need.READ, summary="Stored measurements of models the caller may see")
def list_measurements(call: Call) -> Any:
    catalog = call.services.catalog
    wanted = call.query.get("model")
    models = (
        [catalog.model(wanted, viewer=call.actor)] if wanted else catalog.models(viewer=call.actor, limit=1000).models
    )
    return [msgspec.to_builtins(m) for model in models for m in catalog.measurements(model.id)]


@endpoint("DELETE", "/audits/{id}", need=Need.ADMIN, summary="Withdraw a stored measurement")
def remove_measurement(call: Call) -> Any:
    number = call.path["id"]
    removed = call.services.catalog.remove_measurement(int(number) if number.isdecimal() and len(number) < 10 else 0)
    call.services.note(
        "measurement.removed", call.actor, model=removed.model, revision=removed.revision, suite=removed.suite
    )
    return {"removed": removed.id, "model": removed.model, "suite": removed.suite}


@endpoint("GET", "/jobs", need=Need.USER, summary="Jobs, newest first")
def list_jobs(call: Call) -> Any:
    return [job_json(j) for j in call.services.jobs.list()]


@endpoint("GET", "/jobs/{id}", need=Need.USER, summary="One job")
def show_job(call: Call) -> Any:
    return job_json(call.services.jobs.get(call.path["id"]))


@endpoint("GET", "/jobs/{id}/log", need=Need.WRITE, summary="The log of a job of one's own")
def job_log(call: Call) -> Any:
    jobs = call.services.jobs
    jobs.check_log(jobs.get(call.path["id"]), call.actor)
    return {"log": jobs.log(call.path["id"])}


@endpoint("POST", "/jobs/{id}/cancel", need=Need.WRITE, summary="Cancel a job of one's own; nothing of it is published")
def cancel_job(call: Call) -> Any:
    jobs = call.services.jobs
    jobs.check_cancel(jobs.get(call.path["id"]), call.actor)
    job = jobs.cancel(call.path["id"])
    call.services.note("job.cancelled", call.actor, job=call.path["id"])
    return job_json(job)


def job_json(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "progress": job.progress,
        "message": job.message,
        "actor": job.actor,
        "params": job.params,
        "result": job.result,
        "error": job.error,
        "created": job.created.isoformat(),
        "started": job.started.isoformat() if job.started else None,
        "ended": job.ended.isoformat() if job.ended else None,
    }
