"""One replica of a model in Ray Serve: the built-in engine in the replica's own process, or vLLM beside it."""

import hmac
import os
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


class Replica:
    """A model, loaded; it answers the wire of the built-in engine.

    Args:
        spec: `model`, `revision`, `engine` ("builtin" or "vllm"), `key` (who calls has to say it), `threads`, `options`
            of the engine, `info`, and what `weights.folders` needs.

    Raises:
        Unloadable: the model cannot be served; Serve tells it as the reason of the failed deployment.
    """

    async def __init__(self, spec: dict[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        self._key = str(spec.get("key") or os.environ.get("ECOTONE_ENGINE_KEY") or "")
        if threads := spec.get("threads"):  # read by torch's libraries when they are first imported, which is below
            os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
        from ecotone.engines.cluster.weights import folders

        folder, base = folders(spec)
        info = {"model": spec["model"], "revision": spec["revision"], **(spec.get("info") or {})}
        self._far: Any = None
        self._engine: Any = None
        if spec.get("engine") == "vllm":
            self._app = await self._vllm(spec, folder, base, info)
        else:
            self._app = self._builtin(spec, folder, base, info)

    def __serve_build_asgi_app__(self) -> App:
        return Guarded(self._app, self._key)

    async def check_health(self) -> None:
        """Asked by Serve; an error has the replica replaced."""
        well = await self._far.well() if self._far is not None else self._engine.health()["ok"]
        if not well:
            raise RuntimeError("the engine does not get on")

    async def __del__(self) -> None:
        if self._far is not None:
            await self._far.stop(5.0)

    def _builtin(self, spec: dict[str, Any], folder: Path, base: Path | None, info: dict[str, Any]) -> App:
        from ecotone.engines.server.folders import plan
        from ecotone.engines.server.opening import application, opened

        planned = plan(folder, base, info.get("pipeline_tag"))
        self._engine = opened(planned, spec.get("options") or {})
        found: App = application(self._engine, planned, self._engine.info() | info)
        return found

    async def _vllm(self, spec: dict[str, Any], folder: Path, base: Path | None, info: dict[str, Any]) -> App:
        from ecotone.engines.kinds.relay.face import application
        from ecotone.engines.kinds.relay.vllm import Started

        place = Path(tempfile.mkdtemp(prefix="ecotone-"))
        files = {"folder": str(folder), "base": None if base is None else str(base)}
        more = {"socket": str(place / "e.sock"), "log": str(place / "log"), "info": info}
        self._far = Started({**spec, **files, **more})
        found: App = application(self._far, {**await self._far.start(), **info})
        return found


class Guarded:
    """Lets those calls through that say the key: Serve's port asks nobody who he is."""

    def __init__(self, app: App, key: str) -> None:
        self._app = app
        self._wanted = f"Bearer {key}".encode() if key else None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self._wanted is not None:
            said = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not hmac.compare_digest(said, self._wanted):
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        if scope["type"] == "lifespan":
            await _no_lifespan(receive, send)
            return
        await self._app(scope, receive, send)


async def _no_lifespan(receive: Any, send: Any) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
