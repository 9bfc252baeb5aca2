"""Local engines: which models are served, the processes that serve them, and the built-in engine itself.

The server process starts and watches engines here and never imports torch; `server` is what runs in the child. Names
are loaded when first used, because the child imports this package and must not load the database.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecotone.engines.entities import Deployment
    from ecotone.engines.errors import DeploymentNotFound, EngineFailed, ExtraMissing, Served
    from ecotone.engines.kinds.kind import Options
    from ecotone.engines.services import Engines
    from ecotone.engines.showing import deployment_of, visible

_ROOMS = {
    "Deployment": "entities",
    "DeploymentNotFound": "errors",
    "EngineFailed": "errors",
    "Engines": "services",
    "ExtraMissing": "errors",
    "Options": "kinds.kind",
    "Served": "errors",
    "deployment_of": "showing",
    "visible": "showing",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


__all__ = [
    "Deployment",
    "DeploymentNotFound",
    "EngineFailed",
    "Engines",
    "ExtraMissing",
    "Options",
    "Served",
    "deployment_of",
    "visible",
]
