"""Uploading: how each file shall travel, what is said of a card, and the commit (protocol section 1.7)."""

import base64
import binascii
import contextlib
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.catalog import File, Model, Revision, RevisionNotFound
from ecotone.catalog.gitignore import Ignore, Pattern, Steps, large_patterns, matches
from ecotone.catalog.names import check_path, is_sha256
from ecotone.hub.endpoint import (
    KINDS,
    Call,
    answer,
    api_routes,
    failed,
    need_sender,
    plain_route,
    refuse_keys,
    type_named,
)
from ecotone.hub.errors import header_text
from ecotone.hub.infos import etag
from ecotone.hub.room import counted, holding
from ecotone.publishing import AddLarge, AddRegular, Commit, Delete, DeleteFolder, Operation, in_turn
from ecotone.publishing.received import LARGE_BYTES, is_binary
from ecotone.vocabulary import EcotoneError, Invalid, RepoType, TooLarge

MOST_PREUPLOAD = 256
MOST_SAMPLE = 4096
MOST_OPERATIONS = 25_000
MOST_LINE = 150 * 1024 * 1024
MOST_ATTRIBUTES = 256 * 1024
MOST_DRAINED = 64 * 1024 * 1024
_HEAVY_LINE = 64 * 1024


class Candidate(msgspec.Struct):
    path: str
    size: int = 0
    sample: str = ""


class Preupload(msgspec.Struct, rename="camel"):
    files: list[Candidate]
    git_ignore: str | None = None


class CardCheck(msgspec.Struct, rename="camel"):
    content: str
    repo_type: str | None = None


class Header(msgspec.Struct, rename="camel"):
    summary: str = ""
    description: str | None = None
    parent_commit: str | None = None


class Item(msgspec.Struct):
    path: str
    content: str = ""
    encoding: str = "utf-8"
    algo: str = "sha256"
    oid: str = ""
    size: int | None = None


class Line(msgspec.Struct):
    key: str
    value: msgspec.Raw


# -- before the upload -----------------------------------------------------------------------------------------------
def preupload(call: Call) -> Any:
    """POST /api/{kind}/{id}/preupload/{rev}"""
    proposing = call.flag("create_pr")
    model = need_sender(call, call.path["rev"], proposing=proposing)
    asked = call.json(Preupload)
    if len(asked.files) > MOST_PREUPLOAD:
        raise TooLarge(f"{len(asked.files)} files were asked for; ask for {MOST_PREUPLOAD} at a time.")
    revision = _base_of(call, model) if proposing else call.catalog.revision(model, call.path["rev"])
    files = call.catalog.manifest(revision)
    hashes = call.catalog.passes_gate(model, call.actor)
    patterns = _large_patterns(_attributes(call, files.get(".gitattributes")))
    ignore, steps = Ignore((asked.git_ignore or "")[:MOST_ATTRIBUTES]), Steps()
    rows = []
    for candidate in asked.files:
        path = check_path(candidate.path)
        large = candidate.size > 0 and (
            candidate.size >= LARGE_BYTES or matches(patterns, path, steps) or _is_binary(candidate.sample)
        )
        row = {
            "path": candidate.path,
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": ignore.ignores(path, steps),
        }
        known = files.get(path)
        if hashes and known is not None and (known.content.sha256 is not None) == large:
            row["oid"] = etag(known)
        rows.append(row)
    return {"files": rows}


def _base_of(call: Call, model: Model) -> Revision:
    """What a pull request would be made on top of: main, when the revision named is not here."""
    try:
        return call.catalog.revision(model, call.path["rev"])
    except RevisionNotFound:
        return call.catalog.revision(model)


def _attributes(call: Call, file: File | None) -> str:
    if file is None or file.content.size > MOST_ATTRIBUTES:
        return ""
    return b"".join(call.services.storage.read(file.content)).decode("utf-8", "replace")


@lru_cache(maxsize=64)
def _large_patterns(attributes: str) -> tuple[Pattern, ...]:
    return tuple(large_patterns(attributes))


def _is_binary(sample: str) -> bool:
    """Whether the first bytes are no text: a zero byte, or no UTF-8 (but for a character cut at the end)."""
    try:
        data = base64.b64decode(sample[:MOST_SAMPLE])
    except (binascii.Error, ValueError):
        raise Invalid("A sample is not base64.", param="sample") from None
    return is_binary(data)


def validate_yaml(call: Call) -> Any:
    """POST /api/validate-yaml: the client stops its upload with 400 and our errors, and shows warnings."""
    asked = call.json(CardCheck)
    errors, warnings = call.services.publishing.check_card(
        asked.content, type_named(asked.repo_type), None, viewer=call.actor
    )
    body = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
    if errors:
        return answer(body | {"error": errors[0]}, 400, {"x-error-message": header_text(errors[0])})
    return body


