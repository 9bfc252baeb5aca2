"""`/adapters`: which LoRA adapters the engine answers for, and adding and removing them while it runs."""

import asyncio
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ecotone.engines.server import requests
from ecotone.engines.server.adapters import Adapters
from ecotone.engines.server.errors import RequestError, Unloadable, unknown

_LEAVE_SECONDS = 30.0
_LOOK_SECONDS = 0.02


def routes(engine: Any) -> list[Route]:
    """The routes of an engine; it has `adapters`, None when its model takes none while it runs."""
    face = _Face(engine.adapters)
    return [
        Route("/adapters", face.listed, methods=["GET"]),
        Route("/adapters", face.add, methods=["POST"]),
        Route("/adapters", face.remove, methods=["DELETE"]),
    ]


class _Face:
    def __init__(self, adapters: Adapters | None) -> None:
        self._adapters = adapters

    async def listed(self, _request: Request) -> Response:
        found = self._adapters.listed() if self._adapters is not None else []
        return JSONResponse({"adapters": [{"name": a.name, "rank": a.rank, "running": a.running} for a in found]})

    async def add(self, request: Request) -> Response:
        body = requests.body_of(await request.body())
        name, folder = _text(body, "name"), Path(_text(body, "folder"))
        if self._adapters is None:
            raise RequestError(
                "This model takes no adapters while it runs; serve the adapter on its own, merged into its base.",
                code="adapters_unsupported",
            )
        try:
            found = await run_in_threadpool(self._adapters.add, name, folder)
        except Unloadable as error:
            raise RequestError(f"The adapter is refused: {error}", code="adapter_refused") from None
        return JSONResponse({"name": found.name, "rank": found.rank, "running": found.running})

    async def remove(self, request: Request) -> Response:
        name = _text(requests.body_of(await request.body()), "name")
        found = None if self._adapters is None else self._adapters.remove(name)
        if found is None:
            raise unknown(name)
        for _ in range(int(_LEAVE_SECONDS / _LOOK_SECONDS)):
            if not found.running:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return JSONResponse({"name": name, "rank": found.rank, "running": found.running})


def _text(body: dict[str, Any], name: str) -> str:
    found = body.get(name)
    if not isinstance(found, str) or not 0 < len(found) <= 4096:
        raise RequestError(f"{name} must be a text of at most 4096 characters.", param=name)
    return found
