"""`/tasks/{task}` of models that write, in the shapes that `huggingface_hub.InferenceClient` reads.

Every answer says in `x-ecotone-task` which task it was and in `x-ecotone-usage` how many tokens it took; a stream tells
its tokens in the details of its last event.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ecotone.engines.server import asking
from ecotone.engines.server.engine import Engine, Prepared
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.folders import Task
from ecotone.engines.server.generation import Piece
from ecotone.engines.server.requests import body_of
from ecotone.engines.server.sampling import Chosen
from ecotone.engines.server.text_task_requests import TEXT_TASKS, Wanted, read
from ecotone.engines.server.writing import Writing

AdapterOf = Callable[[str], str | None]
Object = dict[str, Any]


def routes(engine: Engine, adapter_of: AdapterOf) -> list[Route]:
    """The route; `adapter_of` tells the adapter that a name means, None for the base, and refuses any other name."""

    async def task(request: Request) -> Response:
        try:
            return await _answered(engine, request, adapter_of)
        except RequestError as error:
            return _refused(error)

    return [Route("/tasks/{task}", task, methods=["POST"])]


async def _answered(engine: Engine, request: Request, adapter_of: AdapterOf) -> Response:
    named = request.path_params["task"]
    if named not in (*TEXT_TASKS, "auto"):
        raise RequestError(
            f"This model writes text and has no task {named[:60]!r}; its tasks are {', '.join(TEXT_TASKS)}.",
            code="unsupported_task",
        )
    raw = await asking.body(request)
    encodes = engine.task == Task.TEXT_TO_TEXT
    model = request.headers.get("x-ecotone-model", "")
    adapter = adapter_of(model) if model else None
    wanted = read(named, body_of(raw), model, engine.task_settings, encodes=encodes)
    ready = await asking.prepared(lambda: _ready(engine, wanted))
    writing = Writing(
        lambda receiver, loop: engine.write(
            ready, wanted.request, receiver, loop, adapter, request.headers.get(asking.PARTY, "")
        ),
        sum(map(len, ready.prompts)),
    )
    shape = _Shape(wanted, engine, len(ready.prompts[0]))
    if wanted.request.stream:
        return _EventStream(writing, shape)
    found = await asking.whole(request, writing)
    if found is None:
        return Response(status_code=asking.GONE)
    usage = writing.usage()
    headers = {
        "x-ecotone-task": wanted.task,
        "x-ecotone-usage": f"{usage['prompt_tokens']},{usage['completion_tokens']}",
    }
    return Response(msgspec.json.encode(shape.whole(found)), media_type="application/json", headers=headers)


def _ready(engine: Engine, wanted: Wanted) -> Prepared:
    return engine.prepare_text(wanted.request, truncate=wanted.truncate, cut=wanted.cut, regex=wanted.regex)


class _Shape:
    """Hugging Face's JSON of one request's answers."""

    def __init__(self, wanted: Wanted, engine: Engine, prompt_tokens: int) -> None:
        self._wanted = wanted
        self._spelling = engine.tokens.spelling
        self._specials = engine.tokens.specials
        self._encodes = engine.task == Task.TEXT_TO_TEXT
        self._prompt_tokens = prompt_tokens
        self.task = wanted.task

    def whole(self, answers: Sequence[Piece]) -> Any:
        each = self._wanted.best_of
        prompts = self._wanted.request.prompts
        return [
            self._best(str(prompt), answers[place * each : (place + 1) * each]) for place, prompt in enumerate(prompts)
        ]

    def _best(self, prompt: str, answers: Sequence[Piece]) -> Object:
        ordered = sorted(answers, key=_likelihood, reverse=True) if len(answers) > 1 else answers
        best, others = ordered[0], ordered[1:]
        text = prompt + best.text if self._wanted.full_text else best.text
        found: Object = {"generated_text": text}
        if self._encodes:
            found |= {"translation_text": text, "summary_text": text}
        if self._wanted.details:
            found["details"] = self._details(best)
            if others:
                found["details"]["best_of_sequences"] = [
                    {"generated_text": other.text, **self._details(other)} for other in others
                ]
        return found

    def _details(self, answer: Piece) -> Object:
        chosen = _with_end(answer)
        found = self._ending(answer, answer.tokens) | {"prefill": [], "tokens": [self.token(one) for one in chosen]}
        if self._wanted.top:
            found["top_tokens"] = [self.top(one) for one in chosen]
        return found

    def _ending(self, piece: Piece, count: int) -> Object:
        ended = piece.end is not None or not self._wanted.request.sampling.stop
        reason = "length" if piece.finish == "length" else "eos_token" if ended else "stop_sequence"
        return {"finish_reason": reason, "generated_tokens": count, "seed": self._wanted.request.sampling.seed}

    def token(self, chosen: Chosen, text: str | None = None) -> Object:
        return {
            "id": chosen.token,
            "text": self._spelling(chosen.token).decode("utf-8", "replace") if text is None else text,
            "logprob": max(chosen.logprob, -9999.0),
            "special": chosen.token in self._specials,
        }

    def top(self, chosen: Chosen) -> list[Object]:
        return [self.token(Chosen(token, logprob)) for token, logprob in chosen.top]

    def events(self, piece: Piece, before: Sequence[str], index: int) -> tuple[list[Object], str]:
        """Events for a piece, one for each of its tokens; its text goes out with the last of them.

        A stream's tokens, put together, are the text and nothing more: a stop string is not among them, nor is the
        token that ended the answer.
        """
        tokens = [(one, "") for one in piece.chosen]
        if tokens:
            tokens[-1] = (tokens[-1][0], piece.text)
        if piece.end is not None:
            tokens.append((piece.end, "" if tokens else piece.text))
        found = [
            {"index": place, "token": self.token(one, text), "generated_text": None, "details": None}
            | ({"top_tokens": self.top(one)} if self._wanted.top else {})
            for place, (one, text) in enumerate(tokens, index)
        ]
        if piece.finish is not None and found:
            text = "".join((*before, piece.text))
            prompt = str(self._wanted.request.prompts[0]) if self._wanted.full_text else ""
            found[-1]["generated_text"] = prompt + text
            found[-1]["details"] = self._ending(piece, piece.tokens) | {"input_length": self._prompt_tokens}
        return found, piece.text


class _EventStream(Response):
    """Server-sent events as text-generation-inference writes them; the head goes out with the first token."""

    def __init__(self, writing: Writing, shape: _Shape) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store",
                "x-accel-buffering": "no",
                "x-ecotone-task": shape.task,
            }
        )
        self._writing, self._shape = writing, shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asking.watched(receive, self._writing)
        begun = False
        index = 0
        texts: list[str] = []
        try:
            async for bunch in self._writing.bunches():
                body = b""
                for _, piece in bunch:
                    events, text = self._shape.events(piece, texts, index)
                    index += len(events)
                    texts.append(text)
                    body += b"".join(map(_event, events))
                if not begun:
                    begun = True
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except RequestError as error:
            if not begun:
                await _refused(error)(scope, receive, send)
            else:
                await send({"type": "http.response.body", "body": _event(error.task_body()), "more_body": False})
        finally:
            leaving.cancel()
            self._writing.cancel()


def _with_end(answer: Piece) -> list[Chosen]:
    return [*answer.chosen, *([] if answer.end is None else [answer.end])]


def _likelihood(answer: Piece) -> float:
    """The mean log-probability of an answer's tokens."""
    chosen = _with_end(answer)
    return sum(one.logprob for one in chosen) / max(len(chosen), 1)


def _event(value: Object) -> bytes:
    return b"data:" + msgspec.json.encode(value) + b"\n\n"


def _refused(error: RequestError) -> Response:
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return Response(
        msgspec.json.encode(error.task_body()), status_code=error.status, media_type="application/json", headers=headers
    )
