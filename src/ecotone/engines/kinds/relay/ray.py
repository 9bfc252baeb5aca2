"""A Ray cluster as what stands behind: one Serve application for each revision of a model.

A new revision is an application beside the old one, which ends once the gateway has gone over: calls are decided for a
revision, so one must never be answered by another. Other changes (replicas, options) are Serve's to roll within the
application. Serve loses calls that a replica had taken when it died (ray #47219): they are sent again from here while
nothing of an answer has come.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ecotone.engines.kinds.relay.far import Ended, Far, Fault
from ecotone.engines.server.errors import Unloadable

_LOOK_SECONDS = 2.0
_MISSES = 5


class OnRay(Far):
    """An application of a cluster.

    Spec: `address` of the cluster, `serve_url` (where its Serve answers) and `serve_host` (where it listens, if it is
    started from here), `environment` (Ray's own variables), `home` (folder of keys and owners), `replica` (the spec of
    replicas), `scale` (see `cluster.application`).
    """

    kind = "ray"
    attempts = 7
    speaks_ours = True

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        self._spec = spec
        self._app = app_name(spec)
        self._home = Path(spec["home"])
        self._me = secrets.token_hex(8)
        self._serve: Any = None
        self.base = f"{spec['serve_url'].rstrip('/')}/{self._app}"
        self._watching: asyncio.Task[str] | None = None

    async def start(self) -> dict[str, Any]:
        self.progress("connecting to the Ray cluster")
        os.environ.update(self._spec["environment"])
        await asyncio.to_thread(self._connect)
        self.progress("waiting for replicas")
        self._own()
        try:
            await asyncio.to_thread(self._run)
        except Exception as error:  # Ray's own errors are many
            raise self._why(error) from None
        self.open()
        status, raw = await self._info()
        if status != 200:
            raise Ended(f"The application answers {status} at {self.base}/info: {raw[:200].decode('utf-8', 'replace')}")
        self._watching = asyncio.create_task(self._watch())
        found: dict[str, Any] = json.loads(raw)
        return {**found, "application": self._app, **self._spec["scale"]}

    async def well(self) -> bool:
        status, _ = await self.ask("/health")
        return status == 200

    async def ended(self) -> str:
        assert self._watching is not None
        return await self._watching

    async def figures(self) -> dict[str, Any]:
        return {"replicas": await asyncio.to_thread(self._replicas)}

    async def stop(self, seconds: float) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await super().stop(seconds)
        if self._serve is not None and self._is_mine():
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self._serve.delete, self._app, _blocking=False)

    # -- Ray's side, in threads --------------------------------------------------------------------------------------
    def _connect(self) -> None:
        import ray
        from ray import serve

        try:
            ray.init(address=self._spec["address"], namespace="ecotone", log_to_driver=False, logging_level="warning")
        except Exception as error:
            said = " ".join(str(error).split())[:400]
            raise Ended(
                f"The Ray cluster at {self._spec['address']!r} (ECOTONE_RAY_ADDRESS) cannot be reached: {said}"
            ) from None
        port = urlsplit(self._spec["serve_url"]).port or 8000
        serve.start(http_options={"host": self._spec["serve_host"], "port": port})
        self._serve = serve

    def _run(self) -> None:
        from ecotone.engines.cluster.application import build

        args = {**self._spec["replica"], "key": self._key(), "scale": self._spec["scale"]}
        self._serve.run(build(args), name=self._app, route_prefix=f"/{self._app}", blocking=False)

    def _replicas(self) -> int:
        found = self._serve.status().applications.get(self._app)
        if found is None:
            return 0
        return sum(d.replica_states.get("RUNNING", 0) for d in found.deployments.values())

    def _why(self, error: Exception) -> Exception:
        """What failed, in the words of the replica where it said something."""
        told = str(error)
        with contextlib.suppress(Exception):
            for deployment in self._serve.status().applications[self._app].deployments.values():
                told = deployment.message or told
        if "Unloadable" in told:
            return Unloadable(told.rpartition("Unloadable:")[2].strip().split("\n")[0][:1000])
        return Ended(f"The Ray cluster did not bring it up: {told[-3000:]}")

    # -- watching ----------------------------------------------------------------------------------------------------
    async def _info(self) -> tuple[int, bytes]:
        """Serve's proxy learns of a new application a moment after it runs."""
        for _ in range(50):
            with contextlib.suppress(Fault):
                status, raw = await self.ask("/info")
                if status != 404:
                    return status, raw
            await asyncio.sleep(0.1)
        return await self.ask("/info")

    async def _watch(self) -> str:
        misses = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                found = (await asyncio.to_thread(self._serve.status)).applications.get(self._app)
                gone = "it is not there any more" if found is None else None
                if found is not None and found.status in ("DEPLOY_FAILED", "DELETING"):
                    gone = f"it is {found.status}: {found.message}"
            except Exception as error:  # the cluster's head is away
                gone = f"the cluster does not answer ({type(error).__name__})"
            misses = misses + 1 if gone else 0
            if gone and misses >= _MISSES:
                return f"The application {self._app} of the Ray cluster has ended: {gone}"

    # -- who owns the application ------------------------------------------------------------------------------------
    def _own(self) -> None:
        """From here on this relay ends the application; one that ran it before (other options) leaves it."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._home / f"{self._app}.owner").write_text(self._me)

    def _is_mine(self) -> bool:
        try:
            return (self._home / f"{self._app}.owner").read_text() == self._me
        except OSError:
            return False

    def _key(self) -> str:
        """The application's key: the same at each start, so that running replicas stay."""
        file = self._home / f"{self._app}.key"
        draft = self._home / f".{self._app}.{self._me}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
            new.write(secrets.token_hex(24))
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)  # whole, or not at all
        draft.unlink()
        key = file.read_text()
        self.headers = {"authorization": f"Bearer {key}"}
        return key


def app_name(spec: Mapping[str, Any]) -> str:
    """One for each installation, model and revision."""
    said = "|".join((str(spec["home"]), spec["info"]["model"], spec["info"]["revision"]))
    name = spec["info"]["model"].rpartition("/")[2].lower()
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name)[:40]
    return f"{plain}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
