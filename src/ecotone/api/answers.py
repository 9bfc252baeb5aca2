"""Answers as data over REST: records of the ledger made into a data set."""

from typing import Annotated, Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.ledger import When, moment
from ecotone.api.shapes import text
from ecotone.api.work import job_json
from ecotone.catalog.names import ID


class NewAnswerSet(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which answers, into which data set. `sensitive`: leave-out, mask or keep."""

    dataset: Annotated[str, text(ID)]
    project: str
    since: When | None = None
    until: When | None = None
    route: str | None = None
    model: str | None = None
    private: bool = True
    sensitive: str = "leave-out"


@endpoint(
    "POST",
    "/ledger/datasets",
    need=Need.ADMIN,
    body=NewAnswerSet,
    status=202,
    summary="Make, or continue, a data set of a project's answers that carries what made them",
)
def make_answer_set(call: Call) -> Any:
    new: NewAnswerSet = call.body
    job = call.services.answer_sets.start(
        dataset=new.dataset,
        project=new.project,
        since=moment(new.since, "since"),
        until=moment(new.until, "until"),
        route=new.route,
        model=new.model,
        private=new.private,
        sensitive=new.sensitive,
        actor=call.actor,
    )
    call.services.note("answers.started", call.actor, job=job.id, **msgspec.to_builtins(new))
    return job_json(job)
