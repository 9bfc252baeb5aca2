"""The relay's HTTP side: the built-in engine's wire on the deployment's socket."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ecotone.engines.kinds.relay import tasks
from ecotone.engines.kinds.relay.far import Far, Fault
from ecotone.engines.kinds.relay.passing import Opened, answer_fault, opened, passed, unless_gone

_GONE = 499
# what vLLM took once and ignores now, with 200 (its #53975): a text that keeps nothing would be a wrong answer
_IGNORED_BY_VLLM = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_decoding_backend")
_PATHS = frozenset({"chat/completions", "completions", "embeddings", "responses", "messages", "rerank", "score"})


def application(far: Far, info: dict[str, Any]) -> Starlette:
    """The ASGI application before one engine; `info` says what it serves."""
    face = _Face(far, info)
    return Starlette(
        routes=[
            Route("/health", face.health),
            Route("/info", face.info),
            Route("/adapters", face.adapters, methods=["GET", "POST", "DELETE"]),
            Route("/tasks/{task}", face.task, methods=["POST"]),
            Route("/v1/{path:path}", face.pass_on, methods=["POST"]),
        ],
        exception_handlers={Fault: answer_fault, ClientDisconnect: _answer_gone},
    )


class _Face:
    def __init__(self, far: Far, info: dict[str, Any]) -> None:
        self._far = far
        self._info = info
        self._tasks = tuple(info.get("tasks") or ())

    async def health(self, _request: Request) -> Response:
        try:
            well = await self._far.well()
            told = await self._far.figures() if well else {}
        except Fault as fault:
            return JSONResponse({"ok": False, "error": fault.message}, status_code=503)
        return JSONResponse({"ok": well, "running": self._far.running, **told}, status_code=200 if well else 503)

    async def info(self, _request: Request) -> Response:
        return JSONResponse(self._info)

    async def adapters(self, request: Request) -> Response:
        if request.method == "GET":
            told = [{"name": name, "rank": 0, "running": 0, **more} for name, more in self._far.adapters.items()]
            return JSONResponse({"adapters": told})
        body = _object(await request.body())
        name = str(body.get("name") or "")
        if request.method == "POST":
            await self._far.load_adapter(name, str(body.get("folder") or ""))
        else:
            await self._far.drop_adapter(name)
        return JSONResponse({"name": name})

    async def pass_on(self, request: Request) -> Response:
        path = request.path_params["path"]  # below whatever prefix a server in front has
        if path not in _PATHS:
            raise Fault(f"There is no /v1/{path} here.", status=404, code="not_found")
        raw = await request.body()
        body = _object(raw)
        if self._far.dialect == "vllm":
            _refuse_ignored(body)
        name = self._far.known(body.get("model"))
        if name != body.get("model"):
            raw = json.dumps(body | {"model": name}, ensure_ascii=False).encode()
        return await passed(self._far, request, f"/v1/{path}", raw)

    async def task(self, request: Request) -> Response:
        """A task of Hugging Face's in the engine's own words; errors in their shape."""
        try:
            body = _object(await request.body())
            name = self._far.known(request.headers.get("x-ecotone-model"))
            if self._far.speaks_ours:
                return await passed(self._far, request, f"/tasks/{request.path_params['task']}", await request.body())
            task = tasks.task_of(request.path_params["task"], body, self._tasks)
            by = tasks.by_tei if self._far.dialect == "tei" else tasks.by_openai
            asked = by(task, body, name)
            found = await unless_gone(request, opened(self._far, asked.path, json.dumps(asked.body).encode(), {}))
            if found is None:
                return Response(status_code=_GONE)
            return await self._told(task, asked, found)
        except Fault as fault:
            kind = "validation" if fault.status < 500 else "generation"
            return JSONResponse({"error": fault.message, "error_type": kind}, status_code=fault.status)

    async def _told(self, task: str, asked: tasks.Asked, found: Opened) -> Response:
        if found.status != 200:
            await found.close()
            return JSONResponse({"error": _message(found.first)}, status_code=found.status)
        if found.streams:
            return StreamingResponse(_events(found), media_type="text/event-stream", headers={"x-ecotone-task": task})
        await found.close()
        try:
            value, usage = asked.finish(json.loads(found.first), found.all_headers)
        except (ValueError, KeyError, IndexError, TypeError):
            raise Fault("The engine's answer is not of the shape that its dialect asks for.") from None
        return JSONResponse(value, headers={"x-ecotone-task": task, "x-ecotone-usage": "%d,%d" % usage})


async def _events(found: Opened) -> AsyncIterator[bytes]:
    state: dict[str, Any] = {}
    held = b""
    try:
        async for piece in found.pieces():
            *lines, held = (held + piece).split(b"\n")
            for event in tasks.events((line.decode("utf-8", "replace") for line in lines), state):
                yield _event(event)
    except (Fault, ValueError) as error:
        state["error"] = {"message": str(error)}
    yield _event(tasks.last_event(state))


def _event(value: dict[str, Any]) -> bytes:
    return b"data:" + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise Fault(f"The body is not JSON: {error}.", status=400, code="invalid_json") from None
    if not isinstance(found, dict):
        raise Fault("The body must be a JSON object.", status=400, code="invalid_json")
    return found


def _refuse_ignored(body: dict[str, Any]) -> None:
    if found := next((name for name in _IGNORED_BY_VLLM if body.get(name) is not None), None):
        raise Fault(
            f"vLLM ignores {found}; response_format holds an answer to a JSON schema.",
            status=400,
            code="unsupported_parameter",
        )


def _message(raw: bytes) -> str:
    """What an engine's error says, in whatever shape."""
    try:
        found = json.loads(raw)
    except ValueError:
        return raw[:300].decode("utf-8", "replace")
    error = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(error, dict):
        error = error.get("message") or error.get("error") or error
    return str(error)[:1000]


async def _answer_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_GONE)
