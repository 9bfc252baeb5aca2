"""Copies on the server: a repository under another name, large files for another repository (protocol section 1.3).

Nobody copies what they could not download: the source must be visible to the caller, and its gate passed.
"""

from typing import Any

import msgspec
from starlette.routing import BaseRoute

from ecotone.catalog import Model
from ecotone.catalog.names import is_sha256
from ecotone.hub.endpoint import Call, api_routes, need_writer, private_of, type_named
from ecotone.vocabulary import TooLarge

MOST_FILES = 1000


class Duplicate(msgspec.Struct):
    repository: str
    visibility: str | None = None
    private: bool | None = None


class Target(msgspec.Struct):
    name: str
    type: str | None = None


class SharedFile(msgspec.Struct, rename="camel"):
    sha256: str
    xet_hash: str | None = None
    filename: str = ""


class Shared(msgspec.Struct):
    target: Target
    files: list[SharedFile]


def duplicate(call: Call) -> Any:
    """POST /api/{kind}/{id}/duplicate"""
    need_writer(call.actor)
    asked = call.json(Duplicate)
    private = private_of(asked.visibility, asked.private, call.repo_type)
    source = call.model()
    call.check_gate(source)
    call.services.intend("repository.duplicate", call.actor, model=asked.repository[:200], source=source.id)
    made = call.services.publishing.duplicate(source, asked.repository, actor=call.actor, private=private)
    call.services.note(
        "repository.duplicate", call.actor, model=made.id, repo_type=made.repo_type.value, source=source.id
    )
    return {"url": call.url(made), "filesCopyPending": False}


def duplicate_files(call: Call) -> Any:
    """POST /api/{kind}/{id}/lfs-files/duplicate: a commit to the target may name them from then on."""
    need_writer(call.actor)
    asked = call.json(Shared)
    if len(asked.files) > MOST_FILES:
        raise TooLarge(f"{len(asked.files)} files were named; copy {MOST_FILES} at a time.")
    source = call.model()
    call.check_gate(source)
    target = call.catalog.model(asked.target.name, viewer=call.actor, repo_type=type_named(asked.target.type))
    call.catalog.check_writer(target, call.actor)
    return {"failed": _share(call, source, target, asked.files)}


def _share(call: Call, source: Model, target: Model, files: list[SharedFile]) -> list[dict[str, str]]:
    """Share those files that the source has; returns the others, each with what is wrong."""
    wanted = [file for file in files if is_sha256(file.sha256)]
    held = call.catalog.held(source, (name for f in wanted for name in (f.sha256, f.xet_hash or f.sha256)))
    xet = call.services.storage.xet.hashes_of(source.namespace, held & {f.sha256 for f in wanted})
    known = {None, *held}
    good = {f.sha256 for f in wanted if f.sha256 in held and (f.xet_hash in known or f.xet_hash == xet.get(f.sha256))}
    shared = call.services.storage.share(source.namespace, target.namespace, good)
    why = f"No revision of {source.id} has a large file with this sha256 and Xet hash."
    return [{"sha256": f.sha256, "error": why} for f in files if f.sha256 not in shared]


def routes() -> list[BaseRoute]:
    return [
        *api_routes("/duplicate", {"POST": duplicate}),
        *api_routes("/lfs-files/duplicate", {"POST": duplicate_files}),
    ]
