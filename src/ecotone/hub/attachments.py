"""Pictures attached to discussions: `POST /uploads` takes one and answers with its address (protocol section 1.10)."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from ecotone.hub.endpoint import failed, need_user, read_body, refuse_keys
from ecotone.storage.attachments import MOST_BYTES
from ecotone.vocabulary import EcotoneError

_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, max-age=86400, immutable",
}


async def upload(request: Request) -> Response:
    """POST /uploads: the raw bytes of a picture; the answer is its address as plain text."""
    actor, services = request.state.actor, request.app.state.services
    try:
        refuse_keys(actor)
        need_user(actor)
        data = await read_body(request, MOST_BYTES)
        name = await run_in_threadpool(services.storage.attachments.put, data)
    except EcotoneError as error:
        return failed(request, error, actor)
    return PlainTextResponse(f"{services.settings.base_url}/uploads/{name}")


async def show(request: Request) -> Response:
    """GET /uploads/{name}"""
    services = request.app.state.services
    try:
        data, media = await run_in_threadpool(services.storage.attachments.get, request.path_params["name"])
    except EcotoneError as error:
        return failed(request, error, request.state.actor)
    return Response(data, headers=_HEADERS, media_type=media)


def routes() -> list[BaseRoute]:
    return [Route("/uploads", upload, methods=["POST"]), Route("/uploads/{name}", show, methods=["GET"])]
