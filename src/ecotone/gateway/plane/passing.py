"""A stream that passes through unchanged: searched as bytes, decoded only where something of interest stands in it.

Whole events alone are passed on, as they came. Looked for are usage, an error, the end, and finish reasons. What was
produced is estimated from bytes when the provider never tells.
"""

from typing import Any, Final

import msgspec

from ecotone.gateway.calls import Calls, whole_number, with_text_arguments
from ecotone.gateway.metering import Usage
from ecotone.gateway.streams import data_of, dicts, ends_choice, usage_apart

MOST_EVENT: Final = 64 * 1024
"""Of a part of an event that waits for the rest: it is copied at each read, so a longer one is read otherwise."""

_BOM: Final = b"\xef\xbb\xbf"
_USAGE: Final = (b'"usage":{', b'"usage": {')
_EMPTY: Final = (b'"choices":[]', b'"choices": []')
_CALL: Final = b"_call"
"""Of `tool_calls` and of `function_call`: one search is dear enough, and few texts hold it."""
_MOST_CHOICES: Final = 1024
_FINISH: Final = (b'"finish_reason":"', b'"finish_reason": "')
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Unusual(Exception):
    """The stream is not of the plain form; `rest` is what was not passed on yet."""

    def __init__(self, rest: bytes) -> None:
        super().__init__("an unusual stream")
        self.rest = rest


