"""Tool calls as clients gather them: pieces of a stream under numbers that tell them apart, arguments as text.

OpenAI's clients gather a call's pieces by `index` alone, and join an `id` or a name that comes again to the one that
they have (openai-python, `lib/streaming/_deltas.py`). So a new id is a new call, and what is repeated is left out.
Some servers send arguments as an object: no client takes it.
"""

import re
from hashlib import sha256
from typing import Any, Final

import msgspec

Fields = dict[str, msgspec.Raw]

OBJECT: Final = re.compile(rb'"arguments"\s*:\s*\{')
"""In bytes of JSON: a text cannot hold it, as its quotes are escaped."""
_MOST: Final = 1024
_LONG: Final = 128


class Call:
    """One call: its number for the client, the id and name that went out, and whether its arguments have begun."""

    __slots__ = ("begun", "id", "name", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = self.name = ""
        self.begun = False


class Calls:
    """The calls of one stream, by choice.

    `full`: there were more calls than any answer has. From then on pieces are not told apart, so the stream must end.
    """

    __slots__ = ("_by_id", "_count", "_last", "_now", "_total", "full")

    def __init__(self) -> None:
        self._now: dict[tuple[int, int], Call] = {}
        self._by_id: dict[tuple[int, int, str], Call] = {}
        self._last: dict[int, Call] = {}
        self._count: dict[int, int] = {}
        self._total = 0
        self.full = False

    def put_right(self, choices: list[dict[str, Any]]) -> bool:
        """Give the pieces in an event's choices the numbers of their calls; whether anything had to be changed."""
        changed = False
        for choice in choices:
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                continue
            number = max(whole_number(choice.get("index")), 0)
            changed = self._old(number, delta.get("function_call")) or changed
            pieces = delta.get("tool_calls")
            seen: set[int] = set()
            for piece in pieces if isinstance(pieces, list) else ():
                if isinstance(piece, dict) and not self.full:
                    changed = self._piece(number, piece, seen) or changed
        return changed

    def _old(self, choice: int, function: Any) -> bool:
        """The one call of a choice in the form that came before tools."""
        if not isinstance(function, dict):
            return False
        call = self._now.get((choice, -2))
        if call is None:
            call = self._now[choice, -2] = self._new(0)
        return _without_name(call, function, again=False)

    def _piece(self, choice: int, piece: dict[str, Any], seen: set[int]) -> bool:
        """One piece; `seen` are the numbers that came in the same list."""
        told, function = piece.get("index"), piece.get("function")
        place, own = whole_number(told), _short(piece.get("id"))
        name = _short(function.get("name")) if isinstance(function, dict) else ""
        call = self._last.get(choice) if place < 0 else self._now.get((choice, place))
        if call is None or _is_other(call, own, name, place in seen):
            call = self._by_id.get((choice, place, own)) if own else None
            if call is None:
                count = self._count.get(choice, 0)
                self._count[choice] = count + 1
                call = self._new(count)
        seen.add(place)
        self._now[choice, place] = self._last[choice] = call
        changed = type(told) is not int or call.number != told
        if changed:
            piece["index"] = call.number
        again = bool(own) and call.id == own
        if again:
            del piece["id"]
        elif own and not call.id:
            call.id = own
            self._by_id[choice, place, own] = self._by_id[choice, -1, own] = call
        return (isinstance(function, dict) and _without_name(call, function, again=again)) or again or changed

    def _new(self, number: int) -> Call:
        self._total += 1
        self.full = self._total > _MOST
        return Call(number)


def _is_other(call: Call, own: str, name: str, in_one_list: bool) -> bool:
    """Whether a piece with the number of a call is of another one."""
    if own and call.id:
        return own != call.id
    return bool(name) and ((call.begun and name != call.name) or in_one_list)


def _without_name(call: Call, function: dict[str, Any], *, again: bool) -> bool:
    """Leave out a name that the call has already. One that comes in pieces may have two that are the same: only what
    comes with the call's id `again`, or when the name must be complete, is a repetition."""
    name, arguments = _short(function.get("name")), function.get("arguments")
    changed = False
    if name:
        if name == call.name and (again or call.begun or bool(arguments)):
            del function["name"]
            changed = True
        else:
            call.name = _short(call.name + name)
    call.begun = call.begun or bool(arguments)
    return changed


def whole_number(told: Any) -> int:
    """A number in whatever form servers write it (`1`, `1.0`, `"1"`); -1 for what is none."""
    if type(told) is str and told.isascii() and told.isdigit() and len(told) < 16:
        told = int(told)
    if type(told) is float and told.is_integer() and abs(told) < 1 << 53:
        told = int(told)
    return told if type(told) is int and 0 <= told < 1 << 53 else -1


def _short(text: Any) -> str:
    """A text by which another is known again, of bounded length; empty for what is none."""
    if not isinstance(text, str):
        return ""
    return text if len(text) <= _LONG else sha256(text.encode("utf-8", "replace")).hexdigest()


# -- arguments as an object --------------------------------------------------------------------------------------------
def with_text_arguments(data: bytes) -> bytes:
    """An answer or a chunk of one in which some arguments are an object, with their text instead: order of keys and
    numbers as they came. What is not of that form stays as it is."""
    if b'"arguments"' not in data or OBJECT.search(data) is None:
        return data
    try:
        answer: dict[str, Any] = msgspec.json.decode(data, type=Fields)
        choices: list[dict[str, Any]] = msgspec.json.decode(answer["choices"], type=list[Fields])
        for choice in choices:
            for name in ("delta", "message"):
                if bytes(choice.get(name, b"")).startswith(b"{"):
                    choice[name] = _with_texts(msgspec.json.decode(choice[name], type=Fields))
        return msgspec.json.encode({**answer, "choices": choices})
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return data


def _with_texts(message: dict[str, Any]) -> dict[str, Any]:
    if bytes(message.get("tool_calls", b"")).startswith(b"["):
        calls = msgspec.json.decode(message["tool_calls"], type=list[Fields])
        message["tool_calls"] = [text_arguments(call) for call in calls]
    if bytes(message.get("function_call", b"")).startswith(b"{"):
        old = text_arguments({"function": message["function_call"]})
        message["function_call"] = old["function"]
    return message


def text_arguments(call: Fields) -> dict[str, Any]:
    """A tool call with its arguments as text: some servers send an object, whose number texts and order are kept."""
    if not bytes(call.get("function", b"")).startswith(b"{"):
        return dict(call)
    function: dict[str, Any] = msgspec.json.decode(call["function"], type=Fields)
    arguments = bytes(function.get("arguments", b""))
    if arguments.startswith(b"{"):
        function["arguments"] = arguments.decode()
    return {**call, "function": function}
