"""Ray Serve: the built-in engine, or vLLM, as replicas on a cluster that grow and shrink with the load."""

import math
import os
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ecotone.engines.errors import EngineFailed, NotServable
from ecotone.engines.kinds import vllm
from ecotone.engines.kinds.kind import Hear, Options, Running, Spec
from ecotone.engines.kinds.relayed import Relayed, check_arguments, refuse
from ecotone.settings import Settings

SCALE: Final = {
    "target_ongoing_requests": (0.1, 10_000),
    "upscale_delay_s": (0, 3600),
    "downscale_delay_s": (0, 86_400),
    "look_back_period_s": (0.1, 3600),
    "cpus": (0, 1024),
    "gpus": (0, 64),
    "queue": (0, 100_000),
}
"""Arguments of how an application grows, and their bounds; the first four are Serve's own."""
_MOST_REPLICAS = 1000
_ENGINES = ("builtin", "vllm")
_NOT_PASSED = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_ID", "RAY_RUNTIME_ENV")


class Ray:
    takes_files = True
    spreads = True
    libraries = ("ray",)
    extra = "ray"

    def check(self, options: Options) -> None:
        refuse(options, "url", "key_env", "served_as", "location", "device", kind="ray")
        engine = options.arguments.get("engine", "builtin")
        if engine not in _ENGINES:
            raise NotServable(f"The argument engine is {engine!r}; {' or '.join(_ENGINES)} is expected.")
        more = vllm.ARGUMENTS if engine == "vllm" else frozenset()
        check_arguments(options, frozenset({"engine", *SCALE}) | more, f"ray with {engine}")
        if not 1 <= options.replicas <= (options.most_replicas or options.replicas) <= _MOST_REPLICAS:
            raise NotServable(f"replicas are 1 to {_MOST_REPLICAS}, the smaller number first, e.g. 1..4.")
        scale_of(options)

    def start(self, spec: Spec, hear: Hear) -> Running:
        settings = Settings.from_environment()
        if not settings.ray_address:
            raise EngineFailed(
                "No Ray cluster is named: set ECOTONE_RAY_ADDRESS. For one on this machine run `ray start --head` and "
                "set it to auto."
            )
        serve_url = settings.ray_serve_url or _serve_url(settings.ray_address)
        near = urlsplit(serve_url).hostname in ("127.0.0.1", "localhost", "::1")
        more = {
            "address": settings.ray_address,
            "serve_url": serve_url,
            "serve_host": "127.0.0.1" if near else "0.0.0.0",  # noqa: S104  the replicas ask for a key
            "environment": _environment(),
            "home": str(spec.root / "engines" / "ray"),
            "replica": replica_of(spec),
            "scale": scale_of(spec.options),
        }
        dialect = "vllm" if spec.options.arguments.get("engine") == "vllm" else "openai"
        return Relayed("ray", spec, hear, more=more, dialect=dialect)


def scale_of(options: Options) -> dict[str, float]:
    """How the application grows. Raises NotServable for what is no number within its bounds."""
    found: dict[str, float] = {
        "min_replicas": options.replicas,
        "max_replicas": options.most_replicas or options.replicas,
    }
    for name, (least, most) in SCALE.items():
        said = options.arguments.get(name)
        if said is None:
            continue
        try:
            found[name] = float(said)
        except ValueError:
            found[name] = math.nan
        if not least <= found[name] <= most:
            raise NotServable(f"The argument {name} is {said!r}; a number from {least} to {most} is expected.")
    return found


def replica_of(spec: Spec) -> dict[str, Any]:
    """What a replica is made with; another value is another version, which Serve rolls out."""
    options, engine = spec.options, spec.options.arguments.get("engine", "builtin")
    found: dict[str, Any] = {
        "model": spec.model,
        "revision": spec.revision,
        "engine": engine,
        "folder": None if spec.folder is None else str(spec.folder),
        "base": None if spec.base is None else str(spec.base),
        "threads": options.threads or max(1, int(scale_of(options).get("cpus", 1))),
        "info": spec.info,
    }
    if engine == "vllm":
        arguments = {name: value for name, value in options.arguments.items() if name in vllm.ARGUMENTS}
        command = {"command": [Settings.from_environment().vllm], "environment": {}, **vllm.WATCH}
        return {**found, **command, "options": {"slots": options.slots, "arguments": arguments}}
    own = msgspec.to_builtins(options)
    kept = {name: own[name] for name in ("quantise", "slots") if own.get(name) is not None}
    return {**found, "options": {**kept, "threads": found["threads"]}}


def _serve_url(address: str) -> str:
    host = urlsplit(address).hostname if address.startswith("ray://") else None
    return f"http://{host or '127.0.0.1'}:8000"


def _environment() -> dict[str, str]:
    """Ray's own variables of the server's environment, its token among them."""
    found = {n: v for n, v in os.environ.items() if n.startswith("RAY_") and n not in _NOT_PASSED}
    return {**found, "RAY_USAGE_STATS_ENABLED": "0"}


KIND = Ray()
