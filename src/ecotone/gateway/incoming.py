"""A whole answer from a backend, decoded no further than needed, whatever its shape."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ecotone.gateway.calls import with_text_arguments
from ecotone.gateway.metering import Usage
from ecotone.privacy import Pseudonyms, TooDeep

# Objects take many times their size as text.
MOST_CONTAINERS: Final = 250_000
_MOST_USAGE: Final = 64 * 1024
_NOTHING: Final = frozenset({b"", b"null", b"false", b"0", b'""', b"[]", b"{}"})
_NO_TEXT: Final = frozenset({"role", "id", "type", "data", "annotations"})
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BadAnswer(Exception):
    """The answer is no good; the text goes on from the backend's name. `retry`: another candidate may be tried."""

    def __init__(self, how: str, *, retry: bool = True) -> None:
        super().__init__(how)
        self.retry = retry


def read_answer(data: bytes, usage: Usage, names: Pseudonyms | None) -> bytes:
    """What the client gets; `usage` is filled on the way.

    Raises:
        BadAnswer: it is no JSON object, an error, or cannot be restored.
    """
    data = with_text_arguments(data)
    try:
        fields = _fields.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer("did not answer with a JSON object") from None
    if _told(fields, "error") and not _told(fields, "choices"):
        raise BadAnswer("answered with an error where an answer was expected")
    usage.take_answered({"usage": _value(fields, "usage"), "service_tier": _value(fields, "service_tier")})
    if usage.estimate:
        _see_texts(usage, fields)
    if names is None:
        return data
    if data.count(b"{") + data.count(b"[") > MOST_CONTAINERS:
        raise BadAnswer(f"answered with more than {MOST_CONTAINERS} lists and objects")
    try:
        return msgspec.json.encode(names.restore_json(msgspec.json.decode(data)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TooDeep):
        raise BadAnswer("answered with what cannot be read") from None


def _told(fields: dict[str, msgspec.Raw], name: str) -> bool:
    """Whether the field is there and not empty."""
    return bytes(fields.get(name, b"")).strip() not in _NOTHING


def _value(fields: dict[str, msgspec.Raw], name: str) -> Any:
    """A small field as an object; `None` for one that is absent, large or broken."""
    raw = bytes(fields.get(name, b""))
    if not 0 < len(raw) <= _MOST_USAGE:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _see_texts(usage: Usage, fields: dict[str, msgspec.Raw]) -> None:
    """The texts of all choices, for an estimate; of choices that are too large, their size."""
    choices = _value(fields, "choices")
    if choices is None and _told(fields, "choices"):
        usage.characters += len(bytes(fields["choices"]))
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            for written in (choice.get("message"), choice.get("text")):
                for text in _texts(written):
                    usage.saw(text)


def _texts(written: Any) -> Iterator[str]:
    """What a model wrote: content, refusal, reasoning, arguments and names of tool calls, whatever comes."""
    todo = [written]
    while todo:
        inner = todo.pop()
        if isinstance(inner, str):
            yield inner
        elif isinstance(inner, list):
            todo += inner
        elif isinstance(inner, dict):
            todo += [value for name, value in inner.items() if name not in _NO_TEXT]
