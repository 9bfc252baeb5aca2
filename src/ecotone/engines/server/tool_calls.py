"""Calls of tools in what a model writes: Hermes' `<tool_call>`, Mistral's `[TOOL_CALLS]`, LLaMA's bare JSON."""

import json
import re
import secrets
import string
from collections.abc import Collection
from typing import Any

import msgspec

MARKERS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>")
_HERMES, _HERMES_END, _MISTRAL, _PYTHON = "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>"
_OPENERS = (_HERMES, _MISTRAL, _PYTHON)
_LONGEST_BARE = 64 * 1024
_NAMED = re.compile(r"\s*([A-Za-z0-9_.-]{1,64})(?:\[CALL_ID\][A-Za-z0-9]*)?(?:\[ARGS\])?\s*(?=\{)")
_ALPHABET = string.ascii_letters + string.digits


class Call(msgspec.Struct, frozen=True):
    """A tool's name, and its arguments as JSON text."""

    name: str
    arguments: str


Event = str | Call


class CallReader:
    """Reads one growing answer: text comes out as it may, a call when it is whole.

    Args:
        names: the tools that were offered; JSON without a marker is a call only when it names one of them.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._buffer = ""
        self._opener = ""
        self._begun = False  # text or a call has come out
        self._blanks = True  # blanks that come now wait for what follows: they may lie before or between calls
        self.calls = 0

    def feed(self, text: str) -> list[Event]:
        """What can be told after one more piece."""
        self._buffer += text
        found: list[Event] = []
        while self._step(found):
            pass
        return self._counted(found)

    def finish(self) -> list[Event]:
        """What is left when no text comes any more."""
        rest, opener = self._buffer, self._opener
        self._buffer = self._opener = ""
        if not opener and not (not self._begun and rest.lstrip().startswith("{")):
            return self._counted([] if not rest or (self.calls and self._blanks and not rest.strip()) else [rest])
        calls = _calls(rest, self._names if not opener else None)
        return self._counted(list(calls) if calls else [opener + rest])

    def _step(self, found: list[Event]) -> bool:
        """Take one thing out of the buffer; False when more text is needed."""
        if self._opener == _HERMES:
            body, end, rest = self._buffer.partition(_HERMES_END)
            if not end:
                return False
            calls = _calls(body, None)
            found.extend(calls or [_HERMES + body + end])
            self._buffer, self._opener, self._begun, self._blanks = rest, "", True, bool(calls)
            return bool(self._buffer)
        if self._opener:
            return False  # the calls go on to the end
        if not self._begun and (bare := self._buffer.lstrip()).startswith("{") and len(bare) < _LONGEST_BARE:
            return False
        places = [(at, opener) for opener in _OPENERS if (at := self._buffer.find(opener)) >= 0]
        if places:
            at, opener = min(places)
            before = self._buffer[:at]
            self._buffer, self._opener = self._buffer[at + len(opener) :], opener
            if before.strip() or not self._blanks:
                found.append(before)
                self._begun, self._blanks = True, False
            return True
        keep = _held(self._buffer)
        out, self._buffer = self._buffer[: len(self._buffer) - keep], self._buffer[len(self._buffer) - keep :]
        if out and (out.strip() or not self._blanks):
            found.append(out)
            self._begun, self._blanks = True, False
        elif out:
            self._buffer = out + self._buffer
        return False

    def _counted(self, found: list[Event]) -> list[Event]:
        self.calls += sum(isinstance(event, Call) for event in found)
        return found


def new_id(short: bool) -> str:
    """An id for a call; Mistral's templates take exactly nine letters and digits."""
    if short:
        return "".join(secrets.choice(_ALPHABET) for _ in range(9))
    return f"call_{secrets.token_hex(12)}"


def _held(text: str) -> int:
    """How many letters at the end may become a marker."""
    longest = max(map(len, _OPENERS)) - 1
    tails = (text[-size:] for size in range(min(longest, len(text)), 0, -1))
    return next((len(tail) for tail in tails if any(opener.startswith(tail) for opener in _OPENERS)), 0)


def _calls(text: str, names: Collection[str] | None) -> list[Call]:
    """The calls that a text consists of; none when it is anything else."""
    found: list[Call] = []
    rest = text.strip()
    while rest:
        named = _NAMED.match(rest)
        try:
            value, end = json.JSONDecoder().raw_decode(rest[named.end() :] if named else rest)
        except (ValueError, RecursionError):
            return []
        end += named.end() if named else 0
        values = [{"name": named[1], "arguments": value}] if named else value if isinstance(value, list) else [value]
        calls = [_call(one) for one in values]
        if not calls or any(call is None or (names is not None and call.name not in names) for call in calls):
            return []
        found.extend(call for call in calls if call is not None)
        rest = rest[end:].lstrip("; \n\t\r").removeprefix(_MISTRAL).removeprefix(_PYTHON).lstrip()
    return found


def _call(value: Any) -> Call | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        return Call(value["name"], arguments)
    if not isinstance(arguments, dict):
        return None
    return Call(value["name"], json.dumps(arguments, ensure_ascii=False))
