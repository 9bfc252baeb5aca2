"""What cannot be taken back: a branch's history squashed, large files deleted for good (protocol section 1.3)."""

from typing import Any

import msgspec
from starlette.routing import BaseRoute

from ecotone.catalog.names import is_sha256
from ecotone.hub.endpoint import Call, api_routes, need_writer
from ecotone.hub.infos import moment
from ecotone.hub.pages import page, unpack
from ecotone.vocabulary import Invalid, TooLarge

PAGE = 1000
MOST_DELETIONS = 1000
DEFAULT_MESSAGE = "Super-squash branch {branch!r}"


class Squash(msgspec.Struct):
    message: str | None = None


class Deletions(msgspec.Struct, rename="camel"):
    sha: list[str]
    rewrite_history: bool = True


class LargeFilesBatch(msgspec.Struct):
    deletions: Deletions


def super_squash(call: Call) -> Any:
    """POST /api/{kind}/{id}/super-squash/{branch}"""
    need_writer(call.actor)
    model, branch = call.model(), call.path["branch"]
    message = call.json(Squash).message or DEFAULT_MESSAGE.format(branch=branch)
    call.catalog.check_author(model, call.actor)
    call.services.intend("repository.squash", call.actor, model=model.id, branch=branch[:200])
    made = call.services.publishing.squash(model, branch, message, actor=call.actor)
    call.services.note("repository.squash", call.actor, model=model.id, branch=branch, revision=made.revision_id)
    return {"commitOid": made.revision_id}


def large_files(call: Call) -> Any:
    """GET /api/{kind}/{id}/lfs-files"""
    model = call.model()
    call.check_gate(model)
    limit = call.number("limit", PAGE, PAGE) or PAGE
    found = call.catalog.large_files(model, after=unpack(call, str) or "", limit=limit + 1)
    rows = [
        {
            "fileOid": file.sha256,
            "filename": file.path,
            "oid": file.sha256,
            "pushedAt": moment(file.pushed),
            "ref": file.ref,
            "size": file.size,
        }
        for file in found[:limit]
    ]
    return page(call, rows, more=found[limit - 1].sha256 if len(found) > limit else None)


def delete_large_files(call: Call) -> Any:
    """POST /api/{kind}/{id}/lfs-files/batch"""
    need_writer(call.actor)
    asked = call.json(LargeFilesBatch).deletions
    if len(asked.sha) > MOST_DELETIONS:
        raise TooLarge(f"{len(asked.sha)} files were named; delete {MOST_DELETIONS} at a time.")
    wrong = next((sha for sha in asked.sha if not is_sha256(sha)), None)
    if wrong is not None:
        raise Invalid(f"{wrong[:80]!r} is no sha256; name files by their fileOid, 64 hex digits.", param="sha")
    model = call.model()
    call.catalog.check_author(model, call.actor)
    call.catalog.check_unused(model)
    what = {"model": model.id, "sha256": asked.sha, "rewrite_history": asked.rewrite_history}
    call.services.intend("repository.delete_large_files", call.actor, **what)
    done = call.catalog.delete_large(model, asked.sha, actor=call.actor, rewrite=asked.rewrite_history)
    call.services.note("repository.delete_large_files", call.actor, **what, commits=done.commits)
    return {"deleted": list(done.deleted), "rewritten": len(done.commits)}


def routes() -> list[BaseRoute]:
    return [
        *api_routes("/super-squash/{branch:path}", {"POST": super_squash}),
        *api_routes("/lfs-files", {"GET": large_files}),
        *api_routes("/lfs-files/batch", {"POST": delete_large_files}),
    ]
