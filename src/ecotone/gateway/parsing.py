"""From bytes to a request: the top level is decoded once, values stay raw, and what is forwarded is rebuilt from it.

So that what is forwarded is what was inspected, anything that two parsers could read differently is refused: duplicate
keys anywhere (escaped ones too: two parsers may keep different ones, and only one was looked at), keys equal to one of
ours but for case, invalid UTF-8, depth over 64. What a body is made of is counted before anything is built from it, in
time linear in its size.
"""

import re
from typing import Any, Final

import msgspec

from ecotone.gateway.answers import Refusal

MOST_DEPTH = 64
MOST_CONTAINERS: Final = 100_000
MOST_VALUES: Final = 1_000_000
_MOST_NAME = 256
_KNOWN = frozenset({"model", "messages", "stream", "stream_options", "input", "prompt", "tools", "max_tokens"})
_SLICE: Final = 64 * 1024
_BACKSLASHES: Final = re.compile(rb"\\*+")
_NO_FRAME: Final = bytes(set(range(256)) - set(b"[]{}:,"))
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Request(msgspec.Struct, kw_only=True):
    """A parsed call. `fields` is the top level with raw values, `value` the whole body as objects, `size` its bytes."""

    face: str
    model: str
    stream: bool
    wants_usage: bool
    fields: dict[str, msgspec.Raw]
    value: dict[str, Any]
    size: int

    def forwarded(self, model: str, replaced: dict[str, Any] | None = None) -> bytes:
        """The body for an upstream that knows the model by another name.

        Args:
            model: the upstream's name.
            replaced: fields with another value than the client sent.
        """
        fields: dict[str, Any] = {**self.fields, **(replaced or {}), "model": model}
        return msgspec.json.encode(fields)


def parse(face: str, body: bytes) -> Request:
    """A request from its body.

    Args:
        face: chat, completions or embeddings.
        body: as it came.

    Raises:
        Refusal: 400, naming what is wrong and what is expected.
    """
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"The body is not UTF-8 at byte {error.start}; send JSON in UTF-8.") from None
    frame = _frame(body)
    _check_size(frame)
    try:
        fields = _decoder.decode(body)
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _bad("The body is not a JSON object; send one with `model` and what the endpoint needs.") from None
    if not isinstance(value, dict):
        raise _bad("The body is not a JSON object; send one with `model` and what the endpoint needs.")
    if frame.count(b":") != _keys_of(value):
        raise _bad("A key stands twice in the same object of the body; send each once.")
    for key in fields:
        if key.lower() in _KNOWN and key not in _KNOWN:
            raise _bad(f"The key {key!r} differs from {key.lower()!r} only in case; write it in lower case.", key)
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("`model` is missing; name a model, e.g. one of GET /v1/models.", "model")
    if len(model) > _MOST_NAME or not model.isprintable():
        raise _bad(f"`model` is no name of a model: at most {_MOST_NAME} printable characters.", "model")
    needed = {"chat": "messages", "completions": "prompt", "embeddings": "input"}[face]
    if needed not in value:
        raise _bad(f"`{needed}` is missing.", needed)
    if face == "chat" and not (isinstance(value["messages"], list) and value["messages"]):
        raise _bad("`messages` must be a list with at least one message.", "messages")
    stream = value.get("stream") or False
    if not isinstance(stream, bool):
        raise _bad("`stream` must be true or false.", "stream")
    options = value.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True
    stream = stream and face != "embeddings"
    return Request(
        face=face, model=model, stream=stream, wants_usage=wants_usage, fields=fields, value=value, size=len(body)
    )


def _bad(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, "invalid_request", message, param=param)


def _frame(body: bytes) -> bytes:
    """The brackets, colons and commas outside of strings, in order: a JSON text without what it holds.

    Slice by slice, so that other threads get their turn. Of what is no JSON it is right up to the first fault, which is
    as far as a decoder reads.
    """
    found: list[bytes] = []
    within = False
    start = 0
    while start < len(body):
        end = start + _SLICE
        if body[end - 1 : end] == b"\\" and (rest := _BACKSLASHES.match(body, end)):
            end = rest.end() + 1  # no escape is cut
        pieces = body[start:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        found.append(b"".join(pieces[within::2]).translate(None, _NO_FRAME))
        within ^= len(pieces) % 2 == 0
        start = end
    return b"".join(found)


def _check_size(frame: bytes) -> None:
    """Refuse what is too deep for recursive decoders, and what would take many times its size as objects."""
    containers = frame.count(b"[") + frame.count(b"{")
    if containers > MOST_CONTAINERS or containers + frame.count(b",") > MOST_VALUES:
        raise _bad(
            f"The body holds more than {MOST_CONTAINERS} lists and objects or {MOST_VALUES} values; send it in parts."
        )
    if containers <= MOST_DEPTH:
        return
    depth = 0
    for sign in frame:
        depth += _STEP.get(sign, 0)
        if depth > MOST_DEPTH:
            raise _bad(f"The body is nested more than {MOST_DEPTH} deep.")


def _keys_of(value: Any) -> int:
    """Keys of all objects in a decoded value."""
    count, todo = 0, [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            count += len(item)
            todo += item.values()
        elif isinstance(item, list):
            todo += item
    return count
