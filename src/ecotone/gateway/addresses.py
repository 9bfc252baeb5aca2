"""Which addresses a backend may have. Administrators may name loopback and private hosts; never a cloud's metadata.

Checked when a backend is added, in the form that the HTTP client makes of it, and again at each connection: by
`GuardedResolver`, as a name may lead elsewhere later, and by `guarded_socket`, which sees what no resolver sees.
"""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from ecotone.vocabulary import Invalid

# Metadata services outside of the link-local ranges: AWS (IPv6), Alibaba, Azure's wire server, Oracle.
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
# Networks whose last 32 bits are an IPv4 address: compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, 8215).
_IPV4_BEHIND = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")))


def check_address(url: str) -> None:
    """Refuse what no provider's address is, and addresses that lead to a cloud's metadata.

    Raises:
        Invalid: saying what was expected.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, (URL(url).raw_host or "").lower().rstrip(".")
    except ValueError:
        parts, port, host = urlsplit(""), None, ""
    if parts.scheme not in ("http", "https") or not host or port == 0 or not url.isprintable() or " " in url:
        raise Invalid(f"{url!r} is no address of an API; expected is e.g. https://api.example.com/v1.", param="url")
    if len(url) > 500:
        raise Invalid("The address is longer than 500 characters.", param="url")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid("The address holds a user, password or query; a key belongs into --key-env.", param="url")
    if host in _METADATA_NAMES:
        raise Invalid("That address leads to a cloud's metadata service.", param="url")
    literal = _literal(host)
    if literal is not None and is_forbidden(literal):
        raise Invalid(
            f"{literal} is no address of a provider (link-local, metadata, multicast or unspecified).", param="url"
        )


def is_forbidden(address: str) -> bool:
    """Whether no request may go to this IP address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and (inner := _ipv4_in(found)) is not None and _leads_astray(inner):
        return True
    return _leads_astray(found)


def _leads_astray(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return found.is_link_local or found.is_multicast or found.is_unspecified or str(found) in _METADATA


def _ipv4_in(found: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address may end at."""
    if any(found in network for network in _IPV4_BEHIND):
        return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    teredo = found.teredo
    return found.ipv4_mapped or found.sixtofour or (teredo[1] if teredo else None)


def _literal(host: str) -> str | None:
    """The IP address that a host is, however it is written (`0x7f.1`, `2130706433`); None for a name."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def guarded_socket(told: AddrInfoType) -> socket.socket:
    """A socket for a connection to an address; OSError for one that no request may go to."""
    family, kind, protocol, _, address = told
    if is_forbidden(str(address[0])):
        raise OSError(None, "no request may go to that address")
    return socket.socket(family, kind, protocol)


class GuardedResolver(AbstractResolver):
    """Resolves names in a thread and leaves out addresses that no request may go to."""

    def __init__(self) -> None:
        self._resolver: Any = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._resolver is None:
            self._resolver = ThreadedResolver()
        found: list[ResolveResult] = await self._resolver.resolve(host, port, family)
        kept = [address for address in found if not is_forbidden(address["host"])]
        if not kept:
            raise OSError(None, "the name leads to an address that no request may go to")
        return kept

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()
