"""The LFS face: the batch call and the data under `/lfs` (protocol section 1.8). Rules are in `storage`.

Clients send no credentials to data addresses, so that each is signed for one operation on one object.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.catalog import Model
from ecotone.catalog.names import is_sha256
from ecotone.hub.content import content_response, receive_into
from ecotone.hub.endpoint import PREFIXES, Call, failed, need_user, read_body, refuse_keys
from ecotone.hub.errors import STATUS
from ecotone.storage import ObjectMissing, Storage
from ecotone.storage.lfs import MULTIPART_FROM, PART_BYTES
from ecotone.vocabulary import EcotoneError, Invalid, NotFound, RepoType, TooLarge, Unavailable

MEDIA = "application/vnd.git-lfs+json"
MOST_OBJECTS = 1000


class LfsObject(msgspec.Struct):
    oid: str
    size: int = 0


class GitRef(msgspec.Struct):
    name: str


class Batch(msgspec.Struct):
    operation: str
    objects: list[LfsObject]
    transfers: tuple[str, ...] = ("basic",)
    hash_algo: str = "sha256"
    ref: GitRef | None = None


class Completion(msgspec.Struct, rename="camel"):
    oid: str = ""
    parts: list[dict[str, Any]] = []


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers=headers, media_type=MEDIA)


# -- the batch call --------------------------------------------------------------------------------------------------
def batch(call: Call) -> Response:
    """POST /{prefix}{id}.git/info/lfs/objects/batch"""
    call.path["name"] = call.path["name"].removesuffix(".git")
    asked = call.json(Batch)
    if asked.operation not in ("upload", "download"):
        raise Invalid(f"operation is {asked.operation!r}; expected upload or download.", param="operation")
    if asked.hash_algo != "sha256":
        raise Invalid(f"hash_algo is {asked.hash_algo!r}; this hub knows sha256.", param="hash_algo")
    if len(asked.objects) > MOST_OBJECTS:
        raise TooLarge(f"{len(asked.objects)} objects were asked for; ask for {MOST_OBJECTS} at a time.")
    if asked.operation == "upload":
        need_user(call.actor)
    model = call.model()
    if asked.operation == "upload":
        # without a ref the files may be for a pull request that is still to be opened; the commit tells, and is judged
        call.catalog.check_contributor(model, call.actor, asked.ref.name if asked.ref else None)
        tenant = call.catalog.tenant(model, call.actor)
        rows = [_upload(call, tenant, item, "multipart" in asked.transfers) for item in asked.objects]
        call.services.storage.renew(tenant, (r["oid"] for r in rows if not {"actions", "error"} & set(r)))
    else:
        call.check_gate(model)
        rows = [_download(call, model, item) for item in asked.objects]
    parted = any("chunk_size" in row.get("actions", {}).get("upload", {}).get("header", {}) for row in rows)
    return reply({"transfer": "multipart" if parted else "basic", "objects": rows, "hash_algo": "sha256"})


def _upload(call: Call, tenant: str, item: LfsObject, may_part: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"oid": item.oid, "size": item.size, "authenticated": True}
    most = call.services.settings.max_object_bytes
    if not is_sha256(item.oid) or not 0 <= item.size <= most:
        return row | {"error": {"code": 422, "message": f"An object needs a sha256 and a size of at most {most}."}}
    storage: Storage = call.services.storage
    known = storage.large(tenant, item.oid)
    if known is not None:
        if known.size != item.size:
            return row | {"error": {"code": 422, "message": f"The object has {known.size} bytes, not {item.size}."}}
        return row
    lfs, start = storage.lfs, f"{call.base}/lfs"

    def sign(operation: str, **more: Any) -> str:
        return f"{start}/{operation}/{lfs.sign(operation, tenant, item.oid, item.size, **more)}"

    if may_part and item.size > MULTIPART_FROM:
        upload_id = secrets.token_hex(16)
        count = -(-item.size // PART_BYTES)
        header = {str(n): sign("part", u=upload_id, p=n) for n in range(1, count + 1)}
        upload = {"href": sign("complete", u=upload_id, c=count), "header": {"chunk_size": str(PART_BYTES), **header}}
    else:
        upload = {"href": sign("upload")}
    return row | {"actions": {"upload": upload, "verify": {"href": sign("verify")}}}


def _download(call: Call, model: Model, item: LfsObject) -> dict[str, Any]:
    row: dict[str, Any] = {"oid": item.oid, "size": item.size, "authenticated": True}
    if not call.catalog.holds(model, item.oid):
        return row | {"error": {"code": 404, "message": "No revision of this repository names that object."}}
    storage: Storage = call.services.storage
    known = storage.large(model.namespace, item.oid) if storage.direct is not None else None
    if storage.direct is not None and known is not None and known.kind == "lfs":
        return row | {"actions": {"download": {"href": storage.direct.whole_file(item.oid)}}}
    token = storage.lfs.sign("download", model.namespace, item.oid, item.size)
    return row | {"actions": {"download": {"href": f"{call.base}/lfs/download/{token}"}}}


def batch_endpoint(repo_type: RepoType) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        actor = request.state.actor
        try:
            refuse_keys(actor)
            call = Call(request, repo_type, await read_body(request, 4 * 1024 * 1024))
            return await run_in_threadpool(batch, call)
        except EcotoneError as error:
            refused = failed(request, error, actor)
            refused.headers["lfs-authenticate"] = 'Basic realm="ecotone"'
            return refused

    return endpoint


async def locks(_request: Request) -> Response:
    return reply({"ours": [], "theirs": []})


# -- the data --------------------------------------------------------------------------------------------------------
async def upload(request: Request) -> Response:
    """PUT /lfs/upload/{token}"""
    lfs = request.app.state.services.storage.lfs
    claims = lfs.signed("upload", request.path_params["token"])
    receiving = await run_in_threadpool(lfs.receiving, claims["t"], claims["o"], claims["n"])
    try:
        await receive_into(request, receiving.write)
        await run_in_threadpool(receiving.finish)
    finally:
        receiving.__exit__()
    return reply({}, headers={"etag": f'"{claims["o"]}"'})


async def part(request: Request) -> Response:
    """PUT /lfs/part/{token}"""
    lfs = request.app.state.services.storage.lfs
    claims = lfs.signed("part", request.path_params["token"])
    receiving = await run_in_threadpool(lfs.receiving_part, claims["u"], claims["p"], PART_BYTES)
    try:
        await receive_into(request, receiving.write)
        etag = await run_in_threadpool(receiving.finish)
    finally:
        receiving.__exit__()
    return reply({}, headers={"etag": f'"{etag}"'})


async def complete(request: Request) -> Response:
    """POST /lfs/complete/{token}"""
    lfs = request.app.state.services.storage.lfs
    claims = lfs.signed("complete", request.path_params["token"])
    body = await read_body(request, 4 * 1024 * 1024)
    try:
        told = msgspec.json.decode(body or b"{}", type=Completion)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise Invalid("The body does not fit: expected oid and parts.") from None
    if told.parts and len(told.parts) != claims["c"]:
        raise Invalid(f"{len(told.parts)} parts were told, {claims['c']} were agreed.", param="parts")
    await run_in_threadpool(lfs.complete, claims["t"], claims["o"], claims["n"], claims["u"], claims["c"])
    return reply({})


async def verify(request: Request) -> Response:
    """POST /lfs/verify/{token}"""
    storage = request.app.state.services.storage
    claims = storage.lfs.signed("verify", request.path_params["token"])
    await read_body(request, 1024 * 1024)
    found = await run_in_threadpool(storage.large, claims["t"], claims["o"])
    if found is None or found.size != claims["n"]:
        raise ObjectMissing(f"sha256 {claims['o']}")
    return reply({})


async def download(request: Request) -> Response:
    """GET /lfs/download/{token}"""
    storage = request.app.state.services.storage
    claims = storage.lfs.signed("download", request.path_params["token"])
    found = await run_in_threadpool(storage.large, claims["t"], claims["o"])
    if found is None:
        raise NotFound("The object is no longer here.")
    headers = {"etag": f'"{claims["o"]}"', "accept-ranges": "bytes", "x-content-type-options": "nosniff"}
    return await content_response(request, storage, found, headers=headers, media_type="application/octet-stream")


def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:  # gone, or too slow: only the latter reads this
            request.state.refused = "body_missing"
            return Response(status_code=408, headers={"connection": "close"})
        except EcotoneError as error:
            request.state.refused = error.code
            status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
            wait = {"retry-after": str(error.retry_after)} if isinstance(error, Unavailable) else None
            return reply({"message": error.message, "error": error.message}, status, wait)

    return endpoint


def routes() -> list[BaseRoute]:
    made: list[BaseRoute] = [
        Route("/lfs/upload/{token}", guarded(upload), methods=["PUT"]),
        Route("/lfs/part/{token}", guarded(part), methods=["PUT"]),
        Route("/lfs/complete/{token}", guarded(complete), methods=["POST"]),
        Route("/lfs/verify/{token}", guarded(verify), methods=["POST"]),
        Route("/lfs/download/{token}", guarded(download), methods=["GET"]),
    ]
    for repo_type, prefix in sorted(PREFIXES.items(), key=lambda p: -len(p[1])):
        start = f"/{prefix}{{namespace}}/{{name}}/info/lfs"
        made += [
            Route(f"{start}/objects/batch", batch_endpoint(repo_type), methods=["POST"]),
            Route(f"{start}/locks/verify", locks, methods=["POST"]),
        ]
    return made
