"""What a Xet token still allows. It stands for its holder's token and one repository, and both are asked at each use.

So a revoked user, a repository made private and a gate that was closed count at once (within the two seconds that an
answer is remembered), not when the token ends.
"""

import threading
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ecotone.accounts import ANONYMOUS, Actor
from ecotone.catalog import Model
from ecotone.storage import BadToken
from ecotone.storage.xet import Grant
from ecotone.vocabulary import Forbidden, NotFound, Unauthenticated

REMEMBERED_SECONDS = 2.0
MOST_REMEMBERED = 4096


class Grants:
    """Tokens of the store, checked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Grant, tuple[float, Model]] = {}

    async def reading(self, request: Request) -> tuple[Grant, Model]:
        """What the request's token allows at the address it came to, and its repository.

        Raises:
            Unauthenticated: when it is no token of this part of the store, or its holder may do this no longer.
        """
        return await run_in_threadpool(self._reading, request)

    async def writing(self, request: Request) -> Grant:
        """The same, for writing. Raises Forbidden when the token may only read."""
        grant, _ = await self.reading(request)
        if not grant.write:
            raise Forbidden("This token may only read; ask the hub for a xet-write-token.")
        return grant

    def _reading(self, request: Request) -> tuple[Grant, Model]:
        services = request.app.state.services
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("A token of this store is needed; the hub's xet-read-token gives one out.")
        try:
            grant = services.storage.xet.grant(token.strip())
            if grant.scope != request.path_params["scope"]:
                raise BadToken("for another part of the store")
        except BadToken as error:
            raise Unauthenticated(error.message) from None
        now = time.monotonic()
        known = self._known.get(grant)
        if known is not None and known[0] > now:
            return grant, known[1]
        model = _checked(services, grant)
        with self._lock:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[grant] = (now + REMEMBERED_SECONDS, model)
        return grant, model


def _checked(services: Any, grant: Grant) -> Model:
    """The repository, when the holder of a grant may still read it, or write it, by the hub's own rules."""
    holder: Actor | None = services.accounts.actor_of(grant.holder) if grant.holder else ANONYMOUS
    try:
        if holder is None:
            raise Forbidden("its holder is gone")
        model: Model = services.catalog.model_by_key(grant.repo, viewer=holder)
        if grant.write:
            services.catalog.check_contributor(model, holder)
            if services.catalog.tenant(model, holder) != grant.tenant:
                raise Forbidden("its holder may write to another part of the store by now")
        else:
            services.catalog.check_gate(model, holder)
    except (Forbidden, NotFound):
        raise Unauthenticated("The token is no longer valid; ask the hub for a new one.") from None
    return model
