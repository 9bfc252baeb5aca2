"""Pages of listed origins that call the gateway through the ASGI server; `gateway.lending` does it on connections."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecotone.gateway.origins import Origins


class Crossing:
    """Wraps the gateway's ASGI face."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = dict(scope["headers"])
        allowed = self._origins.preflight(scope["method"].encode(), fields)
        if allowed is not None:
            await send({"type": "http.response.start", "status": 200, "headers": _pairs(allowed)})
            await send({"type": "http.response.body", "body": b""})
            return
        more = _pairs(self._origins.fields(fields.get(b"origin")))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, sending if more else send)


def _pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    parts = (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    return [(name, value) for name, _, value in parts]
