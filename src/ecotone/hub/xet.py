"""The Xet face, a content-addressed store under `/cas` (protocol sections 2.2, 2.5 to 2.9). Rules are in `storage`.

Its own tokens open it: each names one namespace and reading or writing. Data addresses are signed, one for each range.
Answers of 404 where the protocol allows them: global deduplication, grants, v2 shards (clients then use v1).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ecotone.hub.content import asked_range, pieces_of_file
from ecotone.hub.endpoint import answer, read_body
from ecotone.hub.errors import STATUS
from ecotone.storage import BadToken, RangeNotSatisfiable, Storage
from ecotone.storage.shards import MOST_BYTES as MOST_SHARD
from ecotone.storage.xet import Grant, Reconstruction, StoredTerm
from ecotone.storage.xorbs import HEADER, MOST_CHUNKS
from ecotone.storage.xorbs import MOST_BYTES as MOST_XORB
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated

UPLOADS_AT_ONCE = 4
MOST_FILES_ASKED = 1000
_IMMUTABLE = "private, max-age=3600, immutable"


class Cas:
    """The handlers; bodies of xorbs are held in memory, a few at a time."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def put_xorb(self, request: Request) -> Response:
        """POST /cas/v1/xorbs/{prefix}/{hash}"""
        grant = writer(request)
        most = MOST_XORB + MOST_CHUNKS * HEADER + 1024 * 1024
        check_length(request, most)
        async with self._room:
            body = await read_body(request, most)
            new = await run_in_threadpool(
                storage_of(request).xet.put_xorb, grant.tenant, request.path_params["hash"], body
            )
        return answer({"was_inserted": new})

    async def put_shard(self, request: Request) -> Response:
        """POST /cas/v1/shards"""
        grant = writer(request)
        check_length(request, MOST_SHARD)
        async with self._room:
            body = await read_body(request, MOST_SHARD)
        new = await run_in_threadpool(storage_of(request).xet.put_shard, grant.tenant, body)
        return answer({"result": 1 if new else 0})

    async def reconstruction_v2(self, request: Request) -> Response:
        """GET /cas/v2/reconstructions/{hash}"""
        return answer(await run_in_threadpool(self._reconstruct, request, 2))

    async def reconstruction_v1(self, request: Request) -> Response:
        """GET /cas/v1/reconstructions/{hash}"""
        return answer(await run_in_threadpool(self._reconstruct, request, 1))

    def _reconstruct(self, request: Request, version: int) -> dict[str, Any]:
        grant = grant_of(request)
        xet = storage_of(request).xet
        file = xet.file(grant.tenant, request.path_params["hash"])
        try:
            part = asked_range(request.headers.get("range"), file.size)
        except ValueError:
            raise RangeNotSatisfiable(f"The file has {file.size} bytes; the range begins behind them.") from None
        found = xet.reconstruction(file, *(part or (0, None)))
        told: dict[str, Any] = {"offset_into_first_range": found.offset, "terms": [term_json(t) for t in found.terms]}
        if version == 2:
            return told | {"xorbs": self._fetch_v2(request, found)}
        return told | {"fetch_info": self._fetch_v1(request, found)}

    def _fetch_v2(self, request: Request, found: Reconstruction) -> dict[str, Any]:
        return {
            xorb: [
                {
                    "url": data_url(request, xorb, first, last),
                    "ranges": [{"chunks": {"start": low, "end": high}, "bytes": {"start": first, "end": last}}],
                }
                for low, high, first, last in ranges
            ]
            for xorb, ranges in found.fetch.items()
        }

    def _fetch_v1(self, request: Request, found: Reconstruction) -> dict[str, Any]:
        return {
            xorb: [
                {
                    "range": {"start": low, "end": high},
                    "url": data_url(request, xorb, first, last),
                    "url_range": {"start": first, "end": last},
                }
                for low, high, first, last in ranges
            ]
            for xorb, ranges in found.fetch.items()
        }

    async def several(self, request: Request) -> Response:
        """GET, POST /cas/v1/reconstructions: several whole files in one answer; unknown ones are left out."""
        grant = grant_of(request)
        if request.method == "POST":
            body = await read_body(request, 1024 * 1024)
            names = [str(item.get("hash")) for item in json_list(body) if isinstance(item, dict)]
        else:
            names = request.query_params.getlist("file_id")
        return answer(await run_in_threadpool(self._reconstruct_several, request, grant, names[:MOST_FILES_ASKED]))

    def _reconstruct_several(self, request: Request, grant: Grant, names: list[str]) -> dict[str, Any]:
        xet = storage_of(request).xet
        files: dict[str, Any] = {}
        fetch: dict[str, list[Any]] = {}
        for name in names:
            try:
                found = xet.reconstruction(xet.file(grant.tenant, name), 0, None)
            except NotFound:
                continue
            files[name] = [term_json(t) for t in found.terms]
            for xorb, ranges in self._fetch_v1(request, found).items():
                fetch.setdefault(xorb, []).extend(ranges)
        return {"files": files, "fetch_info": fetch}

    async def data(self, request: Request) -> Response:
        """GET /cas/data/{token}: bytes of a xorb within the signed range."""
        path, first, last = await run_in_threadpool(storage_of(request).xet.signed_range, request.path_params["token"])
        size = path.stat().st_size
        try:
            part = asked_range(request.headers.get("range"), size) or (first, last + 1)
        except ValueError:
            raise RangeNotSatisfiable(f"The xorb has {size} bytes.") from None
        start, end = part
        if start < first or end > last + 1:
            raise BadToken("for another range")
        headers = {
            "content-length": str(end - start),
            "content-range": f"bytes {start}-{end - 1}/{size}",
            "accept-ranges": "bytes",
            "cache-control": _IMMUTABLE,
        }
        if request.method == "HEAD":
            return Response(status_code=206, headers=headers, media_type="application/octet-stream")
        return StreamingResponse(
            pieces_of_file(path, start, end), 206, headers=headers, media_type="application/octet-stream"
        )

    async def head_xorb(self, request: Request) -> Response:
        """HEAD /cas/v1/xorbs/{prefix}/{hash}"""
        grant = grant_of(request)
        size = await run_in_threadpool(storage_of(request).xet.xorb_size, grant.tenant, request.path_params["hash"])
        return sized(size)

    async def head_file(self, request: Request) -> Response:
        """HEAD /cas/v1/files/{hash}"""
        grant = grant_of(request)
        file = await run_in_threadpool(storage_of(request).xet.file, grant.tenant, request.path_params["hash"])
        return sized(file.size)

    async def absent(self, request: Request) -> Response:
        """Global deduplication, grants and v2 shards: not offered, which clients take as the answer no."""
        grant_of(request)
        raise NotFound("not offered by this hub")


