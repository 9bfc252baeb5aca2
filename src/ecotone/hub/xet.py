"""The Xet face, a content-addressed store under `/cas/{scope}` (protocol sections 2.2, 2.5 to 2.9). Rules: `storage`.

Its own tokens open it: each names one repository and reading or writing; see `grants`. A file is told of only when a
revision of that repository names it, whichever repository of the namespace has it too. Data addresses are signed, one
for each range. Answers of 404 where the protocol allows them: grants, whether a xorb is here; and
no answer to an upload tells whether it was here before.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from ecotone.catalog import Model
from ecotone.hub.content import asked_range, receive_into, stored_response
from ecotone.hub.endpoint import answer, read_body
from ecotone.hub.errors import STATUS
from ecotone.hub.grants import Grants
from ecotone.storage import BadToken, ContentNotFound, RangeNotSatisfiable, Storage
from ecotone.storage.reconstruction import Reconstruction, StoredTerm, XetFile
from ecotone.storage.shards import MOST_BYTES as MOST_SHARD
from ecotone.storage.xet import Grant
from ecotone.storage.xorbs import MOST_SENT
from ecotone.vocabulary import EcotoneError, Invalid, NotFound, TooLarge, Unavailable

log = logging.getLogger("ecotone.hub")

FINISHING_AT_ONCE = 8
SHARDS_AT_ONCE = 2
SHARDS_PENDING = 16
EVENT_SECONDS = 15.0
Progress = Callable[[int, int], None]
MOST_FILES_ASKED = 1000
_IMMUTABLE = "private, max-age=3600, immutable"


class GrantAsked(msgspec.Struct):
    length: int


class Cas:
    """The handlers. Bodies of xorbs go to disk as they come; shards, which take time to check, a few at a time."""

    def __init__(self) -> None:
        self._finishing = asyncio.Semaphore(FINISHING_AT_ONCE)
        self._checking = asyncio.Semaphore(SHARDS_AT_ONCE)
        self._pending = 0
        self._grants = Grants()

    async def put_xorb(self, request: Request) -> Response:
        """POST /cas/{scope}/v1/xorbs/{prefix}/{hash}"""
        grant = await self._grants.writing(request)
        check_length(request, MOST_SENT)
        upload = await run_in_threadpool(
            storage_of(request).xet.receiving, grant.tenant, request.path_params["hash"], session=session_of(request)
        )
        try:
            await receive_into(request, upload.write)
            async with self._finishing:  # a client that sends slowly holds no place here
                await run_in_threadpool(upload.finish)
        finally:
            upload.__exit__()
        return answer({"was_inserted": True})

    async def grant_xorb(self, request: Request) -> Response:
        """POST /cas/{scope}/v1/xorb-grants/{prefix}/{hash}: an address of the object store to put a xorb at."""
        grant = await self._grants.writing(request)
        direct, name = storage_of(request).direct, request.path_params["hash"]
        if direct is None:
            raise NotFound("not offered by this hub")
        try:
            asked = msgspec.json.decode(await read_body(request, 64 * 1024), type=GrantAsked)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Invalid("The body does not fit: expected length.") from None
        found = direct.grant(grant.tenant, name, asked.length)
        if found is None:
            raise NotFound("not offered by this hub")
        return answer({"id": found[0], "method": "PUT", "url": found[1], "headers": found[2]}, 201)

    async def commit_xorb(self, request: Request) -> Response:
        """POST /cas/{scope}/v1/xorb-commits/{prefix}/{hash}/grant/{grant}: what was put there is verified and kept."""
        grant = await self._grants.writing(request)
        direct = storage_of(request).direct
        if direct is None:
            raise NotFound("not offered by this hub")
        name, given = request.path_params["hash"], request.path_params["grant"]
        async with self._finishing:
            await run_in_threadpool(direct.commit, grant.tenant, name, unquote(given))
        return answer({})

    async def put_shard(self, request: Request) -> Response:
        """POST /cas/{scope}/v1/shards"""
        grant = await self._grants.writing(request)
        check_length(request, MOST_SHARD)
        body = await read_body(request, MOST_SHARD)
        async with self._checking:
            await run_in_threadpool(storage_of(request).xet.put_shard, grant.tenant, body, session=session_of(request))
        return answer({"result": 1})

    async def put_shard_told(self, request: Request) -> Response:
        """POST /cas/{scope}/v2/shards: the same, telling how far it is; large ones take longer than clients wait."""
        grant = await self._grants.writing(request)
        check_length(request, MOST_SHARD)
        body = await read_body(request, MOST_SHARD)
        check = functools.partial(storage_of(request).xet.put_shard, grant.tenant, body, session=session_of(request))
        return StreamingResponse(self._events(self._check(check)), media_type="application/x-ndjson")

    def _check(self, check: Callable[[Progress], int]) -> "Checking":
        """The work on a shard, begun; it ends by itself, whether anybody listens or not."""
        if self._pending >= SHARDS_PENDING:
            raise Unavailable("Many shards wait to be checked; try again soon.", retry_after=10)
        self._pending += 1
        return Checking(check, self._checking, self._done)

    def _done(self, _work: object) -> None:
        self._pending -= 1

    async def _events(self, checking: "Checking") -> AsyncIterator[bytes]:
        try:
            while not (await asyncio.wait([checking.work], timeout=EVENT_SECONDS))[0]:
                yield event(type="validating", verified=checking.verified, total=checking.total)
            checking.work.result()
            yield event(type="result", result=1)
        except EcotoneError as error:
            yield event(type="error", message=error.message, retryable=isinstance(error, Unavailable))
        except Exception:
            log.exception("a shard could not be checked")
            yield event(type="error", message="The shard could not be checked; see the server's log.", retryable=False)

    async def reconstruction_v2(self, request: Request) -> Response:
        """GET /cas/{scope}/v2/reconstructions/{hash}"""
        grant, model = await self._grants.reading(request)
        return answer(await run_in_threadpool(self._reconstruct, request, grant, model, 2))

    async def reconstruction_v1(self, request: Request) -> Response:
        """GET /cas/{scope}/v1/reconstructions/{hash}"""
        grant, model = await self._grants.reading(request)
        return answer(await run_in_threadpool(self._reconstruct, request, grant, model, 1))

    def _reconstruct(self, request: Request, grant: Grant, model: Model, version: int) -> dict[str, Any]:
        xet = storage_of(request).xet
        file = file_of(request, grant, model, request.path_params["hash"])
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
        """GET, POST /cas/{scope}/v1/reconstructions: several whole files in one answer; unknown ones are left out."""
        grant, model = await self._grants.reading(request)
        if request.method == "POST":
            body = await read_body(request, 1024 * 1024)
            names = [str(item.get("hash")) for item in json_list(body) if isinstance(item, dict)]
        else:
            names = request.query_params.getlist("file_id")
        names = names[:MOST_FILES_ASKED]
        return answer(await run_in_threadpool(self._reconstruct_several, request, grant, model, names))

    def _reconstruct_several(self, request: Request, grant: Grant, model: Model, names: list[str]) -> dict[str, Any]:
        xet = storage_of(request).xet
        files: dict[str, Any] = {}
        fetch: dict[str, list[Any]] = {}
        for name in names:
            try:
                found = xet.reconstruction(file_of(request, grant, model, name), 0, None)
            except NotFound:
                continue
            files[name] = [term_json(t) for t in found.terms]
            for xorb, ranges in self._fetch_v1(request, found).items():
                fetch.setdefault(xorb, []).extend(ranges)
        return {"files": files, "fetch_info": fetch}

    async def data(self, request: Request) -> Response:
        """GET /cas/data/{token}: bytes of a xorb within the signed range."""
        xet = storage_of(request).xet
        xorb, first, last, size = await run_in_threadpool(xet.signed_range, request.path_params["token"])
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
        stored = await run_in_threadpool(xet.open, xorb)
        return stored_response(request, stored, start, end, 206, headers=headers)

    async def head_file(self, request: Request) -> Response:
        """HEAD /cas/{scope}/v1/files/{hash}"""
        grant, model = await self._grants.reading(request)
        file = await run_in_threadpool(file_of, request, grant, model, request.path_params["hash"])
        return Response(headers={"content-length": str(file.size)})

    async def chunk(self, request: Request) -> Response:
        """GET /cas/{scope}/v1/chunks/{prefix}/{hash}: a shard that names xorbs of the namespace with that chunk."""
        grant = await self._grants.writing(request)
        ask = storage_of(request).xet.deduplication.answer
        found = await run_in_threadpool(ask, grant.tenant, request.path_params["hash"])
        if found is None:
            raise NotFound("The namespace has no such chunk, or none that is looked for.")
        return Response(found, headers={"cache-control": "no-store"}, media_type="application/octet-stream")

    async def absent(self, request: Request) -> Response:
        """Grants, xorbs asked for: not offered, which clients take as the answer no."""
        await self._grants.reading(request)
        raise NotFound("not offered by this hub")


class Checking:
    """A shard being checked in a worker thread, and how far that is."""

    def __init__(
        self, check: Callable[[Progress], int], room: asyncio.Semaphore, done: Callable[[object], None]
    ) -> None:
        self.verified = 0
        self.total = 0
        self.work = asyncio.ensure_future(self._run(check, room))
        self.work.add_done_callback(done)

    async def _run(self, check: Callable[[Progress], int], room: asyncio.Semaphore) -> int:
        async with room:
            return await run_in_threadpool(check, self._progress)

    def _progress(self, verified: int, total: int) -> None:
        self.verified, self.total = verified, total


# -- what the handlers share -----------------------------------------------------------------------------------------
def session_of(request: Request) -> str:
    """The client's name for its upload, if it has a plausible one."""
    name = request.headers.get("x-xet-session-id", "")
    return name if len(name) <= 64 else ""


