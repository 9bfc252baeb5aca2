"""An answer in the making, and the pieces of it that come out. Known to the thread that makes them and to the face."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ecotone.engines.server.errors import RequestError
from ecotone.engines.server.sampling import Chooser, Chosen
from ecotone.engines.server.stepping import Row
from ecotone.engines.server.text import TextStream


class Piece(msgspec.Struct, frozen=True):
    """A bit of an answer: text, and at its end the reason (`stop` or `length`); `tokens` counts those made so far.

    `chosen` are the tokens since the last piece with their log-probabilities, where these were asked for, and `end` is
    the one that ended the answer and is no text.
    """

    text: str = ""
    tokens: int = 0
    finish: str | None = None
    error: RequestError | None = None
    chosen: Sequence[Chosen] = ()
    end: Chosen | None = None

    @property
    def last(self) -> bool:
        return self.finish is not None or self.error is not None


class Answer:
    """One answer in the making.

    Args:
        prompt: its tokens.
        limit: how many tokens it may have.
        chooser: how its tokens are chosen.
        text: its tokens as text.
        deliver: gets its pieces; in the thread of `loop` when there is one, else in the computing thread.
        streams: whether pieces come as they are made, or one at the end.
        adapter: what it is computed with; None for the base alone.
        party: who asks; places are shared out among parties. Empty where nobody says.
    """

    __slots__ = (
        "adapter", "cancelled", "chooser", "chosen", "deliver", "limit", "loop", "made", "party", "prompt", "row",
        "streams", "suspect", "text",
    )  # fmt: skip

    def __init__(
        self,
        prompt: Sequence[int],
        *,
        limit: int,
        chooser: Chooser,
        text: TextStream,
        deliver: Callable[[Piece], None],
        loop: asyncio.AbstractEventLoop | None = None,
        streams: bool = True,
        adapter: str | None = None,
        party: str = "",
    ) -> None:
        self.prompt = prompt
        self.limit = limit
        self.chooser = chooser
        self.text = text
        self.deliver = deliver
        self.loop = loop
        self.streams = streams
        self.adapter = adapter
        self.party = party
        self.cancelled = False
        self.suspect = False  # its company failed: it is tried once more, alone
        self.made: list[int] = []
        self.chosen: list[Chosen] = []
        self.row: Row | None = None

    def cancel(self) -> None:
        """Nobody waits for it any more: its place is free before the next step."""
        self.cancelled = True

    def take(self, token: int) -> Piece | None:
        """Append a token; the piece that goes out with it, if one does."""
        made = self.made
        made.append(token)
        count = len(made)
        if token in self.chooser.ends and count >= self.chooser.least:
            return self._end("stop", last=self.chosen.pop() if self.chosen else None)
        if self.streams or self.text.watches:
            text = self.text.feed(token)
            if self.text.stopped:
                return self._piece(text, "stop")
        else:
            self.text.add(token)
            text = ""
        if self.chooser.finished:
            return self._end("stop", text)
        if count >= self.limit:
            return self._end("length", text)
        if self.streams and (text or count == 1):
            return self._piece(text)
        if not self.streams and text:
            self.text.keep(text)
        return None

    def _end(self, finish: str, text: str = "", last: Chosen | None = None) -> Piece:
        text += self.text.finish()
        return self._piece(text, "stop" if self.text.stopped else finish, last)

    def _piece(self, text: str, finish: str | None = None, last: Chosen | None = None) -> Piece:
        chosen, self.chosen = self.chosen, []
        if finish is not None and not self.streams:
            text = self.text.kept + text
        return Piece(text, len(self.made), finish, None, chosen, last)


Deliver = Callable[[Piece], None]
Delivery = tuple[Answer, Piece]


def hand_out(deliveries: Sequence[Delivery]) -> None:
    """Give each piece to whoever waits for it."""
    for answer, piece in deliveries:
        answer.deliver(piece)


def post(deliveries: Sequence[Delivery]) -> None:
    """Hand pieces out, those for a loop by one call into it for all of them."""
    loops: dict[Any, list[Delivery]] = {}
    for answer, piece in deliveries:
        if answer.loop is None:
            answer.deliver(piece)
        else:
            loops.setdefault(answer.loop, []).append((answer, piece))
    for loop, those in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(hand_out, those)
