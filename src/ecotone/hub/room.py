"""The memory that bodies under way may take together: what many clients send slowly must not fill it."""

from collections.abc import AsyncIterator

from starlette.requests import Request

from ecotone.vocabulary import Unavailable

PIECE = 1024 * 1024


class Room:
    """Bytes of bodies that are held in memory now; counted in the event loop's thread alone."""

    held = 0


class Held:
    """What one request holds; given back when the block ends.

    Args:
        most: bytes that all requests together may hold.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = 0

    def __enter__(self) -> "Held":
        return self

    def add(self, size: int) -> None:
        """Count what has come. The one request that holds more than half of everything may go on, so that the largest
        body that is allowed gets through.

        Raises:
            Unavailable: when there is no room.
        """
        self._count(size)
        if self.is_over and self.size * 2 <= Room.held:
            raise Unavailable("Many uploads are under way and hold the memory that is there; try again soon.")

    def keep(self, size: int) -> None:
        """Count without refusing."""
        self._count(size)

    @property
    def is_over(self) -> bool:
        return Room.held > self._most

    def drop(self) -> None:
        """Give back all of it."""
        self._count(-self.size)

    def _count(self, change: int) -> None:
        self.size += change
        Room.held += change

    def __exit__(self, *_: object) -> None:
        self.drop()


def holding(request: Request) -> Held:
    return Held(request.app.state.services.settings.receiving_bytes)


async def counted(chunks: AsyncIterator[bytes], held: Held) -> AsyncIterator[bytes]:
    """The same bytes, counted as held. Raises Unavailable when there is no room."""
    async for chunk in chunks:
        held.add(len(chunk))
        yield chunk


async def gathered(request: Request) -> AsyncIterator[bytes]:
    """A request's body in pieces of about a MiB, smaller ones when room is short: each costs a change of thread."""
    parts: list[bytes] = []
    with holding(request) as held:
        async for chunk in request.stream():
            parts.append(chunk)
            held.keep(len(chunk))
            if held.size >= PIECE or held.is_over:
                yield b"".join(parts)
                parts = []
                held.drop()
        if parts:
            yield b"".join(parts)
