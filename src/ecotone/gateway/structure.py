"""The structure of bodies, sign by sign: of long ones, and those that our encoder would have written otherwise.

This takes its time in a thread, and stays interpreted where the rest of the path is compiled: between two instructions
other threads get their turn, which compiled code gives them only when it returns.
"""

import re
from typing import Any, Final

from ecotone.gateway.answers import Refusal

MOST_DEPTH: Final = 64
MOST_CONTAINERS: Final = 100_000
MOST_VALUES: Final = 1_000_000
MOST_KEYS: Final = 100_000
"""A million would hold the interpreter for half a second, in whatever thread they are decoded."""
_SLICE: Final = 64 * 1024
_BACKSLASHES: Final = re.compile(rb"\\*+")
_NO_FRAME: Final = bytes(set(range(256)) - set(b"[]{}:,"))
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def check_plain(body: bytes, value: Any) -> None:
    """What a body that our encoder would write otherwise could hide."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad(f"The body is not UTF-8 at byte {error.start}; send JSON in UTF-8.") from None
    if _frame(body).count(b":") != _keys_of(value):
        raise bad("A key stands twice in the same object of the body; send each once.")


def check_cases(value: dict[str, Any], plain: frozenset[str]) -> None:
    """Refuse keys that some servers take for one of ours: some read the long s and the sign of Kelvin as letters."""
    for key in value.keys() - plain:
        if (small := key.casefold()) in plain:
            raise bad(f"The key {key!r} differs from {small!r} only in case; write it in lower case.", key)


def bad(message: str, param: str | None = None) -> Refusal:
    return Refusal(400, "invalid_request", message, param=param)


def bad_value(message: str, param: str) -> Refusal:
    """The value of a field that is known is none that it may have."""
    return Refusal(400, "invalid_value", message, param=param)


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


def check_size(body: bytes) -> None:
    """Refuse what is too deep for recursive decoders, and what would take many times its size as objects."""
    frame = _frame(body)
    containers = frame.count(b"[") + frame.count(b"{")
    if containers > MOST_CONTAINERS or containers + frame.count(b",") > MOST_VALUES:
        raise bad(
            f"The body holds more than {MOST_CONTAINERS} lists and objects or {MOST_VALUES} values; send it in parts."
        )
    if frame.count(b":") > MOST_KEYS:
        raise bad(f"The objects of the body hold more than {MOST_KEYS} keys; send it in parts.")
    if containers <= MOST_DEPTH:
        return
    depth = 0
    for sign in frame:
        depth += _STEP.get(sign, 0)
        if depth > MOST_DEPTH:
            raise bad(f"The body is nested more than {MOST_DEPTH} deep.")


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
