"""From bytes to a request. What is forwarded is what was inspected: anything that two parsers could read differently is
refused: duplicate keys anywhere (escaped ones too: two parsers may keep different ones, and only one was looked at),
keys equal to one of ours but for case, invalid UTF-8, depth over 64.

A body that is exactly what our encoder makes of its value holds no key twice, as the second would be gone: most clients
send such, and their bytes are sent on but for the model's name. Any other body is counted through, and its top level is
rebuilt from one raw decode.
"""

import re
from typing import Any, Final

import msgspec

from ecotone.gateway.answers import Refusal
from ecotone.gateway.skimming import skim

MOST_DEPTH = 64
MOST_CONTAINERS: Final = 100_000
MOST_VALUES: Final = 1_000_000
_MOST_NAME = 256
_KNOWN = frozenset({"model", "messages", "stream", "stream_options", "input", "prompt", "tools", "max_tokens"})
_PLAIN = _KNOWN | frozenset(
    [
        "max_completion_tokens",
        "temperature",
        "top_p",
        "n",
        "best_of",
        "stop",
        "user",
        "metadata",
        "seed",
        "tool_choice",
        "response_format",
        "logprobs",
        "top_logprobs",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "encoding_format",
        "dimensions",
        "reasoning_effort",
    ]
)
_NEEDED: Final = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
_USAGE: Final = b',"stream_options":{"include_usage":true}}'
_CONTAINERS: Final = frozenset({dict, list})
_LONG: Final = 4 * 1024
HEAVY: Final = 96 * 1024
"""Bytes of a body above which looking through it may take over two milliseconds, and leaves the event loop."""

