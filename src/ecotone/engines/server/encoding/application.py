"""The engine of an encoder as an ASGI application: embeddings, tasks, health and info."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ecotone.engines.server import adapters_face, embeddings_face, tasks_face
from ecotone.engines.server.encoding.engine import Encoders
from ecotone.engines.server.encoding.wire import LARGEST_BODY, Endpoint, answer
from ecotone.engines.server.errors import RequestError, names_of, unknown
from ecotone.engines.server.faults import answer_fault
from ecotone.engines.server.tasks.deciding import served

_WRITING = ("/v1/chat/completions", "/v1/completions")


def application(encoders: Encoders, info: dict[str, Any]) -> Starlette:
    """The ASGI application of one encoder; `info` says what it serves."""
    told = info | {"tasks": list(served(encoders.known)), "largest_body": LARGEST_BODY}
    serves = _serves(info)

    async def health(_scope: Scope, _receive: Receive, send: Send) -> None:
        state = encoders.health()
        await answer(send, state, 200 if state["ok"] else 503)

    async def tell(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, told)

    async def write(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RequestError(
            f"This model reads text and writes none; send it to /v1/embeddings, or to "
            f"/models/{info.get('model') or 'NAMESPACE/NAME'} for {', '.join(served(encoders.known))}.",
            code="unsupported_task",
        )

    def route(path: str, act: Any, method: str = "GET") -> Route:
        return Route(path, Endpoint(act, RequestError.body), methods=[method])

    return Starlette(
        routes=[
            *embeddings_face.routes(encoders, serves),
            *tasks_face.routes(encoders, serves),
            route("/health", health),
            route("/info", tell),
            *adapters_face.routes(encoders),
            *(route(path, write, "POST") for path in _WRITING),
        ],
        exception_handlers={RequestError: _refused, Exception: answer_fault},
    )


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error.body(), status_code=error.status)


def _serves(info: dict[str, Any]) -> Callable[[str], str]:
    names = names_of(info)

    def serves(named: str) -> str:
        """The model's id, for its id with its revision or without; an engine that was told no id answers to any.

        Raises:
            RequestError: it is another model.
        """
        if not names:
            return named
        if named in names:
            return str(info["model"])
        raise unknown(named)

    return serves
