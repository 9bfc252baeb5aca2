"""The first protocol of each connection: it reads until the first request line tells whose the connection is.

Paths of the gateway go to the data plane's protocol, all others to another one (the ASGI server's), each with the
transport and with every byte that came. Either may find later that a request is the other's: the ASGI side calls the
plane through its ASGI adapter, the plane's connection is given back by `Doorway.give_back`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from ecotone.app.connections import HEAD_SECONDS, TOO_MANY, TOO_SLOW, Limits, Unsent, refusal
from ecotone.gateway.lending import BehindProxies, CrossingConnection, LentConnection
from ecotone.gateway.origins import Origins, Proxies
from ecotone.gateway.paths import is_for_gateway
from ecotone.gateway.plane import Plane

_ROOM = 256


class Lent:
    """A connection that the plane has: what a server needs to know of it, in the place of its protocol."""

    __slots__ = ("_limits", "_unsent", "address", "connection", "transport")

    def __init__(self, connection: LentConnection, transport: asyncio.Transport, address: str, limits: Limits) -> None:
        self.connection = connection
        self.transport = transport
        self.address = address
        self._limits = limits
        self._unsent = Unsent()

    def shutdown(self) -> None:
        """The server is ending: the connection ends with its answer; an idle one now, or after a farewell."""
        if self._limits.farewell:
            self.connection.finish()
            asyncio.get_running_loop().call_later(self._limits.farewell, self.connection.shutdown)
        else:
            self.connection.shutdown()

    def end_if_stalled(self, now: float) -> bool:
        """End it when bytes wait for its client and it took none for too long; returns whether it was ended."""
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return False
        if not self._unsent.is_stalled(self.transport.get_write_buffer_size(), now, self._limits.stalled):
            return False
        self.transport.abort()
        return True


class Doorway:
    """Makes the first protocol of connections, and keeps account of those that the plane has.

    Args:
        plane: the data plane.
        other: makes the protocol for all other paths; it has `shutdown`, and gives back what `counted` says when it
            is lost.
        connections: all that is open, for who ends the server; each has `shutdown`.
        limits: what holds for each of them.
        proxies: their connections are many people's, and not counted as one address's; what they say of a request's
            address is believed.
        origins: whose pages may call the gateway.
    """

    def __init__(
        self,
        plane: Plane,
        other: Callable[[], Any],
        connections: set[Any],
        limits: Limits,
        proxies: Proxies,
        origins: Origins,
    ) -> None:
        self.limits = limits
        self.connections = connections
        self.proxies = proxies
        self._plane = plane
        self._behind = BehindProxies(plane, proxies)
        self._origins = origins
        self._other = other
        self._lent: dict[Any, Lent] = {}

    def __call__(self) -> "Front":
        return Front(self)

    def is_too_many(self, address: str) -> bool:
        """Count a connection; returns whether its address has too many."""
        if not self.limits.enter(address):
            return False
        self.forget_lost()
        return self.limits.open[address] > self.limits.per_address

    def lend(self, transport: asyncio.Transport, address: str, data: bytes) -> Any:
        """Give a connection to the plane."""
        if len(self._lent) > 2 * len(self._plane.connections) + _ROOM:
            self.forget_lost()
        connection = self._connection(transport)
        lent = self._lent[connection] = Lent(connection, transport, address, self.limits)
        self.connections.add(lent)
        _give(transport, connection, data)
        return lent

    def _connection(self, transport: asyncio.Transport) -> LentConnection:
        peer = transport.get_extra_info("peername")
        trusted = isinstance(peer, tuple) and self.proxies.trusts(str(peer[0]))
        desk = self._behind if trusted else self._plane
        if self._origins:
            return CrossingConnection(desk, self._plane.connections, self.give_back, self._origins)
        return LentConnection(desk, self._plane.connections, self.give_back)

    def pass_on(self, transport: asyncio.Transport, address: str, data: bytes) -> Any:
        """Give a connection to the other protocol."""
        other = self._other()
        other.counted = address
        _give(transport, other, data)
        return other

    def give_back(self, connection: Any, transport: asyncio.Transport, data: bytes) -> None:
        """Take a connection back from the plane; the request that begins with `data` is another's."""
        lent = self._lent.pop(connection, None)
        self._plane.connections.discard(connection)
        self.connections.discard(lent)
        transport.resume_reading()
        self.pass_on(transport, lent.address if lent is not None else "", data)

    def forget_lost(self) -> None:
        """Drop what the plane has no more."""
        theirs = self._plane.connections
        for connection in [c for c in self._lent if c not in theirs]:
            lent = self._lent.pop(connection)
            self.connections.discard(lent)
            self.limits.leave(lent.address)

    def end_stalled(self, now: float) -> int:
        """End the plane's connections whose clients take nothing; returns how many."""
        self.forget_lost()
        return sum(lent.end_if_stalled(now) for lent in list(self._lent.values()))


class Front(asyncio.Protocol):
    """Reads the first request line. What is none, or never comes, is answered as the ASGI server would."""

    __slots__ = ("_address", "_began", "_doorway", "_ending", "_timer", "_transport")

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway
        self._began = b""
        self._ending = False
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._address = "" if self._doorway.proxies.trusts(address) else address
        self._doorway.connections.add(self)
        if self._doorway.is_too_many(self._address):
            self._refuse(*TOO_MANY)
            return
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse, *TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._leave()
            self._doorway.limits.leave(self._address)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._began = self._began + data if self._began else data
        ours = is_for_gateway(self._began)
        if ours is None:
            return
        self._leave()
        give = self._doorway.lend if ours else self._doorway.pass_on
        protocol = give(transport, self._address, self._began)
        self._began = b""
        if self._ending:
            protocol.shutdown()

    def shutdown(self) -> None:
        """The server is ending: a request that is on its way is still answered during a farewell."""
        self._ending = True
        if self._doorway.limits.farewell:
            asyncio.get_running_loop().call_later(self._doorway.limits.farewell, self._end)
        else:
            self._end()

    def end_if_stalled(self, now: float) -> bool:
        return False

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _leave(self) -> None:
        """The connection is another's, or lost."""
        self._transport = None
        self._doorway.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: bytes, text: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(refusal(status, text))
            self._transport.close()


def _give(transport: asyncio.Transport, protocol: Any, data: bytes) -> None:
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if data and not transport.is_closing():
        protocol.data_received(data)
