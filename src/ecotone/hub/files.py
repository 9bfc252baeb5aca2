"""Reading single files: resolve and raw (protocol section 1.6). The bytes' way out is `content`."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.catalog import File, Model, Revision
from ecotone.hub.content import content_response
from ecotone.hub.endpoint import KINDS, PREFIXES, Call, failed, handle, refuse_keys
from ecotone.hub.infos import etag
from ecotone.hub.listings import count_download
from ecotone.storage import Storage
from ecotone.storage.content import pointer
from ecotone.vocabulary import EcotoneError, RepoType

_TEXT = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".py": "text/plain; charset=utf-8",
    ".yaml": "text/plain; charset=utf-8",
    ".yml": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".jinja": "text/plain; charset=utf-8",
}
_KIND_WORDS = {repo_type: kind for kind, repo_type in KINDS.items()}


def found(call: Call) -> tuple[Model, Revision, File]:
    """The file that a resolve or raw path names.

    Raises:
        ModelNotFound, GatedRepo, RevisionNotFound, EntryNotFound: in this order.
    """
    model = call.model()
    call.check_gate(model)
    revision = call.catalog.revision(model, call.path["rev"])
    return model, revision, call.catalog.file(revision, call.path["path"])


def file_headers(call: Call, model: Model, revision: Revision, file: File) -> dict[str, str]:
    """The headers by which clients name, cache and verify a file; the same on HEAD and GET."""
    name = file.path.rpartition("/")[2]
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    headers = {
        "x-repo-commit": revision.id,
        "etag": f'"{etag(file)}"',
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\"",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "access-control-expose-headers": "ETag, X-Repo-Commit, X-Linked-Size, X-Linked-Etag, X-Xet-Hash, Link",
        "cache-control": "private, no-cache",
    }
    if file.content.sha256 is not None:
        headers["x-linked-etag"] = headers["etag"]
        headers["x-linked-size"] = str(file.content.size)
    if file.content.xet_hash is not None:
        route = f"{call.base}/api/{_KIND_WORDS[model.repo_type]}/{model.id}/xet-read-token/{revision.id}"
        headers["x-xet-hash"] = file.content.xet_hash
        headers["x-xet-refresh-route"] = route
        headers["link"] = f'<{route}>; rel="xet-auth"'
    return headers


def direct_address(request: Request, storage: Storage, namespace: str, file: File) -> str | None:
    """Where the object store itself has the file, when clients reach the store and it has the file in one piece."""
    if storage.direct is None or file.content.kind != "lfs" or request.method != "GET":
        return None
    if "if-none-match" in request.headers or "if-range" in request.headers:  # the store knows other tags
        return None
    known = storage.large(namespace, file.content.sha256 or "")
    if known is None or known.kind != "lfs":  # converted since its commit
        return None
    return storage.direct.whole_file(file.content.sha256 or "", file.path.rpartition("/")[2])


def media_type(path: str) -> str:
    suffix = "." + path.rpartition(".")[2].lower()
    return _TEXT.get(suffix, "application/octet-stream")


def resolve_endpoint(repo_type: RepoType) -> Callable[[Request], Awaitable[Response]]:
    """GET, HEAD /{prefix}{id}/resolve/{rev}/{path}"""

    async def endpoint(request: Request) -> Response:
        try:
            refuse_keys(request.state.actor)
            call = Call(request, repo_type)
            model, revision, file = await run_in_threadpool(found, call)
            headers = file_headers(call, model, revision, file)
            if request.method == "GET" and request.headers.get("x-hf-download-counter") == "1":
                await run_in_threadpool(count_download, call, model)
            storage = call.services.storage
            address = await run_in_threadpool(direct_address, request, storage, model.namespace, file)
            if address is not None:
                return Response(status_code=302, headers=headers | {"location": address})
            return await content_response(
                request, storage, file.content, headers=headers, media_type=media_type(file.path)
            )
        except EcotoneError as error:
            return failed(request, error, request.state.actor)

    return endpoint


def raw(call: Call) -> Any:
    """GET /{prefix}{id}/raw/{rev}/{path}: the blob as git has it, a pointer for a large file."""
    model, revision, file = found(call)
    headers = {
        name: value
        for name, value in file_headers(call, model, revision, file).items()
        if name in ("x-repo-commit", "x-content-type-options", "content-security-policy", "cache-control")
    }
    headers["etag"] = f'"{file.content.git_oid}"'
    if file.content.sha256 is not None:
        data = pointer(file.content.sha256, file.content.size)
    else:
        data = b"".join(call.services.storage.read(file.content))
    return Response(data, headers=headers, media_type="text/plain; charset=utf-8")


def routes() -> list[BaseRoute]:
    made: list[BaseRoute] = []
    for repo_type, prefix in sorted(PREFIXES.items(), key=lambda p: -len(p[1])):
        start = f"/{prefix}{{namespace}}/{{name}}"
        made += [
            Route(start + "/resolve/{rev}/{path:path}", resolve_endpoint(repo_type), methods=["GET"]),
            Route(start + "/raw/{rev}/{path:path}", handle(raw, repo_type), methods=["GET"]),
        ]
    return made
