"""Server-sent events on their way through: cut from reads of any size, looked at as little as needed, restored."""

import itertools
from typing import Any

import msgspec

from ecotone.gateway.metering import Usage
from ecotone.privacy import Pseudonyms, StreamRestorer

_MOST_EVENT = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
DONE = b"data: [DONE]\n\n"
# Strings of a delta that are no text of the model's.
_NO_TEXT = frozenset({"role", "id", "type", "name", "object", "data", "finish_reason"})

Path = tuple[str | int, ...]


class EventCutter:
    """Cuts a byte stream into events (WHATWG HTML, section 9.2: lines, a blank line ends an event)."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = self._after_return = False

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of each event that is complete now. Raises ValueError when one grows beyond reason."""
        if data and self._after_return:
            data = data.removeprefix(b"\n")  # the second half of a line's end whose first half ended the last read
            self._after_return = False
        if b"\r" in data:
            self._after_return = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        whole = self._rest + data
        if not self._begun:
            if _BOM.startswith(whole):
                self._rest = whole
                return []
            whole, self._begun = whole.removeprefix(_BOM), True
        *events, self._rest = whole.split(b"\n\n")
        if len(self._rest) > _MOST_EVENT:
            raise ValueError("an event of the stream is too large")
        return [found for event in events if (found := _data(event)) is not None]


def _data(event: bytes) -> bytes | None:
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines).strip() if lines else None


class StreamReader:
    """Follows one answer stream: usage, whether it came to its end, placeholders put back.

    Events that need no change pass with the bytes they came with.

    Args:
        usage: filled on the way.
        face: chat or completions.
        hide_usage: the client did not ask for the usage event that we asked for.
        names: placeholders to restore, when the text went out with some.
    """

    def __init__(self, usage: Usage, face: str, *, hide_usage: bool, names: Pseudonyms | None) -> None:
        self._usage = usage
        self._chat = face == "chat"
        self._hide_usage = hide_usage
        self._names = names
        self._restorers: dict[Path, StreamRestorer] = {}
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._head: dict[str, Any] = {}
        self.done = False
        self.error: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the stream came to its end: it said so, or each of its choices did."""
        return self.done or bool(self._ended and not self._open)

    def event(self, data: bytes) -> bytes | None:
        """What the client gets for an event's data; None for nothing."""
        if data == b"[DONE]":
            self.done = True
            return None  # written by the relay once usage is in the ledger
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = "an event of the stream is not JSON"
            return None
        if not isinstance(chunk, dict):
            return None
        choices = _dicts(chunk.get("choices"))
        if chunk.get("error") and not choices:
            self.error = _error_text(chunk["error"])
            return None
        changed = b"\n" in data or self._names is not None
        if chunk.get("usage"):
            self._usage.take(chunk["usage"])
            if self._hide_usage:
                if not choices:
                    return None
                del chunk["usage"]
                changed = True
        for choice in choices:
            self._choice(choice)
        if self._names is not None:
            self._head = {k: chunk[k] for k in ("id", "object", "created", "model") if k in chunk}
        return b"data: " + (msgspec.json.encode(chunk) if changed else data) + b"\n\n"

    def rest(self) -> bytes | None:
        """A last event with what restorers still hold, for a stream that ended without finishing its choices."""
        choices = []
        for number in sorted({int(path[0]) for path in self._restorers}):
            part: dict[str, Any] = {}
            self._flush(number, part)
            if part:
                choices.append({"index": number, **({"delta": part} if self._chat else part), "finish_reason": None})
        if not choices:
            return None
        return b"data: " + msgspec.json.encode({**self._head, "choices": choices}) + b"\n\n"

    def _choice(self, choice: dict[str, Any]) -> None:
        number = choice.get("index")
        number = number if isinstance(number, int) else 0
        if self._chat:
            part = choice.get("delta")
            if not isinstance(part, dict):
                part = choice["delta"] = {}
            self._texts(part, (number,))
        else:
            part = choice
            if isinstance(choice.get("text"), str):
                choice["text"] = self._text(choice["text"], (number, "text"))
        if choice.get("finish_reason"):
            self._open.discard(number)
            self._ended.add(number)
            self._flush(number, part)
        elif number not in self._ended:
            self._open.add(number)

    def _texts(self, part: dict[str, Any], path: Path) -> None:
        """Every text of a delta: content, refusal, reasoning, tool calls' arguments, transcripts, whatever comes."""
        for key, inner in part.items():
            if isinstance(inner, str):
                if key not in _NO_TEXT:
                    part[key] = self._text(inner, (*path, key))
            elif isinstance(inner, dict):
                self._texts(inner, (*path, key))
            elif isinstance(inner, list):
                for place, item in enumerate(inner):
                    if isinstance(item, dict):
                        index = item.get("index")
                        self._texts(item, (*path, key, index if isinstance(index, int) else place))

    def _text(self, text: str, path: Path) -> str:
        self._usage.saw(text)
        if self._names is None:
            return text
        found = self._restorers.get(path)
        if found is None:
            found = self._restorers[path] = self._names.restorer(in_json=path[-1] == "arguments")
        return found.feed(text)

    def _flush(self, number: int, part: dict[str, Any]) -> None:
        """What restorers of a choice still hold goes out with its last event."""
        for path in [p for p in self._restorers if p[0] == number]:
            rest = self._restorers.pop(path).finish()
            if rest:
                _put(part, path[1:], rest)


def _put(part: dict[str, Any], path: Path, rest: str) -> None:
    """Append text at a place in a delta, making what lies on the way."""
    node = part
    for step, following in itertools.pairwise(path):
        if isinstance(step, int):
            continue
        if not isinstance(following, int):
            node = node[step] = node.get(step) or {}
            continue
        items = node[step] = node.get(step) or []
        found = next((item for place, item in enumerate(items) if item.get("index", place) == following), None)
        if found is None:
            found = {"index": following}
            items.append(found)
        node = found
    last = str(path[-1])
    node[last] = (node.get(last) or "") + rest


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _error_text(told: Any) -> str:
    text = told.get("message") if isinstance(told, dict) else told
    return str(text)[:500] if text else "unnamed error"
