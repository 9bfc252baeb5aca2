"""Where a request comes from: what trusted proxies say about it, and pages of which origins may send it.

Pure functions on the values of a head; names of headers are in lower case, as `plane.heads.Head.fields` has them.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network
Fields = Mapping[bytes, bytes]

_REMEMBERED: Final = 4096
_LONGEST_REQUESTED: Final = 2048
_TOKENS: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_HOST: Final = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
_METHODS: Final = b"GET, POST, DELETE"
_PREFLIGHT_SECONDS: Final = 600


class Proxies:
    """The proxies whose X-Forwarded-* is believed; from anybody else these headers are as if they were not there."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether an address is one of a trusted proxy."""
        if not self._networks:
            return False
        found = self._known.get(address)
        if found is None:
            found = _within(address, self._networks)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address] = found
        return found

    def client(self, peer: str, fields: Fields) -> str:
        """The address that a request came from: the peer's, or, when that is a trusted proxy, the last address in
        X-Forwarded-For that is none. What is no address there ends the search: the proxy before it is the client."""
        if not self._networks or not self.trusts(peer):
            return peer
        told = fields.get(b"x-forwarded-for")
        if told is None:
            return peer
        found = peer
        for hop in reversed(told.decode("latin-1").split(",")):
            address = _address(hop.strip())
            if address is None:
                break
            found = address
            if not self.trusts(found):
                break
        return found

    def secure(self, peer: str, fields: Fields, *, peer_secure: bool) -> bool:
        """Whether the client spoke TLS: to us, or to a trusted proxy that says so."""
        told = fields.get(b"x-forwarded-proto")
        if told is None or not self.trusts(peer):
            return peer_secure
        return told.rpartition(b",")[2].strip().lower() == b"https"

    def host(self, peer: str, fields: Fields) -> bytes | None:
        """The host that the client asked for; None when none was named, or in a form that no host has."""
        told = fields.get(b"x-forwarded-host")
        if told is None or not self.trusts(peer):
            return fields.get(b"host")
        found = told.rpartition(b",")[2].strip()
        return found if _HOST.fullmatch(found) else None


class Origins:
    """Origins whose pages may call the gateway (Fetch standard, CORS protocol); none unless listed.

    Answers never allow credentials: a page sends its key itself, no cookie and no client certificate goes along.

    Args:
        listed: origins as browsers send them (`https://app.example`), or `*` for any.
    """

    __slots__ = ("_any", "_lines")

    def __init__(self, listed: Sequence[str]) -> None:
        self._any = "*" in listed
        self._lines = {origin.encode(): _lines(origin.encode()) for origin in listed if origin != "*"}

    def __bool__(self) -> bool:
        return self._any or bool(self._lines)

    def fields(self, origin: bytes | None) -> bytes:
        """Lines to add to the head of an answer, each with its line end; empty without an origin or while CORS is
        off. The answer depends on the origin, so caches are told."""
        if origin is None or not self:
            return b""
        if self._any:
            return b"access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n"
        return self._lines.get(origin, b"vary: origin\r\n")

    def preflight(self, method: bytes, fields: Fields) -> bytes | None:
        """Lines of a 200 answer to a preflight, which carries no key and so is answered before one is asked for; None
        when the request is none, or its origin is not listed."""
        if method != b"OPTIONS" or not self:
            return None
        origin, wanted = fields.get(b"origin"), fields.get(b"access-control-request-method")
        if origin is None or wanted is None or not (self._any or origin in self._lines):
            return None
        names = fields.get(b"access-control-request-headers", b"").strip()
        allowed = b""
        if names and len(names) <= _LONGEST_REQUESTED and _TOKENS.fullmatch(names):
            allowed = b"access-control-allow-headers: " + names + b"\r\n"
        return b"%baccess-control-allow-methods: %b\r\n%baccess-control-max-age: %d\r\n" % (
            self.fields(origin),
            _METHODS,
            allowed,
            _PREFLIGHT_SECONDS,
        )


def _lines(origin: bytes) -> bytes:
    return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: *\r\nvary: origin\r\n" % origin


def _address(hop: str) -> str | None:
    """The address of a hop, which some proxies write with a port; None for anything else."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ip_address(hop))
    except ValueError:
        return None


def _within(address: str, networks: Sequence[Network]) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any(found in network or (mapped is not None and mapped in network) for network in networks)
