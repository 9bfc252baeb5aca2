"""What an IP address is to us, however it is written: a cloud's metadata, a place inside, or the public network. Pure.

Whoever lets users or administrators name an address (backends, webhooks) checks it with these rules: as it stands in
the URL, and again the address that a connection is made to, since a name may lead elsewhere later.
"""

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Metadata services outside of the link-local ranges: AWS (IPv6), Alibaba, Azure's wire server, Oracle.
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
# Networks whose last 32 bits are an IPv4 address: compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, 8215).
_IPV4_BEHIND = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")))
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{0,16}|[0-9]{1,24}")


def literal_address(host: str) -> Address | None:
    """The IP address that a host is, also as the C library reads it (`0x7f.1`, `017700000001`); None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    parts = host.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *first, last = [_number(part) for part in parts]
    except ValueError:
        return None
    if any(value > 255 for value in first) or last >= 256 ** (4 - len(first)):
        return None
    whole = last
    for place, value in enumerate(first):
        whole |= value << (24 - 8 * place)
    return ipaddress.IPv4Address(whole)


def _number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


def is_forbidden(address: str | Address) -> bool:
    """Whether no request at all may go to an address: link-local, metadata, multicast, unspecified."""
    return any(_leads_astray(found) for found in _ends_at(address))


def is_public(address: str | Address) -> bool:
    """Whether an address, and each IPv4 address that packets to it may end at, is of the public network."""
    return all(found.is_global and not _leads_astray(found) for found in _ends_at(address))


def _ends_at(address: str | Address) -> tuple[Address, ...]:
    found = ipaddress.ip_address(address.partition("%")[0]) if isinstance(address, str) else address
    inner = _ipv4_in(found) if isinstance(found, ipaddress.IPv6Address) else None
    if inner is None:
        return (found,)
    if found.ipv4_mapped is not None:  # type: ignore[union-attr]  # the same place in another spelling
        return (inner,)
    return (found, inner)


def _leads_astray(found: Address) -> bool:
    return found.is_link_local or found.is_multicast or found.is_unspecified or str(found) in _METADATA


def _ipv4_in(found: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address may end at."""
    if any(found in network for network in _IPV4_BEHIND):
        return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    teredo = found.teredo
    return found.ipv4_mapped or found.sixtofour or (teredo[1] if teredo else None)
