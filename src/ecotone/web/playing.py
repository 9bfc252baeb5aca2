"""One question put to one model through the gateway, as the project's own request: decided, limited, priced, recorded.

The pages hold no gateway of their own: what is asked here takes the course that any key's request takes, with a key of
the project that ends by itself and that its ledger names.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool

from ecotone.accounts import Actor, KeyTerms
from ecotone.database import utc_now
from ecotone.web.explained import explained
from ecotone.web.rendering import words
from ecotone.web.traffic import usd

TAG = "playground"
_KEY_LIFE = timedelta(hours=1)
_LAST_MINUTES = timedelta(minutes=5)
_IN_FORCE_SECONDS = 4.0
_MOST_TEXT = 200_000
_MS = 1000


@dataclass(frozen=True, slots=True)
class Question:
    """What both sides are asked. `tokens` is the longest answer."""

    project: str
    prompt: str
    system: str = ""
    tokens: int = 256
    temperature: float = 0.0

    def body(self, model: str) -> bytes:
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": self.prompt})
        return msgspec.json.encode(
            {
                "model": model,
                "messages": messages,
                "max_tokens": self.tokens,
                "temperature": self.temperature,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How one side's answer went, in the words of the page."""

    model: str
    text: str = ""
    problem: str = ""
    answered_by: str = ""
    reason: str = ""
    first: str = ""
    whole: str = ""
    tokens: str = ""
    speed: str = ""
    price: str = ""
    verdict: str = ""
    verdict_word: str = ""
    verdict_mark: str = ""
    duties: tuple[str, ...] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    id: str
    secret: str
    ends: datetime


class PlayKeys:
    """Keys that the playground asks with: one for each user and project, known to this process alone."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Kept] = {}
        self._turn = threading.Lock()

    def key(self, services: Any, project: str, actor: Actor) -> str:
        """A key of the project that lasts for some minutes more at least.

        Raises:
            ProjectNotFound, Forbidden: as for any key that the actor would make.
        """
        with self._turn:  # both sides of the page ask at once
            return self._key(services, project, actor)

    def _key(self, services: Any, project: str, actor: Actor) -> str:
        now = utc_now()
        self._known = {place: kept for place, kept in self._known.items() if kept.ends > now}
        known = self._known.get((actor.name, project))
        living = {info.id for info in services.accounts.keys(project, actor=actor) if info.state == "in force"}
        if known is not None and known.ends > now + _LAST_MINUTES and known.id in living:
            return known.secret
        services.intend("key.created", actor, project=project, note="playground")
        terms = KeyTerms(note=f"Playground of {actor.name}"[:200], expires=now + _KEY_LIFE, tags=(TAG,))
        info, secret = services.accounts.create_key(project, actor=actor, terms=terms)
        services.note("key.created", actor, project=project, key_id=info.id, tags=[TAG])
        kept = self._known[actor.name, project] = _Kept(info.id, secret, now + _KEY_LIFE)
        return kept.secret


async def answered(services: Any, key: str, question: Question, model: str) -> AsyncIterator[str | Told]:
    """Pieces of the answer's text as they come; at the end what is told of it."""
    began = time.perf_counter()
    heard = _Heard(model)
    end = began + _IN_FORCE_SECONDS
    while True:  # a key that was made just now is in force within two seconds
        async for piece in _streamed(services.gateway.asgi, key, question.body(model), heard):
            yield piece
        if heard.status != 401 or time.perf_counter() > end:
            break
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        heard = _Heard(model)
    whole = time.perf_counter() - began
    yield await run_in_threadpool(_told, services, heard, began, whole)


class _Heard:
    """What came back of one request."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text: list[str] = []
        self.size = 0
        self.first: float | None = None
        self.usage: dict[str, Any] = {}
        self.problem = ""


async def _streamed(asgi: Any, key: str, body: bytes, heard: _Heard) -> AsyncIterator[str]:
    events: asyncio.Queue[Any] = asyncio.Queue()
    asked, gone = False, asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "headers": [
            (b"host", b"localhost"),
            (b"authorization", f"Bearer {key}".encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    work = asyncio.ensure_future(asgi(scope, receive, events.put))
    work.add_done_callback(lambda _: events.put_nowait(None))
    rest = b""
    try:
        while (message := await events.get()) is not None:
            if message["type"] == "http.response.start":
                heard.status = message["status"]
                heard.headers = {n.decode().lower(): v.decode("latin-1") for n, v in message["headers"]}
                continue
            rest += message.get("body", b"")
            if heard.status == 200:
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    if text := _piece(line, heard):
                        yield text
        if heard.status != 200:
            heard.problem = _problem(rest)
    finally:
        gone.set()
        await asyncio.wait({work}, timeout=5)


def _piece(line: bytes, heard: _Heard) -> str:
    """The text in a line of a stream; usage and errors are noted."""
    if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
        return ""
    try:
        event = json.loads(line[5:])
    except ValueError:
        return ""
    if not isinstance(event, dict):
        return ""
    if event.get("error"):
        heard.problem = str((event["error"] or {}).get("message", "The answer broke off."))[:1000]
        return ""
    heard.usage = event.get("usage") or heard.usage
    texts = [str((choice.get("delta") or {}).get("content") or "") for choice in event.get("choices") or ()]
    text = "".join(texts)
    if text and heard.first is None:
        heard.first = time.perf_counter()
    heard.size += len(text)
    if heard.size > _MOST_TEXT:
        return ""
    heard.text.append(text)
    return text


def _problem(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])[:2000]
    except (ValueError, KeyError, TypeError):
        return "The gateway gave no answer that can be read."


def _told(services: Any, heard: _Heard, began: float, whole: float) -> Told:
    made, read = heard.usage.get("completion_tokens"), heard.usage.get("prompt_tokens")
    request_id = heard.headers.get("x-request-id", "")
    told = Told(
        model=heard.model,
        text="".join(heard.text),
        problem=heard.problem,
        answered_by=heard.headers.get("x-ecotone-backend", "").replace("none", ""),
        reason=heard.headers.get("x-ecotone-reason", ""),
        first="" if heard.first is None else f"{(heard.first - began) * _MS:,.0f} ms",
        whole=f"{whole * _MS:,.0f} ms",
        tokens="" if made is None else f"{read or 0:,} in, {made:,} out",
        speed="" if not made or whole <= 0 else f"{made / whole:,.1f} tokens a second",
        request_id=request_id,
    )
    replay = services.explain(request_id) if request_id else None
    if replay is None:
        return told
    why = explained(replay)
    return msgspec.structs.replace(
        told,
        price="" if heard.status != 200 else _price(replay.get("cost")),
        verdict=why.verdict,
        verdict_word=why.verdict_word or words(why.verdict),
        verdict_mark=why.verdict_mark,
        duties=tuple(why.duties[:10]),
    )


def _price(cost: int | None) -> str:
    return usd(cost) if cost is None else f"{usd(cost)} USD"
