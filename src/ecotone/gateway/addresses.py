"""Which addresses a backend may have. Administrators may name loopback and private hosts; never a cloud's metadata.

Checked when a backend is added, in the form that the HTTP client makes of it, and again at each connection: by
`GuardedResolver`, as a name may lead elsewhere later, and by `guarded_socket`, which sees what no resolver sees.
"""

import socket
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from ecotone.settings.addresses import METADATA_NAMES, is_forbidden, literal_address
from ecotone.vocabulary import Invalid


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
    if host in METADATA_NAMES:
        raise Invalid("That address leads to a cloud's metadata service.", param="url")
    literal = literal_address(host)
    if literal is not None and is_forbidden(literal):
        raise Invalid(
            f"{literal} is no address of a provider (link-local, metadata, multicast or unspecified).", param="url"
        )


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