class Passing:
    """One stream.

    Args:
        usage: filled on the way.
        hide_usage: the client did not ask for the usage event that we asked for.
        choices: how many the request asked for.
    """

    __slots__ = (
        "_begun",
        "_choices",
        "_envelope",
        "_events",
        "_held",
        "_hide",
        "_passed",
        "_usage",
        "calls",
        "done",
        "ended",
        "error",
        "rest",
    )  # fmt: skip

    def __init__(self, usage: Usage, *, hide_usage: bool, choices: int) -> None:
        self._usage = usage
        self._hide = hide_usage
        self._choices = choices
        self.rest = b""
        """A part of an event that waits for the rest."""
        self._held = b""
        self._begun = False
        self.calls: Calls | None = None
        self._events = self._passed = self._envelope = 0
        self.ended: set[int] = set()
        """Choices whose finish reason passed."""
        self.done = False
        self.error: Any = None

    @property
    def whole(self) -> bool:
        """Whether the stream came to its end: it said so, or each of its choices did."""
        return self.done or len(self.ended) >= self._choices

    @property
    def produced(self) -> int:
        """Tokens that came until now, by their bytes, at least one for each event."""
        beyond = self._passed - self._events * self._envelope
        return max(beyond // 4, self._events - 1, 0)

    @property
    def pieces(self) -> int:
        """Events that a token may have come with."""
        return self._events

    def feed(self, data: bytes) -> bytes:
        """What the client gets now: whole events, but for usage that it did not ask for, and the end.

        Raises:
            Unusual: for lines that end otherwise, a byte order mark, an event beyond reason; nothing of `rest` was
                passed on.
        """
        if self.rest:
            data = self.rest + data
        if b"\r" in data or (not self._begun and (data[:1] == _BOM[:1])):
            raise Unusual(data)
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            if len(data) > MOST_EVENT:
                raise Unusual(data)
            self.rest = data
            return b""
        self.rest = data[end:]
        part = data if end == len(data) else data[:end]
        self._begun = True
        if (
            b"[DONE]" in part
            or _USAGE[0] in part
            or _USAGE[1] in part
            or b'"error"' in part
            or _CALL in part
            or (self._hide and (_EMPTY[0] in part or _EMPTY[1] in part))
            or (count := part.count(b"\n\n")) != part.count(b"}\n\n")
            or count != part.count(b"data: {")
        ):
            part = self._looked_through(part)
            count = part.count(b"\n\n")
        if _FINISH[0] in part or _FINISH[1] in part:
            self._see_ends(part)
        if count:
            if not self._envelope:
                self._envelope = _envelope(part[: part.find(b"\n\n")])
            self._events += count
            self._passed += len(part)
        return part

    def estimate(self) -> None:
        """What was produced, when nobody told: bytes beyond those that an empty event has, at least one token each."""
        if self._usage.estimate and self._events:
            beyond = self._passed - self._events * self._envelope
            self._usage.characters = max(beyond, 4 * max(self._events - 1, 0))

    def _looked_through(self, part: bytes) -> bytes:
        """The events one by one."""
        shown: list[bytes] = []
        for event in part[:-2].split(b"\n\n"):
            if self.done or self.error is not None:
                break  # what follows the end is read and dropped
            told = data_of(event)
            if told is None:
                if event.startswith(b":") and (self._events or shown):  # before the first event nothing is decided yet
                    shown.append(event)
                    self._events -= 1  # it counts for nothing
                    self._passed -= len(event) + 2
                continue
            if told == b"[DONE]":
                self.done = True
                continue
            kept = self._event(event, told)
            if kept is not None:
                shown.append(kept)
        return b"\n\n".join(shown) + b"\n\n" if shown else b""

    def _see_ends(self, part: bytes) -> None:
        """Which choices end; some servers give an empty reason all along, or the same one twice."""
        for event in part.split(b"\n\n"):
            if (_FINISH[0] in event or _FINISH[1] in event) and (told := data_of(event)) is not None:
                try:
                    chunk = msgspec.json.decode(told)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue
                for choice in dicts(chunk.get("choices") if isinstance(chunk, dict) else None):
                    if choice.get("finish_reason") and len(self.ended) < _MOST_CHOICES:
                        self.ended.add(max(whole_number(choice.get("index")), 0))

    def _event(self, event: bytes, told: bytes) -> bytes | None:
        came, told = told, with_text_arguments(told)
        try:
            chunk = msgspec.json.decode(told)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = "an event of the stream is not JSON"
            return None
        if not isinstance(chunk, dict):
            return None
        if b"\n" in told:  # of several lines, which what is built of it would break
            told = msgspec.json.encode(chunk)
        if told is not came:
            event = b"data: " + told
        if chunk.get("error"):  # OpenRouter tells it beside a choice that ended
            self.error = chunk["error"]
            return None
        if b'"tool_calls"' in told or b'"function_call"' in told:
            if self.calls is None:
                self.calls = Calls()
            if self.calls.put_right(dicts(chunk.get("choices"))):
                told = msgspec.json.encode({**_fields.decode(told), "choices": chunk["choices"]})
                event = b"data: " + told
            if self.calls.full:
                self.error = "the stream has too many parts"
                return None
        if chunk.get("usage"):
            self._usage.take_answered(chunk)
            if self._hide:
                if not chunk.get("choices"):
                    return None
                raw = _fields.decode(told)
                del raw["usage"]
                return b"data: " + msgspec.json.encode(raw)
            if ends_choice(chunk.get("choices")):
                raw = _fields.decode(told)
                own = usage_apart(raw)
                return b"data: " + msgspec.json.encode(raw) + b"\n\n" + own[:-2]
        elif self._hide and chunk.get("choices") == []:  # Azure begins so; many programs take the first of them
            return None
        return event


def _envelope(event: bytes) -> int:
    """Bytes of a stream's event but for the texts in it, of which the first may hold none, or a whole paragraph."""
    told = data_of(event)
    try:
        chunk = msgspec.json.decode(told or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return len(event) + 2
    texts = 0
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            delta = choice.get("delta")
            inner = delta.values() if isinstance(delta, dict) else [choice.get("text")]
            if isinstance(delta, dict) and "role" in delta:
                texts += len(b'"role": "", ')  # it stands in the first event alone
            texts += sum(len(msgspec.json.encode(text)) - 2 for text in inner if isinstance(text, str))
    return max(len(event) + 2 - texts, 1)
