"""Which addresses a backend may have. Administrators may name loopback and private hosts; never a cloud's metadata.

Checked when a backend is added and again, by `GuardedResolver`, at each connection: a name may lead elsewhere later,
and the connection goes to the address that was checked.
"""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from ecotone.vocabulary import Invalid

# Metadata services outside of the link-local ranges: AWS (IPv6), Alibaba, Azure's wire server, Oracle.
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check_address(url: str) -> None:
    """Refuse what no provider's address is, and addresses that lead to a cloud's metadata.

    Raises:
        Invalid: saying what was expected.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise Invalid(f"{url!r} is no address of an API; expected is e.g. https://api.example.com/v1.", param="url")
    if len(url) > 500:
        raise Invalid("The address is longer than 500 characters.", param="url")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid("The address holds a user, password or query; a key belongs into --key-env.", param="url")
    if parts.hostname.lower().rstrip(".") in _METADATA_NAMES:
        raise Invalid("That address leads to a cloud's metadata service.", param="url")
    literal = _literal(parts.hostname)
    if literal is not None and is_forbidden(literal):
        raise Invalid(
            f"{literal} is no address of a provider (link-local, metadata, multicast or unspecified).", param="url"
        )


def is_forbidden(address: str) -> bool:
    """Whether no request may go to this IP address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found in _NAT64:
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        else:
            found = found.ipv4_mapped or found.sixtofour or found
    return found.is_link_local or found.is_multicast or found.is_unspecified or str(found) in _METADATA


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
