"""The engine's HTTP side: chat completions, completions, embeddings, health and info, in OpenAI's shapes."""

import abc
import asyncio
import base64
import contextlib
import json
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ecotone.engines.server import requests
from ecotone.engines.server.engine import Engine
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.generation import Answer, Piece
from ecotone.engines.server.requests import TextRequest

_PREPARE_SECONDS = 20.0
_GONE = 499  # nobody reads it: the client has left


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
        ],
        exception_handlers={RequestError: _answer_error, ClientDisconnect: _answer_gone},
    )


class _Face:
    def __init__(self, engine: Engine, info: dict[str, Any]) -> None:
        self._engine = engine
        self._info = info

    async def health(self, _request: Request) -> Response:
        state = self._engine.health()
        return JSONResponse(state, status_code=200 if state["ok"] else 503)

    async def info(self, _request: Request) -> Response:
        return JSONResponse(self._info)

    async def chat(self, request: Request) -> Response:
        asked = requests.chat(requests.body_of(await request.body()))
        return await self._write(request, asked, _ChatShape(asked))

    async def completions(self, request: Request) -> Response:
        asked = requests.completion(requests.body_of(await request.body()))
        return await self._write(request, asked, _TextShape(asked))

    async def embeddings(self, request: Request) -> Response:
        asked = requests.embedding(requests.body_of(await request.body()))
        texts = await _prepared(lambda: self._engine.texts(asked))
        future = self._engine.embed(texts)
        found = await _unless_gone(request, asyncio.wrap_future(future))
        if found is None:
            future.cancel()
            return Response(status_code=_GONE)
        pack = _packed if asked.base64 else list
        tokens = sum(map(len, texts))
        return JSONResponse(
            {
                "object": "list",
                "model": asked.model,
                "data": [
                    {"object": "embedding", "index": place, "embedding": pack(vector)}
                    for place, vector in enumerate(found)
                ],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    async def _write(self, request: Request, asked: TextRequest, shape: "_Shape") -> Response:
        prompts = await _prepared(lambda: self._engine.prompts(asked))
        writing = _Writing(self._engine, asked, prompts)
        if asked.stream:
            return StreamingResponse(
                _events(writing, shape, include_usage=asked.include_usage),
                media_type="text/event-stream",
                headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            )
        try:
            found = await _unless_gone(request, asyncio.ensure_future(writing.whole()))
        finally:
            writing.cancel()
        if found is None:
            return Response(status_code=_GONE)
        return JSONResponse(shape.whole(found, writing.usage()))


class _Writing:
    """The answers to one request; their pieces come as `(index, piece)`."""

    def __init__(self, engine: Engine, asked: TextRequest, prompts: list[list[int]]) -> None:
        loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._prompt_tokens = sum(map(len, prompts))
        self._made = [0] * len(prompts)
        self._answers: list[Answer] = []

        def deliver_to(index: int) -> Callable[[Piece], None]:
            def deliver(piece: Piece) -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended: the process does too
                    loop.call_soon_threadsafe(self._pieces.put_nowait, (index, piece))

            return deliver

        try:
            for index, prompt in enumerate(prompts):
                self._answers.append(engine.write(prompt, asked.sampling, deliver_to(index)))
        except RequestError:
            self.cancel()
            raise

    @property
    def count(self) -> int:
        return len(self._answers)

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        open_answers = self.count
        while open_answers:
            index, piece = await self._pieces.get()
            self._made[index] = piece.tokens
            if piece.error is not None:
                raise piece.error
            open_answers -= piece.last
            yield index, piece

    async def whole(self) -> list[Piece]:
        """Each answer as one piece."""
        texts = [""] * self.count
        ends: list[str | None] = [None] * self.count
        async for index, piece in self.pieces():
            texts[index] += piece.text
            ends[index] = piece.finish
        return [Piece(text, finish=end) for text, end in zip(texts, ends, strict=True)]

    def cancel(self) -> None:
        for answer in self._answers:
            answer.cancel()

    def usage(self) -> dict[str, int]:
        made = sum(self._made)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self._prompt_tokens + made,
        }


class _Shape(abc.ABC):
    """The JSON of one kind of answer: whole, and as the chunks of a stream."""

    prefix = ""
    kind = ""
    chunk_kind = ""

    def __init__(self, asked: TextRequest) -> None:
        self._id = f"{self.prefix}-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = asked.model

    def whole(self, answers: list[Piece], usage: dict[str, int]) -> dict[str, Any]:
        choices = [self._choice(i, piece) for i, piece in enumerate(answers)]
        return self._object(self.kind, choices) | {"usage": usage}

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._object(self.chunk_kind, choices)

    @abc.abstractmethod
    def opening(self, index: int) -> list[dict[str, Any]]:
        """Choices of the chunks that begin an answer."""

    @abc.abstractmethod
    def growing(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """Choices of the chunks for a piece."""

    @abc.abstractmethod
    def _choice(self, index: int, piece: Piece) -> dict[str, Any]:
        """The choice of a whole answer."""

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model, "choices": choices}


class _ChatShape(_Shape):
    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def _choice(self, index: int, piece: Piece) -> dict[str, Any]:
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": piece.finish}

    def opening(self, index: int) -> list[dict[str, Any]]:
        return [self._delta(index, {"role": "assistant", "content": "", "refusal": None})]

    def growing(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        found = [self._delta(index, {"content": piece.text})] if piece.text else []
        return [*found, self._delta(index, {}, piece.finish)] if piece.finish else found

    def _delta(self, index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


class _TextShape(_Shape):
    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def _choice(self, index: int, piece: Piece) -> dict[str, Any]:
        return {"index": index, "text": piece.text, "logprobs": None, "finish_reason": piece.finish}

    def opening(self, index: int) -> list[dict[str, Any]]:
        return []

    def growing(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        return [self._choice(index, piece)]


async def _events(writing: _Writing, shape: _Shape, *, include_usage: bool) -> AsyncIterator[bytes]:
    """Server-sent events by OpenAI's grammar. A stream that fails ends with an error event and without `[DONE]`."""
    more: dict[str, Any] = {"usage": None} if include_usage else {}
    try:
        for index in range(writing.count):
            for choice in shape.opening(index):
                yield _event(shape.chunk([choice]) | more)
        async for index, piece in writing.pieces():
            for choice in shape.growing(index, piece):
                yield _event(shape.chunk([choice]) | more)
        if include_usage:
            yield _event(shape.chunk([]) | {"usage": writing.usage()})
        yield b"data: [DONE]\n\n"
    except RequestError as error:
        yield _event(error.body())
    finally:
        writing.cancel()


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def _prepared(act: Callable[[], list[list[int]]]) -> list[list[int]]:
    """Template and tokenizer, beside the event loop and within a time."""
    try:
        return await asyncio.wait_for(run_in_threadpool(act), _PREPARE_SECONDS)
    except TimeoutError:
        raise RequestError(
            f"The prompt could not be prepared within {_PREPARE_SECONDS:g} s; send a shorter one.", code="too_slow"
        ) from None


async def _unless_gone(request: Request, work: "asyncio.Future[Any]") -> Any:
    """The work's result, or None when the client left before."""
    leaving = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        leaving.cancel()
        work.cancel()


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _packed(vector: list[float]) -> str:
    """Little-endian float32, as base64 text."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


async def _answer_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_GONE)
