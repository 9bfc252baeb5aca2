"""The request path in front of local engines and providers, and the snapshot that it reads.

On the path: parse, admit (key, route, decision, data class), relay, meter. These modules import no database, no
catalogue and no web framework; `builder` alone does, in the server process.
"""

from ecotone.gateway.backends import Backend, BackendExists, BackendNotFound, Backends
from ecotone.gateway.builder import SnapshotBuilder
from ecotone.gateway.face import Gateway
from ecotone.gateway.routing import Route, RouteNotFound, Routes
from ecotone.gateway.snapshot import Snapshot

__all__ = [
    "Backend",
    "BackendExists",
    "BackendNotFound",
    "Backends",
    "Gateway",
    "Route",
    "RouteNotFound",
    "Routes",
    "Snapshot",
    "SnapshotBuilder",
]
