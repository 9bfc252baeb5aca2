"""From bytes to a request. What is forwarded is what was inspected: anything that two parsers could read differently is
refused: duplicate keys anywhere (escaped ones too: two parsers may keep different ones, and only one was looked at),
keys equal to one of ours but for case, invalid UTF-8, depth over 64.

A body that is exactly what our encoder makes of its value holds no key twice, as the second would be gone: most clients
send such, and their bytes are sent on but for the model's name. Any other body is counted through, and its top level is
rebuilt from one raw decode.
"""

from typing import Any, Final

import msgspec

from ecotone.gateway.skimming import skim
from ecotone.gateway.structure import MOST_DEPTH, bad, bad_value, check_cases, check_plain, check_size

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
        "safety_identifier",
        "cache_salt",
        "n_predict",
        "service_tier",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "store",
        "verbosity",
        "prompt_cache_key",
    ]
)
_NEEDED: Final = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
_USAGE: Final = b',"stream_options":{"include_usage":true}}'
_CONTAINERS: Final = frozenset({dict, list})
_LONG: Final = 4 * 1024
HEAVY: Final = 96 * 1024
"""Bytes of a body above which looking through it may take over two milliseconds, and leaves the event loop."""

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


class Request:
    """A parsed call. `value` is the body as objects, `size` its bytes, `raw` the bytes themselves.

    `canonical`: no key stands twice, and there are no blanks: the bytes are what our encoder makes of the value. The
    values of a long body's messages may be raw; `messages` has them as objects.
    """

    __slots__ = ("canonical", "face", "model", "raw", "stream", "value", "wants_usage")

    def __init__(
        self, face: str, model: str, stream: bool, wants_usage: bool, value: dict[str, Any], raw: bytes, canonical: bool
    ) -> None:
        self.face = face
        self.model = model
        self.stream = stream
        self.wants_usage = wants_usage
        self.value = value
        self.raw = raw
        self.canonical = canonical

    def under(self, model: str) -> "Request":
        """The same call of another model."""
        return Request(self.face, model, self.stream, self.wants_usage, self.value, self.raw, False)

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
        check_cases(value, _PLAIN)
    get = value.get
    model = get("model")
    if model is not None and type(model) is not str:
        raise bad_value("`model` must be a string, the name of a model, e.g. one of GET /v1/models.", "model")
    if not model:
        raise bad("`model` is missing; name a model, e.g. one of GET /v1/models.", "model")
    if len(model) > _MOST_NAME or not model.isprintable():
        raise bad_value(f"`model` is no name of a model: at most {_MOST_NAME} printable characters.", "model")
    needed = _NEEDED[face]
    if needed not in value:
        raise bad(f"`{needed}` is missing.", needed)
    if face == "chat" and not ((messages := value["messages"]) and type(messages) is list):
        raise bad_value("`messages` must be a list with at least one message.", "messages")
    stream = get("stream") or False
    if stream is not False and stream is not True:
        raise bad_value("`stream` must be true or false.", "stream")
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
        check_size(body)
    try:
        value = _value.decode(body)
        canonical = _encode(value) == body
    except UnicodeDecodeError as error:
        raise bad(f"The body is not UTF-8 at byte {error.start}; send JSON in UTF-8.") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if "UTF-8" in str(error) or "utf-8" in str(error):
            raise bad("The body is not UTF-8; send JSON in UTF-8.") from None
        raise bad("The body is not a JSON object; send one with what the endpoint needs.") from None
    if type(value) is not dict:
        raise bad("The body is not a JSON object; send one with what the endpoint needs.")
    if len(body) <= HEAVY and _brackets(body) > MOST_DEPTH and _deeper(value, MOST_DEPTH):
        raise bad(f"The body is nested more than {MOST_DEPTH} deep.")
    if not canonical:
        check_plain(body, value)
    if not plain.issuperset(value):
        check_cases(value, plain)
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