# -- what the handlers share -----------------------------------------------------------------------------------------
def storage_of(request: Request) -> Storage:
    storage: Storage = request.app.state.services.storage
    return storage


def grant_of(request: Request) -> Grant:
    """What the request's token allows. Raises Unauthenticated."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("A token of this store is needed; the hub's xet-read-token gives one out.")
    try:
        return storage_of(request).xet.grant(token.strip())
    except BadToken as error:
        raise Unauthenticated(error.message) from None


def writer(request: Request) -> Grant:
    """The same, for writing. Raises Forbidden when the token may only read."""
    grant = grant_of(request)
    if not grant.write:
        raise Forbidden("This token may only read; ask the hub for a xet-write-token.")
    return grant


def check_length(request: Request, most: int) -> None:
    """Refuse by the announced length, before anything is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > most:
        raise TooLarge(f"The body has {announced} bytes; at most {most} are taken.")


def json_list(body: bytes) -> list[Any]:
    try:
        return msgspec.json.decode(body, type=list[Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise Invalid("The body is not a JSON list.") from None


def term_json(term: StoredTerm) -> dict[str, Any]:
    return {"hash": term.xorb, "unpacked_length": term.length, "range": {"start": term.start, "end": term.end}}


def data_url(request: Request, xorb: str, first: int, last: int) -> str:
    services = request.app.state.services
    return f"{services.settings.base_url}/cas/data/{services.storage.xet.sign_range(xorb, first, last)}"


def sized(size: int | None) -> Response:
    if size is None:
        raise NotFound("There is no such object here.")
    return Response(headers={"content-length": str(size)})


def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors as the store's clients read them."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except RangeNotSatisfiable as error:
            return answer({"error": error.message}, 416)
        except EcotoneError as error:
            status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
            return answer({"error": error.message}, status)

    return endpoint


def routes() -> list[BaseRoute]:
    cas = Cas()
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/cas/v2/reconstructions/{hash}", cas.reconstruction_v2),
        ("GET", "/cas/v1/reconstructions/{hash}", cas.reconstruction_v1),
        ("GET", "/cas/v1/reconstructions", cas.several),
        ("POST", "/cas/v1/reconstructions", cas.several),
        ("GET", "/cas/data/{token}", cas.data),
        ("POST", "/cas/v1/xorbs/{prefix}/{hash}", cas.put_xorb),
        ("HEAD", "/cas/v1/xorbs/{prefix}/{hash}", cas.head_xorb),
        ("HEAD", "/cas/v1/files/{hash}", cas.head_file),
        ("POST", "/cas/v1/shards", cas.put_shard),
        ("POST", "/cas/v2/shards", cas.absent),
        ("GET", "/cas/v1/chunks/{prefix}/{hash}", cas.absent),
        ("POST", "/cas/v1/xorb-grants/{prefix}/{hash}", cas.absent),
    ]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
