"""A model as a Ray Serve application: what Serve's configuration file names as its import path, and what `ecotone
deploy --kind ray` runs."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from ecotone import __version__
from ecotone.engines.cluster.replica import Replica

DEPLOYMENT = "model"
_SLOTS = 32
_WAITING = 1000


def build(args: dict[str, Any]) -> Application:
    """The application of one revision of a model.

    Args:
        args: what `replica.Replica` takes as its spec, and `scale`: `min_replicas`, `max_replicas`,
            `target_ongoing_requests`, `upscale_delay_s`, `downscale_delay_s`, `cpus`, `gpus`, `queue`. Keys of
            `scale` may be left out where the configuration file says the same of the deployment.
    """
    spec = {name: value for name, value in args.items() if name != "scale"}
    return deployment(spec, args.get("scale") or {}).bind(spec)


def deployment(spec: Mapping[str, Any], scale: Mapping[str, Any]) -> Any:
    """The Serve deployment. A change of the revision or of the engine's options is one of what replicas are made with,
    so Serve rolls it: new replicas first, as a model with a single one would have a gap else."""
    slots = int((spec.get("options") or {}).get("slots") or _SLOTS)
    least, most = int(scale.get("min_replicas", 1)), int(scale.get("max_replicas", 1))
    size: dict[str, Any] = {"num_replicas": least}
    if most > least:
        names = ("target_ongoing_requests", "upscale_delay_s", "downscale_delay_s", "look_back_period_s")
        chosen = {name: float(scale[name]) for name in names if name in scale}
        size = {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": max(1.0, slots * 0.75),
                **chosen,
            }
        }
    made = _made(size, slots, scale)
    try:
        return made.options(version=_version(spec), _internal=True)
    except TypeError:  # not public: without it Serve replaces all replicas at each deployment, which costs but is right
        return made


def _version(spec: Mapping[str, Any]) -> str:
    """The same for replicas that are made of the same: those that run stay, when only their number changes."""
    return hashlib.sha256(json.dumps([__version__, spec], sort_keys=True).encode()).hexdigest()[:16]


def _made(size: Mapping[str, Any], slots: int, scale: Mapping[str, Any]) -> Any:
    actor = {"num_cpus": float(scale.get("cpus", 1)), "num_gpus": float(scale.get("gpus", 0))}
    return serve.deployment(
        serve.ingress()(Replica),
        name=DEPLOYMENT,
        max_ongoing_requests=slots + int(scale.get("queue", slots)),
        max_queued_requests=_WAITING,
        max_surge_percent=100,
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=20,
        max_constructor_retry_count=2,
        ray_actor_options=actor,
        **size,
    )
