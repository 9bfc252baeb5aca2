"""The request path in front of local engines and providers, and the snapshot that it reads.

On the path: parse, admit (key, route, decision, data class), relay, meter. These modules import no database, no
catalogue and no web framework; `backends`, `routing` and `builder` do, in the server process. Names are imported when
they are first asked for, so that a process that only relays never loads those.
"""

import importlib
from importlib.machinery import ExtensionFileLoader, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecotone.gateway.backends import Backend, BackendExists, BackendNotFound, Backends
    from ecotone.gateway.builder import SnapshotBuilder
    from ecotone.gateway.kept_limits import Allowance, KeptLimits, ScopeLimits
    from ecotone.gateway.plane import Plane
    from ecotone.gateway.pricebook import PriceBook
    from ecotone.gateway.routing import Route, RouteNotFound, RouteOptions, Routes
    from ecotone.gateway.snapshot import Snapshot

__all__ = [
    "Allowance",
    "Backend",
    "BackendExists",
    "BackendNotFound",
    "Backends",
    "KeptLimits",
    "Plane",
    "PriceBook",
    "Route",
    "RouteNotFound",
    "RouteOptions",
    "Routes",
    "ScopeLimits",
    "Snapshot",
    "SnapshotBuilder",
    "compiled",
]


def compiled() -> bool:
    """Whether the request path is here as C that mypyc made from it when the wheel was built. Imports none of it."""
    spec = PathFinder.find_spec("plane", [f"{path}/plane" for path in __path__])
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)


_HOMES = {
    "backends": ("Backend", "BackendExists", "BackendNotFound", "Backends"),
    "builder": ("SnapshotBuilder",),
    "kept_limits": ("Allowance", "KeptLimits", "ScopeLimits"),
    "routing": ("Route", "RouteNotFound", "RouteOptions", "Routes"),
    "plane": ("Plane",),
    "pricebook": ("PriceBook",),
    "snapshot": ("Snapshot",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
