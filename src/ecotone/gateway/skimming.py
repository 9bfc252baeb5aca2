"""A long chat body skimmed: all of it is checked, but its texts are left as they stand in it.

Objects of a body's texts take as long to make as the rest of a request's course. Where nobody looks at the texts they
need not be made: the top level and the keys of the messages are decoded, all else is passed over by the same decoder,
which finds where each value ends. What was kept has the size of the body only where nothing was left out: no key that
stands twice, none that is not ours, none written with an escape, no blank; that size is added up, as writing all again
would copy it. All of the top level but the messages, and what of a message is no text, is decoded in full and must be
written again as it was. Anything else is for the full way, which tells what is wrong.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from ecotone.gateway.bodies import Body

_decode_value = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_DEEPEST: Final = 16
_QUOTE: Final = ord('"')
_NESTED: Final = frozenset({dict, list})
_skim = msgspec.json.Decoder(Body).decode


def skim(body: bytes) -> dict[str, Any] | None:
    """The top level of a chat body, whose messages stay raw; None for a body that has to be decoded in full."""
    try:
        told = _skim(body)
        messages, told.messages = told.messages, UNSET
        rest = _encode(told)
        size = len(rest)
        if type(messages) is list:
            size += len(b'"messages":[]') + max(len(messages) - 1, 0) + (size > len(b"{}"))
            for message in messages:
                size += len(b"{}") + max(len(message) - 1, 0)
                for key, raw in message.items():
                    size += len(key) + len(b'"":') + len(raw)
        if size != len(body):
            return None
        if not body.isascii():
            body.decode("utf-8")  # what is passed over is not looked at for that
        value: dict[str, Any] = _decode_value(rest)
        if _encode(value) != rest or not _is_flat(value, _DEEPEST):
            return None
        if type(messages) is list:
            for message in messages:
                for raw in message.values():
                    if memoryview(raw)[0] != _QUOTE and not _is_plain(raw):
                        return None
            value["messages"] = messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value


def _is_plain(raw: Raw) -> bool:
    """Whether a value holds no others, or such as our encoder writes the same way, nested no deeper than usual."""
    value = _decode_value(raw)
    return bytes(raw) == _encode(value) and _is_flat(value, _DEEPEST)


def _is_flat(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested no more than so deep."""
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return depth > 0 and all(type(each) not in _NESTED or _is_flat(each, depth - 1) for each in inner)
