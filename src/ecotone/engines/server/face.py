"""The engine's HTTP side: chat completions, completions, embeddings, health and info, in OpenAI's shapes."""

import asyncio
import base64
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ecotone.engines.server import adapters_face, asking, requests, text_tasks
from ecotone.engines.server.engine import Engine
from ecotone.engines.server.errors import RequestError, names_of, unknown
from ecotone.engines.server.faults import answer_fault
from ecotone.engines.server.generation import Piece
from ecotone.engines.server.requests import TextRequest
from ecotone.engines.server.shapes import ChatShape, Shape, TextShape
from ecotone.engines.server.writing import Writing

Prompts = list[list[int]]


def application(engine: Engine, info: dict[str, Any]) -> Starlette:
    """The ASGI application of one engine; `info` says what it serves."""
    face = _Face(engine, info)
    return Starlette(
        routes=[
            Route("/health", face.health),
            Route("/info", face.info),
            Route("/v1/chat/completions", face.chat, methods=["POST"]),
            Route("/v1/completions", face.completions, methods=["POST"]),
            Route("/v1/embeddings", face.embeddings, methods=["POST"]),
            *adapters_face.routes(engine),
            *text_tasks.routes(engine, face.adapter_of),
        ],
        exception_handlers={RequestError: _answer_error, ClientDisconnect: _answer_gone, Exception: answer_fault},
    )


class _Face:
    def __init__(self, engine: Engine, info: dict[str, Any]) -> None:
        self._engine = engine
        self._info = info
        self._names = names_of(info)

    async def health(self, _request: Request) -> Response:
        state = self._engine.health()
        return JSONResponse(state, status_code=200 if state["ok"] else 503)

    async def info(self, _request: Request) -> Response:
        return JSONResponse(self._info | self._engine.settings())

    async def chat(self, request: Request) -> Response:
        asked = requests.chat(requests.body_of(await asking.body(request)))
        return await self._write(
            request, asked, lambda _: ChatShape(asked, self._engine.tokens.spelling, short_ids=self._engine.short_ids)
        )

    async def completions(self, request: Request) -> Response:
        asked = requests.completion(requests.body_of(await asking.body(request)))
        return await self._write(request, asked, lambda prompts: self._text_shape(asked, prompts))

    def adapter_of(self, model: str) -> str | None:
        """The adapter that a body's model names; None for the base.

        Raises:
            RequestError: it is neither; nothing is ever answered by another model.
        """
        if model in self._names or not self._names:
            return None
        if self._engine.adapters is not None and model in self._engine.adapters:
            return model
        raise unknown(model)

    def _text_shape(self, asked: TextRequest, prompts: Prompts) -> Shape:
        tokens = self._engine.tokens
        given = zip(asked.prompts, prompts, strict=True) if asked.echo else ()
        echoed = [text if isinstance(text, str) else tokens.decode(ids) for text, ids in given for _ in range(asked.n)]
        return TextShape(asked, tokens.spelling, echoed)

    async def embeddings(self, request: Request) -> Response:
        asked = requests.embedding(requests.body_of(await asking.body(request)))
        if self.adapter_of(asked.model) is not None:
            raise RequestError("Adapters make no embeddings; name their base.", code="unsupported_task", param="model")
        texts = await asking.prepared(lambda: self._engine.texts(asked))
        future = self._engine.embed(texts)
        found = await asking.unless_gone(request, asyncio.wrap_future(future))
        if found is None:
            future.cancel()
            return Response(status_code=asking.GONE)
        pack = _packed if asked.base64 else list
        tokens = sum(map(len, texts))
        return JSONResponse(
            {
                "object": "list",
                "model": asked.model.partition("@")[0],
                "data": [
                    {"object": "embedding", "index": place, "embedding": pack(vector)}
                    for place, vector in enumerate(found)
                ],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    async def _write(self, request: Request, asked: TextRequest, shaped: Callable[[Prompts], Shape]) -> Response:
        adapter = self.adapter_of(asked.model)
        ready = await asking.prepared(lambda: self._engine.prepare(asked))
        writing = Writing(
            lambda receiver, loop: self._engine.write(
                ready, asked, receiver, loop, adapter, request.headers.get(asking.PARTY, "")
            ),
            sum(map(len, ready.prompts)),
        )
        shape = shaped(ready.prompts)
        if asked.stream:
            return EventStream(writing, shape, include_usage=asked.include_usage)
        found = await asking.whole(request, writing)
        return Response(status_code=asking.GONE) if found is None else _json(shape.whole(found, writing.usage()))


class EventStream(Response):
    """Server-sent events by OpenAI's grammar.

    The head goes out with the first piece, so that what fails before it is an error with its own status. A stream that
    fails later ends with an error event and without `[DONE]`.
    """

    def __init__(self, writing: Writing, shape: Shape, *, include_usage: bool) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(
            {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}
        )
        self._writing = writing
        self._shape = shape
        self._more: dict[str, Any] = {"usage": None} if include_usage else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asking.watched(receive, self._writing)
        begun = False
        try:
            async for bunch in self._writing.bunches():
                body = self._events(bunch)
                if not begun:
                    begun = True
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    body = self._opening() + body
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": self._closing(), "more_body": False})
        except RequestError as error:
            if not begun:
                await _error_response(error)(scope, receive, send)
            else:
                await send({"type": "http.response.body", "body": _event(error.body()), "more_body": False})
        finally:
            leaving.cancel()
            self._writing.cancel()

    def _opening(self) -> bytes:
        choices = [choice for index in range(self._writing.count) for choice in self._shape.opening(index)]
        return b"".join(self._chunk(choice) for choice in choices)

    def _events(self, bunch: Sequence[tuple[int, Piece]]) -> bytes:
        return b"".join(self._chunk(choice) for i, piece in bunch for choice in self._shape.growing(i, piece))

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return _event({**self._shape.chunk([choice]), **self._more})

    def _closing(self) -> bytes:
        usage = {**self._shape.chunk([]), "usage": self._writing.usage()}
        return (_event(usage) if self._more else b"") + b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _error_response(error: RequestError) -> Response:
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def _packed(vector: list[float]) -> str:
    """Little-endian float32, as base64 text."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _error_response(error)


async def _answer_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=asking.GONE)
