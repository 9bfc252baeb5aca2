"""Bodies on their way in: a client that sends too little for too long counts as gone."""

import asyncio
import time

from starlette.types import Message, Receive


class Pace:
    """The least rate of a body.

    Only the time that is spent waiting for the client counts: a slow disk of ours is no fault of its. The rate is taken
    over each window of waiting, the first too, so that a pause shorter than a window is nobody's end.

    Args:
        seconds: length of a window.
        rate: bytes a second that each window must bring at least.
    """

    def __init__(self, seconds: float, rate: int) -> None:
        self._seconds = seconds
        self._least = max(1.0, rate * seconds)
        self._waited = 0.0
        self._came = 0

    @property
    def left(self) -> float:
        """Seconds of waiting until the window ends."""
        return max(0.0, self._seconds - self._waited)

    def came(self, size: int) -> None:
        self._came += size

    def waited(self, seconds: float) -> bool:
        """Count time that was spent waiting; returns whether a window ended that brought too little."""
        self._waited += seconds
        if self._waited < self._seconds:
            return False
        slow = self._came < self._least
        self._waited, self._came = 0.0, 0
        return slow


class Patient:
    """Receives a body as long as it keeps its pace.

    Args:
        receive: the server's.
        seconds, rate: see `Pace`.
    """

    def __init__(self, receive: Receive, seconds: float, rate: int) -> None:
        self._receive = receive
        self._pace = Pace(seconds, rate)
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:  # only the end of the connection is waited for now
            return await self._receive()
        while True:
            began, window = time.monotonic(), self._pace.left
            try:
                async with asyncio.timeout(window):
                    message = await self._receive()
            except TimeoutError:
                if self._pace.waited(window):
                    return {"type": "http.disconnect"}
                continue
            break
        self._pace.came(len(message.get("body", b"")))
        self._whole = message["type"] != "http.request" or not message.get("more_body")
        if self._pace.waited(time.monotonic() - began) and not self._whole:
            return {"type": "http.disconnect"}
        return message
