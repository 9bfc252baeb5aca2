"""A stream of tokens as text-generation-inference writes it; its last event tells what was used.

Each event is `{"index", "token": {"id", "text", "logprob", "special"}, "generated_text", "details"}`; the last one has
the whole text, and `details` with `generated_tokens` and `input_length`.
"""

from typing import Any

import msgspec

from ecotone.gateway.metering import Usage
from ecotone.gateway.plane.passing import Passing
from ecotone.gateway.streams import EventCutter


class TaskStream(Passing):
    """Follows one stream. `last` is its last event, which is held back until its usage is in the ledger.

    Args:
        usage: filled on the way.
    """

    __slots__ = ("_cutter", "_figures", "_tokens", "last")

    def __init__(self, usage: Usage) -> None:
        super().__init__(usage, hide_usage=False, choices=1)
        self._figures = usage
        self._cutter = EventCutter()
        self._tokens = 0
        self.last = b""

    @property
    def whole(self) -> bool:
        """Whether the stream came to its end."""
        return self.done

    @property
    def produced(self) -> int:
        """Tokens that came until now."""
        return self._tokens

    @property
    def pieces(self) -> int:
        """Tokens that came until now."""
        return self._tokens

    def feed(self, data: bytes) -> bytes:
        """The events that the client gets now."""
        shown: list[bytes] = []
        try:
            events = self._cutter.feed(data)
        except ValueError as error:
            events, self.error = [], str(error)
        for told in events:
            if self.done or self.error is not None:
                break
            if told != b"[DONE]":
                self._event(told, shown)
        return b"".join(shown)

    def estimate(self) -> None:
        """What was produced, when nobody told: each event is a token."""
        if self._figures.estimate:
            self._figures.characters = 4 * self._tokens

    def _event(self, told: bytes, shown: list[bytes]) -> None:  # type: ignore[override]
        try:
            event = msgspec.json.decode(told)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            event = None
        if not isinstance(event, dict):
            self.error = "an event of the stream is no JSON object"
        elif event.get("error"):
            self.error = event["error"]
        else:
            self._tokens += "token" in event
            line = b"data:" + told.replace(b"\n", b" ") + b"\n\n"
            if event.get("generated_text") is None and event.get("details") is None:
                shown.append(line)
            else:
                self.last, self.done = line, True
                self._count(event.get("details"))

    def _count(self, details: Any) -> None:
        if isinstance(details, dict):
            told = {"prompt_tokens": details.get("input_length"), "completion_tokens": details.get("generated_tokens")}
            self._figures.take(told)
