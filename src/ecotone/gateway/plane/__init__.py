"""The gateway's data plane: protocol classes on the event loop, from a client's bytes to a backend's and back.

Nothing between a request and its backend waits for a database, a lock or a disk flush. `Plane` is where it begins.
"""

from ecotone.gateway.plane.ground import FACES
from ecotone.gateway.plane.plane import Plane

__all__ = ["FACES", "Plane"]
