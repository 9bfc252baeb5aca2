"""OpenAI's JSON for chat completions and completions: whole, and as the chunks of a stream."""

import abc
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ecotone.engines.server.generation import Piece
from ecotone.engines.server.requests import TextRequest
from ecotone.engines.server.sampling import Chosen
from ecotone.engines.server.tool_calls import Call, CallReader, Event, new_id

Spelling = Callable[[int], bytes]
Object = dict[str, Any]


class Shape(abc.ABC):
    """The JSON of one kind of answer."""

    prefix = ""
    kind = ""
    chunk_kind = ""

    def __init__(self, asked: TextRequest, spelling: Spelling) -> None:
        self._head = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "object": self.kind, "created": int(time.time())}
        self._head["model"] = asked.model.partition("@")[0]
        self._spelling = spelling
        self._logprobs = asked.sampling.logprobs is not None

    def whole(self, answers: Sequence[Piece], usage: dict[str, int]) -> Object:
        choices = [self._choice(index, piece) for index, piece in enumerate(answers)]
        return {**self._head, "choices": choices, "usage": usage}

    def chunk(self, choices: list[Object]) -> Object:
        return {**self._head, "object": self.chunk_kind, "choices": choices}

    def opening(self, index: int) -> list[Object]:
        """Choices of the chunks that begin an answer."""
        return []

    @abc.abstractmethod
    def growing(self, index: int, piece: Piece) -> list[Object]:
        """Choices of the chunks for a piece."""

    @abc.abstractmethod
    def _choice(self, index: int, piece: Piece) -> Object:
        """The choice of a whole answer."""


class ChatShape(Shape):
    """`/v1/chat/completions`."""

    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, asked: TextRequest, spelling: Spelling, *, short_ids: bool = False) -> None:
        super().__init__(asked, spelling)
        self._names = asked.tools.names
        self._short_ids = short_ids
        self._readers: dict[int, CallReader] = {}

    def _choice(self, index: int, piece: Piece) -> Object:
        message: Object = {"role": "assistant", "content": piece.text, "refusal": None}
        finish = piece.finish
        if self._names:
            events = self._read(index, piece)
            calls = [self._call(event) for event in events if isinstance(event, Call)]
            if calls:
                text = "".join(event for event in events if isinstance(event, str))
                message |= {"content": text or None, "tool_calls": calls}
                finish = "tool_calls" if finish == "stop" else finish
        return {"index": index, "message": message, "logprobs": self._told(piece), "finish_reason": finish}

    def opening(self, index: int) -> list[Object]:
        return [self._delta(index, {"role": "assistant", "content": "", "refusal": None})]

    def growing(self, index: int, piece: Piece) -> list[Object]:
        finish = piece.finish
        found = []
        if not self._names:
            deltas: list[Object] = [{"content": piece.text}] if piece.text or piece.chosen else []
        else:
            deltas = self._called(index, piece)
            if finish == "stop" and self._readers[index].calls:
                finish = "tool_calls"
            if piece.chosen and not deltas:
                deltas = [{"content": ""}]
        for place, delta in enumerate(deltas):
            found.append(self._delta(index, delta, logprobs=self._told(piece) if place == 0 else None))
        if finish:
            found.append(self._delta(index, {}, finish))
        return found

    def _read(self, index: int, piece: Piece) -> list[Event]:
        reader = self._readers.setdefault(index, CallReader(self._names))
        events = reader.feed(piece.text) if piece.text else []
        return events + reader.finish() if piece.finish else events

    def _called(self, index: int, piece: Piece) -> list[Object]:
        deltas: list[Object] = []
        events = self._read(index, piece)
        number = self._readers[index].calls - sum(isinstance(event, Call) for event in events)
        for event in events:
            if isinstance(event, str):
                deltas.append({"content": event})
                continue
            opened = self._call(event)
            opened["function"]["arguments"] = ""
            deltas.append({"tool_calls": [{"index": number, **opened}]})
            deltas.append({"tool_calls": [{"index": number, "function": {"arguments": event.arguments}}]})
            number += 1
        return deltas

    def _call(self, call: Call) -> Object:
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": new_id(self._short_ids), "type": "function", "function": function}

    def _delta(self, index: int, delta: Object, finish: str | None = None, *, logprobs: Object | None = None) -> Object:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def _told(self, piece: Piece) -> Object | None:
        if not self._logprobs:
            return None
        return {"content": [self._token(chosen) for chosen in piece.chosen], "refusal": None}

    def _token(self, chosen: Chosen) -> Object:
        top = [self._likely(token, logprob) for token, logprob in chosen.top]
        return {**self._likely(chosen.token, chosen.logprob), "top_logprobs": top}

    def _likely(self, token: int, logprob: float) -> Object:
        spelt = self._spelling(token)
        return {"token": spelt.decode("utf-8", "replace"), "logprob": _finite(logprob), "bytes": list(spelt)}


class TextShape(Shape):
    """`/v1/completions`; `echoed` are the prompts that come before the answers where that was asked for."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, asked: TextRequest, spelling: Spelling, echoed: Sequence[str] = ()) -> None:
        super().__init__(asked, spelling)
        self._echoed = echoed
        self._lengths: dict[int, int] = {}

    def _choice(self, index: int, piece: Piece) -> Object:
        text = self._echoed[index] + piece.text if self._echoed else piece.text
        return self._text(index, text, piece)

    def opening(self, index: int) -> list[Object]:
        return [self._text(index, self._echoed[index], Piece())] if self._echoed else []

    def growing(self, index: int, piece: Piece) -> list[Object]:
        return [self._text(index, piece.text, piece)] if piece.text or piece.chosen or piece.finish else []

    def _text(self, index: int, text: str, piece: Piece) -> Object:
        logprobs = self._told(index, piece.chosen) if self._logprobs else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": piece.finish}

    def _told(self, index: int, chosen: Sequence[Chosen]) -> Object:
        tokens = [self._letters(one.token) for one in chosen]
        offsets = []
        at = self._lengths.get(index, 0)
        for token in tokens:
            offsets.append(at)
            at += len(token)
        self._lengths[index] = at
        return {
            "tokens": tokens,
            "token_logprobs": [_finite(one.logprob) for one in chosen],
            "top_logprobs": [
                {self._letters(token): _finite(logprob) for token, logprob in reversed(one.top)} or None
                for one in chosen
            ],
            "text_offset": offsets,
        }

    def _letters(self, token: int) -> str:
        return self._spelling(token).decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI documents -9999 for what is as good as impossible."""
    return max(logprob, -9999.0)
