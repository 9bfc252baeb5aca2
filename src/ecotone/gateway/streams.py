"""Server-sent events on their way through: cut from reads of any size, looked at as little as needed, restored."""

from typing import Any, Final

import msgspec

from ecotone.gateway.calls import Calls, whole_number, with_text_arguments
from ecotone.gateway.metering import Usage
from ecotone.privacy import Pseudonyms, StreamRestorer

_MOST_EVENT: Final = 8 * 1024 * 1024
_MOST_CONTAINERS: Final = 100_000  # of one event: objects take many times their size as text
_MOST_CHOICES: Final = 1024
_MOST_FIELDS: Final = 4096
_MOST_STEPS: Final = 100  # from a choice to a text in it
_BOM = b"\xef\xbb\xbf"
DONE = b"data: [DONE]\n\n"
# Strings of a delta that are no text of the model's.
_NO_TEXT = frozenset({"role", "id", "type", "name", "object", "data", "finish_reason"})

_SAME: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
Path = tuple[str | int, ...]


class EventCutter:
    """Cuts a byte stream into events (WHATWG HTML, section 9.2: lines, a blank line ends an event)."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun = self._after_return = False

    @property
    def left(self) -> bytes:
        """A part of an event that waits for the rest."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of each event that is complete now. Raises ValueError when one grows beyond reason."""
        if data and self._after_return:
            data = data.removeprefix(b"\n")  # the second half of a line's end whose first half ended the last read
            self._after_return = False
        if b"\r" in data:
            self._after_return = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        searched = max(0, len(self._rest) - 1)
        self._rest += data
        if not self._begun:
            if _BOM.startswith(bytes(self._rest[:4])):
                return []
            self._rest, self._begun, searched = self._rest.removeprefix(_BOM), True, 0
        events: list[bytes] = []
        if self._rest.find(b"\n\n", searched) >= 0:
            *events, rest = bytes(self._rest).split(b"\n\n")
            self._rest = bytearray(rest)
        if len(self._rest) > _MOST_EVENT:
            raise ValueError("an event of the stream is too large")
        return [found for event in events if (found := data_of(event)) is not None]


def data_of(event: bytes) -> bytes | None:
    """The data of an event; None for comments, and for an empty one, which the standard does not dispatch."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip() or None
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines).strip() or None


def usage_apart(chunk: dict[str, Any]) -> bytes:
    """Takes usage out of an event that ends a choice; gives the event that tells it, for readers that look for one
    without choices, as OpenAI sends it."""
    own = {name: chunk[name] for name in _SAME if name in chunk}
    return b"data: " + msgspec.json.encode({**own, "choices": [], "usage": chunk.pop("usage")}) + b"\n\n"


def ends_choice(choices: Any) -> bool:
    """Whether one of an event's choices ends with it."""
    return any(choice.get("finish_reason") for choice in dicts(choices))