# -- the commit ------------------------------------------------------------------------------------------------------
def commit_endpoint(repo_type: RepoType) -> Any:
    """POST /api/{kind}/{id}/commit/{rev}: newline-delimited JSON, read as it arrives."""

    async def endpoint(request: Request) -> Response:
        actor = request.state.actor
        try:
            refuse_keys(actor)
            call = Call(request, repo_type)
            proposing, rev = call.flag("create_pr"), call.path["rev"]
            model = await run_in_threadpool(need_sender, call, rev, proposing=proposing)
            with holding(request) as held:
                chunks = counted(request.stream(), held)
                changes = await read_commit(chunks, call.services.settings.max_commit_bytes)
                act = call.services.reviews.propose if proposing else call.services.publishing.commit
                done = await in_turn(actor, act, model.id, rev, changes, actor=actor, repo_type=repo_type)
            published, proposed = done if proposing else (done, None)
            call.services.changed()
        except EcotoneError as error:
            await drain(request.stream())
            return failed(request, error, actor)
        body = {
            "success": True,
            "commitOid": published.revision_id,
            "commitUrl": f"{call.url(model)}/commit/{published.revision_id}",
            "hookOutput": "",
        }
        if proposed is not None:
            body["pullRequestUrl"] = f"{call.url(model)}/discussions/{proposed.num}"
        response = answer(body)
        for number, warning in enumerate(published.warnings):  # clients show one warning for each topic
            response.headers.append("x-hf-warning", header_text(f"{model.id} {number + 1}; {warning}"))
        return response

    return endpoint


async def drain(chunks: AsyncIterator[bytes], most: int = MOST_DRAINED) -> None:
    """Read on a little after a refusal, so that a client in the midst of sending sees the answer and not a reset."""
    size = 0
    with contextlib.suppress(ClientDisconnect, RuntimeError):
        async for chunk in chunks:
            size += len(chunk)
            if size > most:
                return


async def read_commit(chunks: AsyncIterator[bytes], most: int) -> Commit:
    """The commit in a stream of lines, `header` first.

    Raises:
        TooLarge: past `most` bytes or a line's bound.
        Invalid: naming the line that is wrong.
    """
    header: Header | None = None
    operations: list[Operation] = []
    size = number = 0
    async for line in _lines(chunks):
        number += 1
        size += len(line)
        if size > most or len(line) > MOST_LINE:
            raise TooLarge(f"The commit is larger than {most} bytes; send large files by Xet or LFS, or in parts.")
        if not line.strip():
            continue
        key, value = await run_in_threadpool(_parse, line, number) if len(line) > _HEAVY_LINE else _parse(line, number)
        if isinstance(value, Header):
            header = value
        elif value is not None:
            operations.append(value)
        if header is None:
            raise Invalid(f"Line {number} is {key!r}; the first line must be the header.")
        if len(operations) > MOST_OPERATIONS:
            raise TooLarge(f"A commit may hold {MOST_OPERATIONS} operations; send the rest in another.")
    if header is None:
        raise Invalid("The commit is empty; its first line must be the header.")
    return Commit(
        message=header.summary,
        description=header.description or "",
        parent=header.parent_commit or None,
        operations=tuple(operations),
    )


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines of a stream; an unfinished one is handed out once it passes the bound, to be refused."""
    held: list[bytes] = []
    length = 0
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            yield b"".join([*held, part])
            held, length = [], 0
        held.append(rest)
        length += len(rest)
        if length > MOST_LINE:
            break
    yield b"".join(held)


def _parse(line: bytes, number: int) -> tuple[str, Header | Operation | None]:
    try:
        outer = msgspec.json.decode(line, type=Line)
        if outer.key == "header":
            return outer.key, msgspec.json.decode(outer.value, type=Header)
        return outer.key, _operation(outer.key, msgspec.json.decode(outer.value, type=Item), number)
    except msgspec.ValidationError as error:
        raise Invalid(f"Line {number} of the commit does not fit: {error}.") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Invalid(f"Line {number} of the commit is not JSON.") from None


def _operation(key: str, item: Item, number: int) -> Operation | None:
    match key:
        case "file":
            return AddRegular(item.path, _content(item, number))
        case "lfsFile":
            if item.algo != "sha256" or not is_sha256(item.oid):
                raise Invalid(f"Line {number}: {item.path} needs algo sha256 and an oid of 64 hex digits.")
            return AddLarge(item.path, item.oid, item.size)
        case "deletedFile":
            return Delete(item.path)
        case "deletedFolder":
            return DeleteFolder(item.path)
        case _:
            raise Invalid(f"Line {number} has the key {key!r}, which this hub does not know.")


def _content(item: Item, number: int) -> bytes:
    if item.encoding != "base64":
        return item.content.encode("utf-8", "replace")
    try:
        return base64.b64decode(item.content, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"Line {number}: the content of {item.path} is not base64.") from None


def routes() -> list[BaseRoute]:
    return [
        plain_route("/api/validate-yaml", validate_yaml, "POST"),
        *api_routes("/preupload/{rev}", {"POST": preupload}),
        *(
            Route(f"/api/{kind}/{{namespace}}/{{name}}/commit/{{rev}}", commit_endpoint(repo_type), methods=["POST"])
            for kind, repo_type in KINDS.items()
        ),
    ]
