"""The answers to one request on the event loop's side; pieces arrive in bunches, one for each step of the engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from ecotone.engines.server.generation import Answer, Piece
from ecotone.engines.server.sampling import Chosen

Begin = Callable[[Callable[[int], Callable[[Piece], None]], asyncio.AbstractEventLoop], Sequence[Answer]]


class Writing:
    """Answers being made; pieces come as `(index, piece)`.

    Args:
        begin: starts the answers, given what makes a receiver for each index, and the loop it is called in.
        prompt_tokens: tokens of the prompts, for the usage.
    """

    def __init__(self, begin: Begin, prompt_tokens: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._fresh: list[tuple[int, Piece]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False
        self._prompt_tokens = prompt_tokens
        self._answers = begin(lambda index: partial(self._receive, index), self._loop)
        self._made = [0] * len(self._answers)

    @property
    def count(self) -> int:
        return len(self._answers)

    async def bunches(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        """Pieces as they come, until every answer has ended or the client has left.

        Raises:
            RequestError: an answer failed; the others are of no use then.
        """
        open_answers = self.count
        while open_answers and not self._gone:
            if not self._fresh:
                self._waiter = self._loop.create_future()
                await self._waiter
                continue
            bunch, self._fresh = self._fresh, []
            for index, piece in bunch:
                self._made[index] = piece.tokens
                if piece.error is not None:
                    raise piece.error
                open_answers -= piece.last
            yield bunch

    async def whole(self) -> list[Piece] | None:
        """Each answer as one piece; None when the client has left."""
        texts: list[list[str]] = [[] for _ in range(self.count)]
        chosen: list[list[Chosen]] = [[] for _ in range(self.count)]
        lasts: list[Piece] = [Piece()] * self.count
        async for bunch in self.bunches():
            for index, piece in bunch:
                texts[index].append(piece.text)
                chosen[index].extend(piece.chosen)
                lasts[index] = piece
        if self._gone:
            return None
        return [
            Piece("".join(text), last.tokens, last.finish, None, tokens, last.end)
            for text, last, tokens in zip(texts, lasts, chosen, strict=True)
        ]

    def leave(self) -> None:
        """The client has gone."""
        self._gone = True
        self.cancel()
        self._wake()

    def cancel(self) -> None:
        for answer in self._answers:
            answer.cancel()

    def usage(self) -> dict[str, int]:
        made = sum(self._made)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self._prompt_tokens + made,
        }

    def _receive(self, index: int, piece: Piece) -> None:
        self._fresh.append((index, piece))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
