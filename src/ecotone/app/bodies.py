"""Bodies on their way in: a client that sends too little for too long counts as gone."""

import asyncio
import time

from starlette.types import Message, Receive


class Patient:
    """Receives a body that must bring a least rate.

    Only the time that is spent waiting for the client counts: a slow disk of ours is no fault of its. The rate is taken
    over each window of waiting, the first too, so that a pause shorter than a window is nobody's end.

    Args:
        receive: the server's.
        seconds: length of a window.
        rate: bytes a second that each window must bring at least.
    """

    def __init__(self, receive: Receive, seconds: float, rate: int) -> None:
        self._receive = receive
        self._seconds = seconds
        self._least = max(1.0, rate * seconds)
        self._whole = False
        self._waited = 0.0
        self._came = 0

    async def __call__(self) -> Message:
        if self._whole:  # only the end of the connection is waited for now
            return await self._receive()
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._seconds - self._waited):
                    message = await self._receive()
            except TimeoutError:
                if self._is_too_slow():
                    return {"type": "http.disconnect"}
                continue
            break
        self._waited += time.monotonic() - began
        self._came += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body")
        if self._waited >= self._seconds and not self._whole and self._is_too_slow():
            return {"type": "http.disconnect"}
        return message

    def _is_too_slow(self) -> bool:
        """Whether the window that ends now brought too little; the next one begins."""
        slow = self._came < self._least
        self._waited, self._came = 0.0, 0
        return slow
