"""Messages and tools of a chat, read and checked, in the form that chat templates take."""

import contextlib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from ecotone.engines.server import schemas
from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.nesting import DEEPEST, is_deep

_ROLES = ("system", "developer", "user", "assistant", "tool")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_TOOLS = 128
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


class Tools(msgspec.Struct, frozen=True):
    """Tools that an answer may call: as the template takes them, by name, and the schema of a call that it must be."""

    offered: tuple[dict[str, Any], ...] = ()
    names: tuple[str, ...] = ()
    must: str | None = None


def read(given: Any) -> tuple[dict[str, Any], ...]:
    """The messages of a body.

    Raises:
        RequestError: naming the message that is wrong.
    """
    if not isinstance(given, list) or not given:
        _wrong("messages", "a list of at least one message")
    found = tuple(_message(message, place) for place, message in enumerate(given))
    _check_answers(found)
    return found


def tools(body: dict[str, Any]) -> Tools:
    """`tools` and `tool_choice` of a body; empty when none may be called."""
    given = body.get("tools") or []
    choice = body.get("tool_choice")
    if not isinstance(given, list) or len(given) > _MOST_TOOLS:
        _wrong("tools", f"a list of at most {_MOST_TOOLS} tools")
    offered = [_tool(tool, place) for place, tool in enumerate(given)]
    names = [tool["function"]["name"] for tool in offered]
    if len(set(names)) < len(names):
        _wrong("tools", "a list of tools with different names")
    mode, chosen = _choice(choice, names)
    if mode == "none" or not offered:
        return Tools()
    parameters = {
        name: tool["function"].get("parameters") or _NO_ARGUMENTS for name, tool in zip(names, offered, strict=True)
    }
    must = None
    if mode == "required":
        for place, name in enumerate(names):
            if name in chosen:
                schemas.checked(parameters[name], "tools", f"/{place}/function/parameters")
        must = schemas.call_of([(name, parameters[name]) for name in chosen])
    return Tools(tuple(offered), tuple(chosen), must)


def _choice(choice: Any, names: Sequence[str]) -> tuple[str, list[str]]:
    """Mode (none, auto, required) and the tools that may be called."""
    if choice is None or choice == "auto":
        return "auto", list(names)
    if choice == "none":
        return "none", []
    if choice == "required":
        return ("required", list(names)) if names else _wrong("tools", "given when tool_choice is required")
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return "required", [_offered(choice.get("function"), names, "tool_choice.function.name")]
    if kind == "allowed_tools" and isinstance(choice.get("allowed_tools"), dict):
        allowed = choice["allowed_tools"]
        listed = allowed.get("tools")
        if allowed.get("mode") not in ("auto", "required") or not isinstance(listed, list) or not listed:
            _wrong("tool_choice.allowed_tools", "an object with mode (auto or required) and a list of tools")
        field = "tool_choice.allowed_tools.tools"
        one_by_one = [_offered(t.get("function") if isinstance(t, dict) else None, names, field) for t in listed]
        return str(allowed["mode"]), one_by_one
    _wrong("tool_choice", "none, auto, required, or an object that names a function")


def _offered(function: Any, names: Sequence[str], field: str) -> str:
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) and name in names else _wrong(field, "the name of one of the tools")


def _tool(tool: Any, place: int) -> dict[str, Any]:
    where = f"tools[{place}]"
    if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        _wrong(where, "an object of type function with a function")
    function = tool["function"]
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        _wrong(f"{where}.function.name", "1 to 64 letters, digits, dots, underscores and dashes")
    for field, kind in (("description", str), ("parameters", dict)):
        if function.get(field) is not None and not isinstance(function[field], kind):
            _wrong(f"{where}.function.{field}", "an object" if kind is dict else "a string")
    kept = {key: function[key] for key in ("name", "description", "parameters") if function.get(key) is not None}
    kept.setdefault("description", "")
    kept.setdefault("parameters", {"type": "object", "properties": {}})
    return {"type": "function", "function": kept}


def _message(message: Any, place: int) -> dict[str, Any]:
    where = f"messages[{place}]"
    if not isinstance(message, dict):
        _wrong(where, "an object with role and content")
    role = message.get("role")
    if role not in _ROLES:
        _wrong(f"{where}.role", f"one of {', '.join(_ROLES)}")
    found = {"role": "system" if role == "developer" else role, "content": _content(message.get("content"), where)}
    if isinstance(message.get("name"), str):
        found["name"] = message["name"]
    if role == "tool":
        found["tool_call_id"] = message.get("tool_call_id")
        if not isinstance(found["tool_call_id"], str):
            _wrong(f"{where}.tool_call_id", "the id of the call that this answers")
    if role == "assistant" and message.get("tool_calls"):
        found["tool_calls"] = _past_calls(message["tool_calls"], f"{where}.tool_calls")
    return found


def _past_calls(given: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        _wrong(where, "a list of calls")
    found = []
    for place, call in enumerate(given):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not all(
            isinstance(v, str) for v in (call.get("id"), function.get("name"))
        ):
            _wrong(f"{where}[{place}]", "an object with id and function (name and arguments)")
        found.append(
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": function["name"], "arguments": _arguments(function, f"{where}[{place}]")},
            }
        )
    return found


def _arguments(function: dict[str, Any], where: str) -> Any:
    """Clients send JSON text, templates take the object."""
    given = function.get("arguments") or "{}"
    if isinstance(given, dict):
        return given
    found = None
    if isinstance(given, str):
        with contextlib.suppress(ValueError, RecursionError):
            found = msgspec.json.decode(given)
    if not isinstance(found, dict) or is_deep(found):
        _wrong(f"{where}.function.arguments", f"the JSON text of an object, nested at most {DEEPEST} deep")
    return found


def _check_answers(messages: Sequence[dict[str, Any]]) -> None:
    """After calls, each has its answer before anything else is said."""
    awaited: set[str] = set()
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            awaited.discard(message["tool_call_id"])
        elif awaited:
            _wrong(f"messages[{place}]", f"the tool message that answers call {sorted(awaited)[0]}")
        else:
            awaited = {call["id"] for call in message.get("tool_calls", ())}
    if awaited:
        _wrong("messages", f"complete: call {sorted(awaited)[0]} has no tool message that answers it")


def _content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        _wrong(f"{where}.content", "a string or a list of text parts")
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RequestError(
                f"{where}.content: this engine reads text parts only; send text.",
                code="unsupported_content",
                param=f"{where}.content",
            )
        texts.append(part["text"])
    return "".join(texts)


def _wrong(name: str, expected: str) -> NoReturn:
    raise RequestError(f"{name} must be {expected}.", code="invalid_value", param=name)