def storage_of(request: Request) -> Storage:
    storage: Storage = request.app.state.services.storage
    return storage


def file_of(request: Request, grant: Grant, model: Model, name: str) -> XetFile:
    """A file that some revision of the token's repository names; another one looks as if it were not here."""
    catalog, xet = request.app.state.services.catalog, storage_of(request).xet
    if not catalog.holds(model, name):  # unless its revisions name it by what it was before it was converted
        converted = xet.file(grant.tenant, name)
        if not catalog.holds(model, converted.sha256):
            raise ContentNotFound(f"There is no file {name} here.")
    return xet.file(grant.tenant, name)


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
    if services.storage.direct is not None:
        return str(services.storage.direct.xorb_range(xorb, first, last))
    return f"{services.settings.base_url}/cas/data/{services.storage.xet.sign_range(xorb, first, last)}"


def event(**fields: Any) -> bytes:
    """One line of a shard's progress (protocol section 2.9)."""
    return msgspec.json.encode(fields) + b"\n"


def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors as the store's clients read them."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:  # gone, or too slow: only the latter reads this
            request.state.refused = "body_missing"
            return Response(status_code=408, headers={"connection": "close"})
        except RangeNotSatisfiable as error:
            return answer({"error": error.message}, 416)
        except EcotoneError as error:
            request.state.refused = error.code
            status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
            wait = {"retry-after": str(error.retry_after)} if isinstance(error, Unavailable) else None
            return answer({"error": error.message}, status, wait)

    return endpoint


