"""A change through the API or a page is in force at this server's gateway before its answer goes out.

A key that was just made works, a model that was just deployed is known. Other processes and machines follow within two
seconds.
"""

import asyncio
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecotone.app.traffic import KEY
from ecotone.gateway import SnapshotBuilder

_CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_FACES: Final = frozenset({"api", "web"})
_PATIENCE: Final = 10.0
"""Seconds: where a snapshot takes longer, answers do not wait for it. It takes some hundredths of one, and many times
that on a machine whose processors are all taken."""
_LOOK: Final = 0.002


class InForce:
    """Wraps what changes things; commits and uploads to the hub change nothing that the gateway knows, and do not wait.

    Args:
        app: what answers; `Traffic` is around it.
        builder: what makes changes known to the gateway.
    """

    def __init__(self, app: ASGIApp, builder: SnapshotBuilder) -> None:
        self._app = app
        self._builder = builder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changing = scope["type"] == "http" and scope["method"] in _CHANGING and scope[KEY].face in _FACES
        await self._app(scope, receive, self._sending(send) if changing else send)

    def _sending(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._until_built()
            await send(message)

        return sending

    async def _until_built(self) -> None:
        told, end = self._builder.told, time.monotonic() + _PATIENCE
        while not self._builder.has_built(told) and time.monotonic() < end:  # noqa: ASYNC110  told in another thread
            await asyncio.sleep(_LOOK)
