"""The way out to providers: which proxy their calls take, and what is called without it. Pure.

What is of this machine or of the house by its address never takes the proxy, whatever the settings say: it would be
another machine's loopback there, and a proxy may reach what this server may not.
"""

import base64
import contextlib
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import unquote_to_bytes, urlsplit

from ecotone.settings.addresses import METADATA_NAMES, Address, is_public, literal_address

_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_NAMED = re.compile(rf"(?:\*?\.)?(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?{_PORT}")
_BRACKETS = re.compile(rf"\[(?P<name>[0-9a-f:.]+)\]{_PORT}")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that is asked for tunnels.

    `tls`: whether it is spoken to by TLS. `authorization`: value of Proxy-Authorization, a secret; empty for none.
    """

    host: str
    port: int
    tls: bool = False
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Exempt:
    """What is called without the proxy: a network of addresses, or a name with all below it; `*` is everything."""

    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    def holds(self, host: str, literal: Address | None, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return literal is not None and literal in self.network
        return self.name == "*" or (literal is None and (host == self.name or host.endswith(f".{self.name}")))


@dataclass(frozen=True, slots=True)
class Egress:
    """How calls leave. Without a proxy, directly."""

    proxy: Proxy | None = None
    direct: tuple[Exempt, ...] = ()

    def proxy_for(self, host: str, port: int) -> Proxy | None:
        """The proxy that calls to a host take; None where they go directly.

        Args:
            host: as it stands in the backend's address, without brackets.
        """
        if self.proxy is None:
            return None
        host = plain_host(host)
        literal = literal_address(host)
        if literal is not None:
            literal = getattr(literal, "ipv4_mapped", None) or literal
            if not is_public(literal):
                return None
        elif not host or host in METADATA_NAMES or host == "localhost" or host.endswith(".localhost"):
            return None
        return None if any(exempt.holds(host, literal, port) for exempt in self.direct) else self.proxy


def plain_host(host: str) -> str:
    """A host as the network's names are: ASCII, lower case, without the dot at its end. What cannot be a name stays as
    it is but for case and dot."""
    with contextlib.suppress(UnicodeError):
        host = host.encode("idna").decode()
    return host.lower().rstrip(".")


def proxy_of(url: str) -> Proxy:
    """A proxy by its address, `http(s)://[USER:PASSWORD@]HOST[:PORT]`.

    Raises:
        ValueError: it is none. Nothing of the address is in the text, since it may hold a password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    graphic = all("!" <= letter <= "~" for letter in url)
    if parts.scheme not in ("http", "https") or not graphic or not host or port == 0:
        raise ValueError("it is no address of a proxy")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("something stands behind its host and port")
    authorization = ""
    if parts.username is not None:
        named = b"%b:%b" % (unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or ""))
        authorization = f"Basic {base64.b64encode(named).decode()}"
    tls = parts.scheme == "https"
    return Proxy(plain_host(host), port or (443 if tls else 80), tls, authorization)


def exempts_of(text: str) -> tuple[Exempt, ...]:
    """What is called without the proxy, as in NO_PROXY: names, addresses, networks, `NAME:PORT`, `*`; comma-separated.

    Raises:
        ValueError: naming what is none of them.
    """
    return tuple(_exempt(entry) for entry in text.lower().replace(",", " ").split())


def _exempt(entry: str) -> Exempt:
    if entry == "*":
        return Exempt("*")
    try:
        return Exempt(network=ip_network(entry, strict=False))
    except ValueError:
        pass
    found = _BRACKETS.fullmatch(entry) or _NAMED.fullmatch(entry)
    port = int(found["port"]) if found is not None and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise ValueError(f"{entry!r} is no name, address or network")
    literal = literal_address(found["name"])
    if literal is not None:
        return Exempt(network=ip_network(literal), port=port)
    if entry.startswith("["):
        raise ValueError(f"{entry!r} is no name, address or network")
    return Exempt(found["name"], port=port)