def routes() -> list[BaseRoute]:
    cas = Cas()
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/cas/{scope}/v2/reconstructions/{hash}", cas.reconstruction_v2),
        ("GET", "/cas/{scope}/v1/reconstructions/{hash}", cas.reconstruction_v1),
        ("GET", "/cas/{scope}/v1/reconstructions", cas.several),
        ("POST", "/cas/{scope}/v1/reconstructions", cas.several),
        ("GET", "/cas/data/{token}", cas.data),
        ("POST", "/cas/{scope}/v1/xorbs/{prefix}/{hash}", cas.put_xorb),
        ("HEAD", "/cas/{scope}/v1/xorbs/{prefix}/{hash}", cas.absent),
        ("HEAD", "/cas/{scope}/v1/files/{hash}", cas.head_file),
        ("POST", "/cas/{scope}/v1/shards", cas.put_shard),
        ("POST", "/cas/{scope}/v2/shards", cas.put_shard_told),
        ("GET", "/cas/{scope}/v1/chunks/{prefix}/{hash}", cas.chunk),
        ("POST", "/cas/{scope}/v1/xorb-grants/{prefix}/{hash}", cas.grant_xorb),
        ("POST", "/cas/{scope}/v1/xorb-commits/{prefix}/{hash}/grant/{grant}", cas.commit_xorb),
    ]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
