"""Usage, exports of the ledger and kept texts over REST."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from starlette.responses import StreamingResponse

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.shapes import DAY, MOMENT, text, within
from ecotone.vocabulary import Invalid, NotFound

_MOST_DAYS = 1_000_000
When = Annotated[str, text(DAY, MOMENT)]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILTERS = ("project", "key", "user", "tag", "route", "backend", "model", "face")


class NewExport(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    since: When | None = None
    until: When | None = None
    project: str | None = None


class Received(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    sha256: Annotated[str, text(_SHA256)]


class Removal(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    older_than: Annotated[float, within(1, _MOST_DAYS, below=True)] | None = None


def moment(value: str | None, param: str) -> datetime | None:
    """A moment as people and programs write it: a day, or a time with or without its zone (UTC then).

    Raises:
        Invalid: for anything else.
    """
    if value is None or value == "":
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise Invalid(
            f"{param} is {value[:40]!r}; a day like 2026-11-28 or a moment like 2026-11-28T07:00:00Z is expected.",
            param=param,
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@endpoint("GET", "/usage", need=Need.USER, summary="Tokens and cost, filtered and grouped; money in 10^-12 USD")
def show_usage(call: Call) -> Any:
    """Query: since, until, group (comma-separated), and a value for project, key, user, tag, route, backend, model,
    face."""
    known = {"since", "until", "group", *_FILTERS}
    for name in call.query:
        if name not in known:
            raise Invalid(f"There is no parameter {name!r}; {', '.join(sorted(known))} are.", param=name)
    since, until = moment(call.query.get("since"), "since"), moment(call.query.get("until"), "until")
    only = {name: call.query[name] for name in _FILTERS if name in call.query}
    group = [name for name in call.query.get("group", "project,model").split(",") if name]
    tables = call.services.usage_tables
    tables.project()
    rows = tables.rows(group, since=since, until=until, **only)
    return {"group": group, "rows": rows, "total": tables.total(since=since, until=until, **only)}


@endpoint("POST", "/usage/rebuild", need=Need.ADMIN, summary="Make the tables of usage anew from the ledger")
def rebuild_usage(call: Call) -> Any:
    told = call.services.usage_tables.rebuild()
    call.services.note("usage.rebuilt", call.actor, records=told["records"])
    return told


@endpoint(
    "POST",
    "/ledger/export",
    need=Need.ADMIN,
    body=NewExport,
    summary="Records with their proofs, as JSON lines",
    media="application/jsonl",
)
def export_ledger(call: Call) -> Any:
    new: NewExport = call.body
    lines = call.services.keeping.export(
        since=moment(new.since, "since"), until=moment(new.until, "until"), project=new.project
    )
    call.services.note("ledger.exported", call.actor, **msgspec.to_builtins(new))
    return StreamingResponse(lines, media_type="application/jsonl")


@endpoint(
    "POST", "/ledger/export/received", need=Need.ADMIN, body=Received, summary="Tell that an export arrived whole"
)
def export_received(call: Call) -> Any:
    sha256: str = call.body.sha256
    if not _SHA256.fullmatch(sha256):
        raise Invalid("sha256 is expected as 64 hexadecimal digits.", param="sha256")
    segments = call.services.keeping.confirm(sha256)
    call.services.note("ledger.export_received", call.actor, sha256=sha256, segments=segments)
    return {"sha256": sha256, "segments": segments}


@endpoint("GET", "/ledger/key", need=Need.USER, summary="The public key with which checkpoints and exports are signed")
def ledger_key(call: Call) -> Any:
    return {"key": call.services.public_ledger_key().hex(), "kind": "ed25519"}


@endpoint("GET", "/ledger/due", need=Need.ADMIN, summary="Closed segments that are old enough to be removed")
def ledger_due(call: Call) -> Any:
    return call.services.keeping.due()


@endpoint("POST", "/ledger/retire", need=Need.ADMIN, body=Removal, summary="Remove old segments that were exported")
def retire_segments(call: Call) -> Any:
    older: float | None = call.body.older_than
    if older is not None and not 1 <= older < _MOST_DAYS:
        raise Invalid(f"older_than is {older:g}; days from 1 on are expected.", param="older_than")
    return {"removed": call.services.retire_segments(call.actor, older_than=older)}


@endpoint("GET", "/texts/{request_id}", need=Need.ADMIN, summary="A request's kept prompt and answer; the ledger knows")
def show_text(call: Call) -> Any:
    request_id = call.path["request_id"]
    found = call.services.read_texts(request_id, call.actor)
    if not found:
        raise NotFound(
            f"No text of {request_id!r} is kept: its project does not keep texts, or their days are over.",
            param="request_id",
        )
    return found


@endpoint("DELETE", "/texts/projects/{name}", need=Need.ADMIN, summary="Destroy a project's texts with their key")
def destroy_texts(call: Call) -> Any:
    days = call.services.destroy_texts(call.path["name"], call.actor)
    return {"project": call.path["name"], "days": days}