_SLICE: Final = 64 * 1024
_BACKSLASHES: Final = re.compile(rb"\\*+")
_NO_FRAME: Final = bytes(set(range(256)) - set(b"[]{}:,"))
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct):
    """A parsed call. `value` is the body as objects, `size` its bytes, `raw` the bytes themselves.

    `canonical`: no key stands twice, and there are no blanks: the bytes are what our encoder makes of the value. The
    values of a long body's messages may be raw; `messages` has them as objects.
    """

    face: str
    model: str
    stream: bool
    wants_usage: bool
    value: dict[str, Any]
    raw: bytes
    canonical: bool

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def messages(self) -> list[Any]:
        """Of a chat, as objects."""
        told = self.value.get("messages")
        return msgspec.json.decode(msgspec.json.encode(told)) if isinstance(told, list) else []

    def forwarded(self, model: str, *, ask_usage: bool = False, salt: str | None = None) -> bytes:
        """The body for an upstream that knows the model by another name.

        Args:
            model: the upstream's name.
            ask_usage: whether to ask for usage in a stream, too.
            salt: ours, in the place of any that was sent.
        """
        if salt is None and self.canonical and not (ask_usage and "stream_options" in self.value):
            if model == self.model and not ask_usage:
                return self.raw
            head = b'{"model":%b' % _encode(self.model)
            if self.raw.startswith(head):
                end = _USAGE if ask_usage else b"}"
                return b'{"model":%b%b%b' % (_encode(model), self.raw[len(head) : -1], end)
        options = self.value.get("stream_options")
        fields: dict[str, Any] = {**_decoder.decode(self.raw), "model": model}
        if ask_usage:
            fields["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        if salt is not None:
            fields["cache_salt"] = salt
        return msgspec.json.encode(fields)


def parse(face: str, body: bytes, *, skimming: bool = False) -> Request:
    """A request from its body.

    Args:
        face: chat, completions or embeddings.
        body: as it came.
        skimming: nobody looks at the texts: `messages` of a long body may stay raw.

    Raises:
        Refusal: 400, naming what is wrong and what is expected.
    """
    value = None
    if skimming and face == "chat" and _LONG < len(body) <= HEAVY:
        value = skim(body)
    canonical = True
    if value is None:
        value, canonical = read_object(body, _PLAIN)
    elif not _PLAIN.issuperset(value):
        _check_cases(value, _PLAIN)
    get = value.get
    model = get("model")
    if model is not None and type(model) is not str:
        raise _bad("`model` must be a string, the name of a model, e.g. one of GET /v1/models.", "model")
    if not model:
        raise _bad("`model` is missing; name a model, e.g. one of GET /v1/models.", "model")
    if len(model) > _MOST_NAME or not model.isprintable():
        raise _bad(f"`model` is no name of a model: at most {_MOST_NAME} printable characters.", "model")
    needed = _NEEDED[face]
    if needed not in value:
        raise _bad(f"`{needed}` is missing.", needed)
    if face == "chat" and not ((messages := value["messages"]) and type(messages) is list):
        raise _bad("`messages` must be a list with at least one message.", "messages")
    stream = get("stream") or False
    if stream is not False and stream is not True:
        raise _bad("`stream` must be true or false.", "stream")
    options = get("stream_options")
    wants_usage = options is not None and type(options) is dict and options.get("include_usage") is True
    stream = stream and face != "embeddings"
    return Request(face, model, stream, wants_usage, value, body, canonical)


def _brackets(body: bytes) -> int:
    """Opening brackets, within strings, too. `count` looks at each byte; `replace` searches, many times as fast."""
    return 2 * len(body) - len(body.replace(b"{", b"")) - len(body.replace(b"[", b""))


def read_object(body: bytes, plain: frozenset[str]) -> tuple[dict[str, Any], bool]:
    """The object of a body, and whether the bytes are exactly what our encoder makes of it.

    Args:
        body: as it came.
        plain: keys that mean something: another one that differs from one of them only in case is refused.

    Raises:
        Refusal: 400 for anything that two parsers could read in two ways.
    """
    if len(body) > HEAVY:
        _check_size(_frame(body))
    try:
        value = _value.decode(body)
        canonical = _encode(value) == body
    except UnicodeDecodeError as error:
        raise _bad(f"The body is not UTF-8 at byte {error.start}; send JSON in UTF-8.") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if "UTF-8" in str(error) or "utf-8" in str(error):
            raise _bad("The body is not UTF-8; send JSON in UTF-8.") from None
        raise _bad("The body is not a JSON object; send one with what the endpoint needs.") from None
    if type(value) is not dict:
        raise _bad("The body is not a JSON object; send one with what the endpoint needs.")
    if len(body) <= HEAVY and _brackets(body) > MOST_DEPTH and _deeper(value, MOST_DEPTH):
        raise _bad(f"The body is nested more than {MOST_DEPTH} deep.")
    if not canonical:
        _check_plain(body, value)
    if not plain.issuperset(value):
        _check_cases(value, plain)
    return value, canonical


def named(face: str, body: bytes, model: str) -> Request:
    """A request to an address that names the model: whatever the body says of it is replaced. Raises Refusal."""
    read_object(body, _PLAIN)
    return parse(face, _encode({"model": model, **(_decoder.decode(body) | {"model": msgspec.Raw(_encode(model))})}))


def _deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested more than so deep."""
    if depth == 0:
        return True
    for inner in value.values() if type(value) is dict else value:
        if type(inner) in _CONTAINERS and _deeper(inner, depth - 1):
            return True
    return False


def _check_cases(value: dict[str, Any], plain: frozenset[str]) -> None:
    """Refuse keys that some servers take for one of ours: some read the long s and the sign of Kelvin as letters."""
    for key in value.keys() - plain:
        if (small := key.casefold()) in plain:
            raise _bad(f"The key {key!r} differs from {small!r} only in case; write it in lower case.", key)


def _check_plain(body: bytes, value: Any) -> None:
    """What a body that our encoder would write otherwise could hide."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"The body is not UTF-8 at byte {error.start}; send JSON in UTF-8.") from None
    if _frame(body).count(b":") != _keys_of(value):
        raise _bad("A key stands twice in the same object of the body; send each once.")


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
