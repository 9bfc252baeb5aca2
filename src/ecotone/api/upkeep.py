"""Garbage collection, conversion and checks of the store over REST, as jobs."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.work import job_json
from ecotone.vocabulary import Invalid


class NewCollection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    dry_run: bool = False
    grace: float | None = None


class NewCheck(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    deep: bool = False


@endpoint("POST", "/store/collect", need=Need.ADMIN, body=NewCollection, status=202, summary="Start garbage collection")
def collect(call: Call) -> Any:
    new: NewCollection = call.body
    if new.grace is not None and not 0 <= new.grace < 1e9:
        raise Invalid(f"grace is {new.grace:g}; seconds from 0 on are expected.", param="grace")
    return _started(call, "collect", msgspec.to_builtins(new))


@endpoint("POST", "/store/convert", need=Need.ADMIN, status=202, summary="Start turning whole files into Xet files")
def convert(call: Call) -> Any:
    return _started(call, "convert", {})


@endpoint("POST", "/store/check", need=Need.ADMIN, body=NewCheck, status=202, summary="Start a check of the store")
def check_store(call: Call) -> Any:
    new: NewCheck = call.body
    return _started(call, "fsck", msgspec.to_builtins(new))


def _started(call: Call, kind: str, params: dict[str, Any]) -> Any:
    job = call.services.jobs.submit(kind, params, call.actor.name)
    call.services.note(f"store.{kind}", call.actor, job=job.id, **params)
    return job_json(job)
