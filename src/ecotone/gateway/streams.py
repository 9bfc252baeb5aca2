"""Server-sent events on their way through: cut from reads of any size, looked at as little as needed, restored."""

from typing import Any

import msgspec

from ecotone.gateway.metering import Usage
from ecotone.privacy import Pseudonyms, StreamRestorer

_MOST_EVENT = 8 * 1024 * 1024
DONE = b"data: [DONE]\n\n"


class EventCutter:
    """Cuts a byte stream into events (WHATWG HTML, section 9.2: lines, a blank line ends an event)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of each event that is complete now. Raises ValueError when one grows beyond reason."""
        whole = self._rest + data
        if b"\r" in whole:
            whole, held = (whole[:-1], b"\r") if whole.endswith(b"\r") else (whole, b"")
            whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *events, self._rest = whole.split(b"\n\n")
        if len(self._rest) > _MOST_EVENT:
            raise ValueError("an event of the stream is too large")
        return [found for event in events if (found := _data(event)) is not None]


def _data(event: bytes) -> bytes | None:
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


class StreamReader:
    """Follows one answer stream: usage, whether it came to its end, placeholders put back.

    Args:
        usage: filled on the way.
        hide_usage: the client did not ask for the usage event that we asked for.
        names: placeholders to restore, when the text went out with some.
        model: the name under which the client called.
    """

    def __init__(self, usage: Usage, *, hide_usage: bool, names: Pseudonyms | None, model: str) -> None:
        self._usage = usage
        self._hide_usage = hide_usage
        self._names = names
        self._model = model
        self._restorers: dict[tuple[Any, ...], StreamRestorer] = {}
        self.finished = False
        self.done = False
        self.error: str | None = None

    def event(self, data: bytes) -> bytes | None:
        """What the client gets for an event's data; None for nothing."""
        if data == b"[DONE]":
            self.done = True
            return None  # written by the relay once usage is in the ledger
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.error = "an event of the stream is not JSON"
            return None
        if not isinstance(chunk, dict):
            return None
        if "error" in chunk and not chunk.get("choices"):
            told = chunk["error"]
            self.error = str(told.get("message", "") if isinstance(told, dict) else told)[:500] or "unnamed error"
            return None
        choices = chunk.get("choices") or []
        if chunk.get("usage"):
            self._usage.take(chunk["usage"])
            if self._hide_usage:
                if not choices:
                    return None
                chunk.pop("usage")
        changed = self._names is not None or chunk.get("model") != self._model or self._hide_usage
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            self._choice(choice)
        if changed:
            chunk["model"] = self._model
            return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
        return b"data: " + data + b"\n\n"

    def _choice(self, choice: dict[str, Any]) -> None:
        number = choice.get("index", 0)
        delta = choice.get("delta")
        part = delta if isinstance(delta, dict) else choice
        for field in ("content", "reasoning_content", "refusal", "text"):
            if isinstance(part.get(field), str):
                self._usage.saw(part[field])
                if self._names is not None:
                    part[field] = self._restorer((number, field)).feed(part[field])
        for call in part.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), str):
                self._usage.saw(function["arguments"])
                if self._names is not None:
                    key = (number, "tool", call.get("index", 0))
                    function["arguments"] = self._restorer(key, in_json=True).feed(function["arguments"])
        if choice.get("finish_reason"):
            self.finished = True
            self._flush(number, part)

    def _flush(self, number: int, part: dict[str, Any]) -> None:
        """What restorers still hold goes out with the choice's last event."""
        for key in [k for k in self._restorers if k[0] == number]:
            rest = self._restorers.pop(key).finish()
            if not rest:
                continue
            if key[1] == "tool":
                part.setdefault("tool_calls", []).append({"index": key[2], "function": {"arguments": rest}})
            else:
                part[key[1]] = (part.get(key[1]) or "") + rest

    def _restorer(self, key: tuple[Any, ...], *, in_json: bool = False) -> StreamRestorer:
        found = self._restorers.get(key)
        if found is None:
            assert self._names is not None
            found = self._restorers[key] = self._names.restorer(in_json=in_json)
        return found
