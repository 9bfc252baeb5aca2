"""GET /snapshot: the decisions for gateways on other machines. Takes no token but a proof of the shared secret, so that
no gateway holds an administrator's; without ECOTONE_SNAPSHOT_SECRET there is no such endpoint."""

import hashlib
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.api.errors import error_response
from ecotone.gateway.sharing import NONCE, PATH, PROOF, SEAL, elsewhere, is_recent, is_same, proof, seal
from ecotone.gateway.snapshot import Snapshot, pack
from ecotone.vocabulary import NotFound

FEED = PATH


class _Feed:
    """The newest snapshot as it goes out, packed once for all who ask."""

    def __init__(self) -> None:
        self._packed: tuple[Snapshot | None, str, bytes] = (None, "", b"")

    async def __call__(self, request: Request) -> Response:
        services: Any = request.app.state.services
        secret = services.settings.snapshot_secret
        nonce = request.headers.get(NONCE, "")
        if not secret or not is_recent(nonce) or not is_same(request.headers.get(PROOF, ""), proof(secret, nonce)):
            return error_response(
                NotFound(
                    "There is no endpoint here for who cannot prove that they share ECOTONE_SNAPSHOT_SECRET; the "
                    "machines' clocks may differ by five minutes.",
                    param="path",
                )
            )
        tag, body = await run_in_threadpool(self._newest, services.builder.current)
        if request.headers.get("if-none-match") == tag:
            body = b""
        headers = {"etag": tag, SEAL: seal(secret, nonce, tag, body), "cache-control": "no-store"}
        return Response(body, 200 if body else 304, headers=headers, media_type="application/octet-stream")

    def _newest(self, current: Snapshot) -> tuple[str, bytes]:
        known, tag, body = self._packed
        if known is None or known.version != current.version:
            body = pack(elsewhere(current))
            tag = f'"{hashlib.sha256(body).hexdigest()}"'
            self._packed = (current, tag, body)
        return tag, body


def feed_routes() -> list[BaseRoute]:
    return [Route(PATH, _Feed().__call__, methods=["GET"])]
