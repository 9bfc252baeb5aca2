"""A kept answer, given again as it came or in the other form: a whole answer as a stream, a stream as a whole answer.

A stream comes again with the texts of its chunks; `id`, `created` and `model` are the original ones. Its usage says
that it was cached and cost nothing. The grammar of streams is OpenAI's (chat.completion.chunk, text_completion).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ecotone.gateway.assembling import assembled
from ecotone.gateway.calls import Fields, text_arguments
from ecotone.gateway.metering import Usage
from ecotone.gateway.streams import DONE, EventCutter

_OVERHEAD: Final = 600  # bytes of the objects around an answer's text
_COMMON: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_NULL: Final = msgspec.Raw(b"null")
_EMPTY: Final = (b"null", b"[]")
_fields = msgspec.json.Decoder(Fields)
_list = msgspec.json.Decoder(list[Fields])


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


class _Seen(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, msgspec.Raw] | None = None
    error: msgspec.Raw = _NULL
    data: list[msgspec.Raw] | None = None


_seen = msgspec.json.Decoder(_Seen)


class Kept:
    """A complete answer of one of the faces chat, completions and embeddings.

    `size` is what it takes in memory, in bytes. Made by `of_whole` and `of_stream`, which give None for what is not
    complete: an error, a choice without finish reason, a stream that was cut.
    """

    __slots__ = ("_body", "_head", "_streamed", "_usage", "face", "size")

    def __init__(self, face: str, *, body: bytes = b"", streamed: bytes = b"", head: bytes, usage: bytes) -> None:
        self.face = face
        self._body = body
        self._streamed = streamed
        self._head = head
        self._usage = usage
        self.size = _OVERHEAD + len(body) + len(streamed) + len(head) + len(usage)

    @classmethod
    def of_whole(cls, face: str, body: bytes) -> "Kept | None":
        """An answer that came whole, with status 200; None when it is not complete."""
        try:
            seen, top = _seen.decode(body), _fields.decode(body)
            ends = [choice.finish_reason for choice in seen.choices or []]
            complete = seen.data is not None if face == "embeddings" else bool(ends) and all(ends)
            if not complete or bytes(seen.error) != b"null":
                return None
            if face != "embeddings":
                _chunks(face, body)  # whoever asks for a stream later must not find that none can be made
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        usage = b""
        if seen.usage is not None:
            usage = _free(seen.usage)
            body = msgspec.json.encode({**top, "usage": msgspec.Raw(usage)})
        return cls(face, body=body, head=_head(top), usage=usage)

    @classmethod
    def of_stream(cls, face: str, relayed: bytes, usage: Mapping[str, object] | None = None) -> "Kept | None":
        """An answer that came as a stream, with status 200; None when it did not come to its end.

        Args:
            relayed: the events as the client got them.
            usage: the provider's own usage object, where its event was hidden from the client.
        """
        told: Mapping[str, object] | None = usage
        ends: dict[int, bool] = {}
        events: list[bytes] = []
        head = b""
        try:
            for data in EventCutter().feed(relayed):
                if data == b"[DONE]":
                    break
                seen = _seen.decode(data)
                if bytes(seen.error) != b"null":
                    return None
                head = head or _head(_fields.decode(data))
                for choice in seen.choices or []:
                    ends[choice.index] = ends.get(choice.index, False) or bool(choice.finish_reason)
                if seen.usage is not None:
                    told = seen.usage
                    data = _without_usage(data) if seen.choices else b""
                if data:
                    events.append(b"data: " + data.replace(b"\n", b" ") + b"\n\n")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
            return None
        if not (ends and all(ends.values())):
            return None
        free = b"" if told is None else _free(told)
        return cls(face, streamed=b"".join(events), head=head, usage=free)

    def whole(self) -> bytes | None:
        """The answer as one JSON body; None for a stream whose parts do not make one that is sure to be right."""
        if self._body:
            return self._body
        return assembled(self.face, EventCutter().feed(self._streamed), self._usage)

    def stream(self, *, wants_usage: bool) -> bytes:
        """The answer as events, `[DONE]` included; the one with usage only for clients that asked for it.

        Not for embeddings, which have no streams.
        """
        shown = self._streamed or _chunks(self.face, self._body)
        if wants_usage and self._usage:
            shown += b"data: " + self._head[:-1] + b',"choices":[],"usage":' + self._usage + b"}\n\n"
        return shown + DONE

    def usage(self) -> Usage:
        """What the answer took when it was made: tokens for the ledger, whose cost is 0 now."""
        usage = Usage()
        if self._usage:
            usage.take(msgspec.json.decode(self._usage))
        return usage


def _free(usage: Mapping[str, object]) -> bytes:
    """A usage object that says of itself that it was cached and cost nothing, whatever the first one cost."""
    kept = {name: value for name, value in usage.items() if not name.startswith("cost")}
    return msgspec.json.encode({**kept, "cost": 0, "cached": True})


def _head(top: Fields) -> bytes:
    """What each chunk of an answer begins with."""
    head: dict[str, Any] = {name: top[name] for name in _COMMON if name in top}
    if bytes(head.get("object", _NULL)) == b'"chat.completion"':
        head["object"] = "chat.completion.chunk"
    return msgspec.json.encode(head or {"id": ""})


def _without_usage(data: bytes) -> bytes:
    fields = _fields.decode(data)
    del fields["usage"]
    return msgspec.json.encode(fields)


# -- a whole answer as chunks ------------------------------------------------------------------------------------------
def _chunks(face: str, body: bytes) -> bytes:
    """Valid chunks for a whole answer. Its unknown top-level fields stand in the first one."""
    top = _fields.decode(body)
    choices = _list.decode(top.pop("choices"))
    top.pop("usage", None)
    head: dict[str, Any] = msgspec.json.decode(_head(top), type=Fields)
    first: dict[str, Any] = {name: value for name, value in top.items() if name not in head}
    out = []
    for place, choice in enumerate(choices):
        choice.setdefault("index", msgspec.Raw(str(place).encode()))
        for part in _chat_parts(choice) if face == "chat" else _text_parts(choice):
            out.append(b"data: " + msgspec.json.encode({**head, **first, "choices": [part]}) + b"\n\n")
            first = {}
    return b"".join(out)


def _text_parts(choice: Fields) -> list[dict[str, Any]]:
    more = {name: value for name, value in choice.items() if name != "finish_reason"}
    end = {"index": choice["index"], "text": "", "logprobs": None, "finish_reason": choice["finish_reason"]}
    return [{**more, "finish_reason": None}, end]


def _chat_parts(choice: Fields) -> list[dict[str, Any]]:
    """The choices of one answer's chunks: who speaks, what it says, each call of a tool, the end.

    `index` of tool calls counts from 0 without gaps, and each text is sent once: SDKs add up what comes twice.
    """
    message = _fields.decode(choice.pop("message", msgspec.Raw(b"{}")))
    index, finish = choice.pop("index"), choice.pop("finish_reason")
    logprobs = {"logprobs": choice.pop("logprobs")} if "logprobs" in choice else {}
    calls = msgspec.Raw(b"[]")
    if bytes(message.get("tool_calls", _NULL)) not in _EMPTY:
        calls = message.pop("tool_calls")
    opening: dict[str, Any] = {"role": message.pop("role", msgspec.Raw(b'"assistant"'))}
    said: dict[str, Any] = {}
    for name, value in message.items():
        (opening if bytes(value) in _EMPTY else said)[name] = value
    if bytes(message.get("content", _NULL)).startswith(b'"'):
        opening["content"] = ""
    none = {"logprobs": None} if logprobs else {}
    parts: list[dict[str, Any]] = [{"index": index, "delta": opening, **none, "finish_reason": None}]
    if said or bytes(logprobs.get("logprobs", _NULL)) != b"null":
        parts.append({"index": index, "delta": said, **logprobs, "finish_reason": None})
    for number, call in enumerate(_list.decode(calls)):
        delta = {"tool_calls": [{**text_arguments(call), "index": number}]}
        parts.append({"index": index, "delta": delta, **none, "finish_reason": None})
    return [*parts, {"index": index, "delta": {}, **none, "finish_reason": finish, **choice}]
