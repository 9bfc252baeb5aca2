"""The descent of a revision over REST: its edges with status and evidence, and what its weights say."""

from collections.abc import Collection
from typing import Any

import msgspec

from ecotone.accounts import Actor
from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.work import job_json
from ecotone.catalog import UNTOLD, LineageEdge, Model, WeightSet
from ecotone.lineage.comparing import Related
from ecotone.publishing.kinship import badge


class Examination(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    revision: str = "main"


@endpoint(
    "GET",
    "/models/{namespace}/{name}/lineage",
    need=Need.READ,
    summary="A revision's descent, and what its weights say",
)
def show_lineage(call: Call) -> Any:
    services = call.services
    model = services.catalog.model(_id(call), viewer=call.actor)
    if model.head is None:
        edges = services.catalog.parents(model, None)
        return _answer(call, model, None, edges, None)
    revision = services.catalog.revision(model, call.query.get("revision") or "main")
    weights = services.catalog.weights(model, revision.id)
    edges, hidden = services.catalog.told_with_hidden(revision.edges, call.actor)
    return _answer(call, model, revision.id, edges, weights, hidden)


@endpoint(
    "POST",
    "/models/{namespace}/{name}/lineage",
    need=Need.WRITE,
    body=Examination,
    status=202,
    summary="Examine a revision's weights against its candidates, as a job",
)
def examine_lineage(call: Call) -> Any:
    services = call.services
    asked: Examination = call.body
    model = services.catalog.model(_id(call), viewer=call.actor)
    services.catalog.check_writer(model, call.actor)
    job = services.examining.start(model.id, asked.revision, actor=call.actor)
    services.note("lineage.examination", call.actor, model=model.id, job=job.id)
    return job_json(job)


@endpoint(
    "POST", "/lineage/fingerprints", need=Need.ADMIN, status=202, summary="Fingerprint weights that have none, as a job"
)
def take_fingerprints(call: Call) -> Any:
    """The one that is under way already, when there is one."""
    job = call.services.backfilling.start(actor=call.actor)
    call.services.note("lineage.fingerprints", call.actor, job=job.id)
    return job_json(job)


def _answer(
    call: Call,
    model: Model,
    revision: str | None,
    edges: list[LineageEdge],
    weights: WeightSet | None,
    hidden: Collection[str] = (),
) -> dict[str, Any]:
    """The document. Of a private model that the card names, or that is no relative, the viewer is told nothing."""
    report = weights.report if weights is not None else {}
    standing = call.services.publishing.descent.standing(model, weights) if weights is not None else []
    alarms = [alarm for alarm in standing if alarm.parent not in hidden]
    told = [call.services.publishing.descent.told([alarm], call.actor)[0] for alarm in alarms]
    candidates = report.get("candidates", [])
    names = call.services.catalog.told_names((c["key"] for c in candidates), call.actor)
    candidates = [
        c for c in candidates if names[c["key"]] != UNTOLD or not (c["declared"] or c["related"] == Related.NO)
    ]
    return {
        "model": model.id,
        "revision": revision,
        "state": weights.state if weights is not None else None,
        "badge": badge(alarms, edges),
        "edges": [msgspec.to_builtins(edge) for edge in edges],
        "alarms": [{"code": a.code, "means": text} for a, text in zip(alarms, told, strict=True)],
        "findings": list(report.get("findings", [])),
        "candidates": [_candidate(c, names) for c in candidates],
        "failed": _failed(report, call.actor),
        "job": weights.job if weights is not None and call.actor.kind == "user" else None,
    }


def _failed(report: dict[str, Any], viewer: Actor) -> str | None:
    """Why the examination failed; outsiders learn that it did: the reason holds lines of its log and may name others'
    private models."""
    reason: str | None = report.get("failed")
    return reason if reason is None or viewer.may_read_private else "The weights could not be examined."


def _candidate(kept: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    name = names.get(kept["key"], UNTOLD)
    shown = {field: value for field, value in kept.items() if field not in ("key", "revision")}
    return {"model": name, "revision": kept["revision"] if name != UNTOLD else None, **shown}


def _id(call: Call) -> str:
    return f"{call.path['namespace']}/{call.path['name']}"