class StreamReader:
    """Follows one answer stream: usage, whether it came to its end, placeholders put back.

    Events that need no change pass with the bytes they came with.

    Args:
        usage: filled on the way.
        face: chat or completions.
        hide_usage: the client did not ask for the usage event that we asked for.
        names: placeholders to restore, when the text went out with some.
        alias: the model's name in each event, in place of the upstream's.
        choices: how many the request asked for.
        ended: those that ended already, where another follower saw the beginning.
        calls: the tool calls that it saw.
    """

    def __init__(
        self,
        usage: Usage,
        face: str,
        *,
        hide_usage: bool,
        names: Pseudonyms | None,
        alias: str | None = None,
        choices: int = 1,
        ended: set[int] | None = None,
        calls: Calls | None = None,
    ) -> None:
        self._choices = choices
        self._calls = calls if calls is not None else Calls()
        self._alias = alias
        self._usage = usage
        self._chat = face == "chat"
        self._hide_usage = hide_usage
        self._names = names
        self._restorers: dict[Path, StreamRestorer] = {}
        self._open: set[int] = set()
        self._ended: set[int] = ended if ended is not None else set()
        self.pieces = 0
        """Events that a token may have come with."""
        self._head: dict[str, Any] = {}
        self.done = False
        self.error: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the stream came to its end: it said so, or each of its choices did."""
        return self.done or (len(self._ended) >= self._choices and not self._open)

    @property
    def produced(self) -> int:
        """Tokens that came until now, by their letters."""
        return self._usage.characters // 4

    def event(self, data: bytes) -> bytes | None:
        """What the client gets for an event's data; None for nothing."""
        if data == b"[DONE]":
            self.done = True
            return None  # written by the relay once usage is in the ledger
        try:
            if data.count(b"{") + data.count(b"[") > _MOST_CONTAINERS:
                raise RecursionError
            data = with_text_arguments(data)
            chunk = msgspec.json.decode(data)
            return self._chunk(chunk, data) if isinstance(chunk, dict) else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.error = "an event of the stream is not JSON"
        except RecursionError:
            self.error = "an event of the stream holds too much"
        return None

    def _chunk(self, chunk: dict[str, Any], data: bytes) -> bytes | None:
        choices = dicts(chunk.get("choices"))
        if chunk.get("error"):
            self.error = _error_text(chunk["error"])
            return None
        changed = b"\n" in data or self._names is not None
        apart = False
        if (b'"tool_calls"' in data or b'"function_call"' in data) and self._calls.put_right(choices):
            changed = True
        if self._calls.full:
            self.error = "the stream has too many parts"
            return None
        if chunk.get("usage"):
            self._usage.take_answered(chunk)
            if self._hide_usage:
                if not choices:
                    return None
                del chunk["usage"]
                changed = True
            elif ends_choice(choices):
                changed = apart = True
        elif self._hide_usage and chunk.get("choices") == []:  # Azure begins so; many programs take the first of them
            return None
        if self._alias is not None:
            chunk["model"] = self._alias
            changed = True
        if self._names is not None:
            self._head = {k: chunk[k] for k in ("id", "object", "created", "model") if k in chunk}
        self.pieces += bool(choices)
        held = b"".join([self._choice(choice) for choice in choices])
        if len(self._open) + len(self._ended) > _MOST_CHOICES or len(self._restorers) > _MOST_FIELDS:
            self.error = "the stream has too many parts"
            return None
        told = usage_apart(chunk) if apart else b""
        return held + b"data: " + (msgspec.json.encode(chunk) if changed else data) + b"\n\n" + told

    def rest(self) -> bytes:
        """Last events with what restorers still hold, for a stream that ended without finishing its choices."""
        return b"".join([self._held(number) for number in sorted({int(path[0]) for path in self._restorers})])

    def _choice(self, choice: dict[str, Any]) -> bytes:
        """Restores the texts of a choice; gives events that have to go out before it."""
        number = max(whole_number(choice.get("index")), 0)
        last = bool(choice.get("finish_reason"))
        if self._chat:
            part = choice.get("delta")
            if not isinstance(part, dict):
                part = choice["delta"] = {}
            self._texts(part, (number,), last)
        elif isinstance(choice.get("text"), str):
            choice["text"] = self._text(choice["text"], (number, "text"), last)
        if last:
            self._open.discard(number)
            self._ended.add(number)
            return self._held(number)
        if number not in self._ended:
            self._open.add(number)
        return b""

    def _texts(self, part: dict[str, Any], path: Path, last: bool) -> None:
        """Every text of a delta: content, refusal, reasoning, tool calls' arguments, transcripts, whatever comes.

        The depth is counted here: compiled, no interpreter does, and the path of each level is as long as it is deep.
        """
        if len(path) > _MOST_STEPS:
            raise RecursionError
        for key, inner in part.items():
            if isinstance(inner, str):
                if key not in _NO_TEXT:
                    part[key] = self._text(inner, (*path, key), last)
            elif isinstance(inner, dict):
                self._texts(inner, (*path, key), last)
            elif isinstance(inner, list):
                for place, item in enumerate(inner):
                    if isinstance(item, dict):
                        index = item.get("index")
                        self._texts(item, (*path, key, index if isinstance(index, int) else place), last)

    def _text(self, text: str, path: Path, last: bool) -> str:
        self._usage.saw(text)
        if self._names is None:
            return text
        found = self._restorers.get(path)
        if found is None:
            found = self._restorers[path] = self._names.restorer(in_json=path[-1] == "arguments")
        shown = found.feed(text)
        return shown + self._restorers.pop(path).finish() if last else shown

    def _held(self, number: int) -> bytes:
        """Events with what restorers of a choice still hold, one for each text."""
        events = []
        for path in [p for p in self._restorers if p[0] == number]:
            held = self._restorers.pop(path).finish()
            if held:
                part = _at(path[1:], held)
                choice = {"index": number, **({"delta": part} if self._chat else part), "finish_reason": None}
                events.append(b"data: " + msgspec.json.encode({**self._head, "choices": [choice]}) + b"\n\n")
        return b"".join(events)


def _at(path: Path, text: str) -> dict[str, Any]:
    """A delta that holds nothing but a text at its place."""
    node: Any = text
    for step in reversed(path):
        node = [{"index": step, **node}] if isinstance(step, int) else {step: node}
    return dict(node)


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _error_text(told: Any) -> str:
    text = told.get("message") if isinstance(told, dict) else told
    return str(text) if text else "unnamed error"
