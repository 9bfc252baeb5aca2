"""The chunks of a complete stream put together to the whole answer that the same call would have given.

Texts are joined, the latest of a word or number counts, entries of lists are told apart by their `index`. Providers
write tool calls in several shapes (a whole call in one delta, two calls under one index, arguments as an object, none
at all); an answer has one.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ecotone.gateway.calls import Calls, with_text_arguments

# Words that a later delta repeats or replaces; every other string is a piece of a text.
_WORDS: Final = frozenset({"role", "id", "type", "name", "object", "format", "signature", "encrypted_content"})


def assembled(face: str, events: Iterable[bytes], usage: bytes) -> bytes | None:
    """The whole answer as JSON; None when the chunks do not make one.

    Args:
        face: chat or completions.
        events: the data of each event, without the last `[DONE]`.
        usage: its usage object as JSON; empty for none.
    """
    top: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    apart = Calls()
    try:
        for event in events:
            chunk = msgspec.json.decode(with_text_arguments(event))
            parts = chunk.pop("choices", None) or []
            apart.put_right(parts)
            for told in parts:
                number = told.get("index", 0)
                choice = choices.setdefault(number, {"index": number})
                _grow(choice, told, chat=face == "chat")
            top |= {name: value for name, value in chunk.items() if value is not None or name not in top}
        top.pop("usage", None)
        if face == "chat":
            top["object"] = "chat.completion"
        ends = [_closed(choices[number], chat=face == "chat") for number in sorted(choices)]
        whole = {**top, "choices": ends, **({"usage": msgspec.Raw(usage)} if usage else {})}
        return msgspec.json.encode(whole)
    except (msgspec.MsgspecError, TypeError, AttributeError, KeyError, OverflowError, ValueError, RecursionError):
        return None


def _grow(choice: dict[str, Any], told: dict[str, Any], *, chat: bool) -> None:
    """Put one chunk's part of a choice to what came of it before."""
    for name, value in told.items():
        if name == "delta" and chat:
            message = choice.setdefault("message", {})
            delta = dict(value or {})
            calls = delta.pop("tool_calls", None)
            if calls is not None:
                _calls(message.setdefault("tool_calls", []), calls)
            _join(message, delta)
        elif name == "text" and not chat:
            choice["text"] = choice.get("text", "") + (value or "")
        elif name == "logprobs":
            _logprobs(choice, value)
        elif name == "finish_reason":
            choice["finish_reason"] = value or choice.get("finish_reason")
        elif isinstance(value, list) and isinstance(choice.get(name), list):
            choice[name] = choice[name] + value
        elif name != "index" and (value is not None or name not in choice):
            choice[name] = value


def _join(node: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        before = node.get(name)
        if before is None or value is None:
            if name not in node or value is not None:
                node[name] = value
        elif isinstance(value, str) and isinstance(before, str):
            node[name] = (value or before) if name in _WORDS else before + value
        elif isinstance(value, dict) and isinstance(before, dict):
            _join(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            _entries(before, value)
        else:
            node[name] = value


def _entries(entries: list[Any], told: list[Any]) -> None:
    """Entries with an `index` that came before grow; others are new."""
    for item in told:
        known = None
        if isinstance(item, dict) and isinstance(item.get("index"), int):
            known = next((e for e in entries if isinstance(e, dict) and e.get("index") == item["index"]), None)
        if known is None:
            entries.append(item)
        else:
            _join(known, item)


def _calls(calls: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
    """Tool calls by their index; an id that is another one than before begins another call under the same index."""
    for item in told:
        index, name = item.get("index"), item.get("id")
        known = next((c for c in reversed(calls) if index is None or c.get("index") == index), None)
        if known is None or (name and known.get("id") and known["id"] != name):
            calls.append(item)
        else:
            function, more = known.get("function"), item.get("function")
            if isinstance(function, dict) and isinstance(more, dict) and more.get("name"):
                piece = more.pop("name")  # what comes again was left out before
                function["name"] = (function.get("name") or "") + piece
            _join(known, item)


def _logprobs(choice: dict[str, Any], told: dict[str, Any] | None) -> None:
    before = choice.setdefault("logprobs", None)
    if told is None:
        return
    if before is None:
        choice["logprobs"] = told
        return
    for name, value in told.items():
        if isinstance(value, list) and isinstance(before.get(name), list):
            before[name] += value
        elif value is not None:
            before[name] = value


def _closed(choice: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    """A choice as a whole answer has it."""
    if not chat:
        choice.setdefault("text", "")
        return choice
    message = choice.setdefault("message", {})
    message.setdefault("role", "assistant")
    message.setdefault("content", None)
    for call in message.get("tool_calls") or []:
        call.pop("index", None)
        function = call.get("function")
        if isinstance(function, dict):
            call.setdefault("type", "function")
            function["arguments"] = function.get("arguments") or "{}"
    if not message.get("tool_calls", True):
        del message["tool_calls"]
    return choice
