"""`GET /v1/models`: what a key may call: engines, routes, and the models that providers list."""

import asyncio
import time
from typing import Any, Final

import msgspec

from ecotone.gateway.admission import visible
from ecotone.gateway.answers import Refusal
from ecotone.gateway.dialects import AZURE
from ecotone.gateway.keys import provider_key, without_key
from ecotone.gateway.plane.upstreams import Place, Unreachable, Upstream
from ecotone.gateway.snapshot import Consumer, Snapshot, Target
from ecotone.settings.egress import Egress

_SECONDS: Final = 300.0
_MOST_LIST: Final = 4 * 1024 * 1024
_MOST_LISTED: Final = 50_000
_MOST_NAMES: Final = 5000


class Listing:
    """Asks providers for their models, and remembers what they told for a while.

    Args:
        egress: how the questions leave.
    """

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._known: dict[str, tuple[float, list[str]]] = {}

    async def rows(self, snapshot: Snapshot, consumer: Consumer) -> list[dict[str, Any]]:
        """The models that this project may call, as OpenAI's model objects."""
        found = {name: "local" for name in snapshot.targets if _callable(snapshot, consumer, name)}
        backends = [t for name, t in snapshot.backends.items() if _callable(snapshot, consumer, f"{name}/any")]
        lists = await asyncio.gather(*(self._models_of(target) for target in backends))
        for backend, models in zip(backends, lists, strict=True):
            found |= {f"{backend.name}/{model}": backend.name for model in models}
        for name, route in snapshot.routes.items():
            if any(_callable(snapshot, consumer, candidate.model) for candidate in route.candidates):
                found[name] = "route"
        return [{"id": n, "object": "model", "created": int(snapshot.built), "owned_by": o} for n, o in found.items()]

    def unlisted(self, snapshot: Snapshot, consumer: Consumer, wanted: str) -> list[dict[str, Any]]:
        """A model that may be called of a provider that tells no list."""
        backend, _, model = wanted.partition("/")
        known = self._known.get(backend)
        if not model or wanted in snapshot.targets or known is None or known[1]:
            return []
        if not _callable(snapshot, consumer, wanted):
            return []
        return [{"id": wanted, "object": "model", "created": int(snapshot.built), "owned_by": backend}]

    async def _models_of(self, target: Target) -> list[str]:
        known = self._known.get(target.name)
        if known is None or known[0] < time.monotonic():
            models = await _asked(target, self._egress)
            known = (time.monotonic() + (_SECONDS if models else 10.0), models)
            self._known[target.name] = known
        return known[1]


def row_of(rows: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """One of them. Raises Refusal: 404."""
    for row in rows:
        if row["id"] == wanted:
            return row
    text = f"The model {wanted!r} is not among those this key may call; GET /v1/models lists them."
    raise Refusal(404, "model_not_found", text, param="model")


def _callable(snapshot: Snapshot, consumer: Consumer, name: str) -> bool:
    target = visible(snapshot, consumer, name)
    ruling = snapshot.ruling(target, consumer) if target is not None else None
    return ruling is not None and ruling.allowed


class _Fetched:
    """The answer to one GET."""

    def __init__(self, done: "asyncio.Future[bytes]") -> None:
        self._done = done
        self._parts: list[bytes] = []
        self._status = self._size = 0

    def answer_began(self, status: int, headers: dict[bytes, bytes]) -> None:
        self._status = status

    def answer_data(self, parts: list[bytes], ended: bool) -> None:
        self._parts += parts
        self._size += sum(map(len, parts))
        if self._size > _MOST_LIST:
            self.answer_lost("too much", False)
        elif ended and not self._done.done():
            self._done.set_result(b"".join(self._parts) if self._status == 200 else b"")

    def answer_whole(self, headers: dict[bytes, bytes], body: bytes, now: float) -> None:
        self.answer_began(200, headers)
        self.answer_data([body], True)

    def answer_lost(self, how: str, again: bool) -> None:
        if not self._done.done():
            self._done.set_result(b"")

    def broke(self, error: Exception) -> None:
        self.answer_lost("", False)


async def _asked(target: Target, egress: Egress) -> list[str]:
    """Names of a provider's models; empty when it does not tell within three seconds."""
    key = provider_key(target.key_env)
    place = Place(target.url, target.socket, egress)
    lines = [f"GET {place.path}/models HTTP/1.1", f"host: {place.authority}", "user-agent: ecotone"]
    lines += [f"api-key: {key}" if target.dialect == AZURE else f"authorization: Bearer {key}"] if key else []
    lines += ["accept-encoding: identity", "connection: close", "", ""]
    connection: Upstream | None = None
    try:
        async with asyncio.timeout(3):
            connection = await place.connect(3)
            done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            connection.send(_Fetched(done), "\r\n".join(lines).encode("latin-1", "replace"))
            raw = await done
        found = msgspec.json.decode(raw or b"{}") if raw.count(b"{") + raw.count(b"[") < _MOST_LISTED else {}
        data = found.get("data") if isinstance(found, dict) else None
        names = [m.get("id") for m in data or () if isinstance(m, dict)] if isinstance(data, list) else []
        return [n for n in names if isinstance(n, str) and n and without_key(n, key) == n][:_MOST_NAMES]
    except (Unreachable, OSError, ValueError, TimeoutError, RecursionError):
        return []
    finally:
        if connection is not None:
            connection.leave()
