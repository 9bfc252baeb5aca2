"""The few files that pages load from ourselves, addressed by their content so that they may be kept for ever."""

import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

FOLDER = Path(__file__).with_name("static")
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@cache
def _held() -> dict[str, tuple[str, bytes]]:
    """Digest and bytes of each file by name."""
    found = {}
    for path in sorted(FOLDER.iterdir()):
        data = path.read_bytes()
        found[path.name] = (hashlib.sha256(data).hexdigest()[:16], data)
    return found


def address(name: str) -> str:
    """The path of a file, with its digest."""
    return f"/static/{_held()[name][0]}/{name}"


async def file(request: Request) -> Response:
    """GET /static/{digest}/{name}"""
    name = request.path_params["name"]
    if name not in _held():
        return PlainTextResponse("There is no such file.\n", 404)
    digest, data = _held()[name]
    current = request.path_params["digest"] == digest
    return Response(
        data,
        media_type=_TYPES[Path(name).suffix],
        headers={
            "cache-control": "public, max-age=31536000, immutable" if current else "no-cache",
            "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        },
    )


async def icon(_request: Request) -> Response:
    """GET /favicon.ico, for browsers that ask without reading the page."""
    return Response(_held()["mark.svg"][1], media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})
