"""Where deliveries may go: the public network, and what the settings name inside of the house. Never to metadata.

A URL is checked when it is given; the addresses that its host leads to are checked at each delivery, and the connection
is made to an address that was checked.
"""

import asyncio
import contextlib
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from yarl import URL

from ecotone.settings.addresses import METADATA_NAMES, is_forbidden, literal_address
from ecotone.settings.allowed import Allowed
from ecotone.vocabulary import Invalid

MOST_URL = 500


class Targets(Allowed):
    """The rule of one installation.

    Args:
        allowed: hosts and networks beside the public ones, comma-separated (`ECOTONE_WEBHOOK_ALLOW`).

    Raises:
        Invalid: for what is neither a host nor a network.
    """

    def __init__(self, allowed: str = "") -> None:
        super().__init__(allowed, "ECOTONE_WEBHOOK_ALLOW")

    def check_url(self, url: str) -> None:
        """Refuse what no delivery can go to, as far as the URL alone shows it; names are looked up at delivery.

        Raises:
            Invalid: saying what was expected.
        """
        try:
            parts, host, port = urlsplit(url), host_of(url), urlsplit(url).port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        if parts.scheme not in ("http", "https") or not host or port == 0 or not url.isprintable() or " " in url:
            raise Invalid("The url is no address; expected is e.g. https://ci.example.com/hook.", param="url")
        if len(url) > MOST_URL:
            raise Invalid(f"The url is longer than {MOST_URL} characters.", param="url")
        if parts.username or parts.password:
            raise Invalid("The url holds a user or password, which others would see; use a secret.", param="url")
        literal = literal_address(host)
        if host in METADATA_NAMES or (literal is not None and is_forbidden(str(literal))):
            raise Invalid(
                "That address is link-local, of cloud metadata or of no host; no webhook goes there.", param="url"
            )
        if literal is not None and not self.may_reach(host, str(literal)):
            raise Invalid(
                "That address is not on the public network; an administrator may allow it with ECOTONE_WEBHOOK_ALLOW.",
                param="url",
            )

    def resolver(self, host: str) -> AbstractResolver:
        """Resolves names for one delivery and leaves out addresses that it may not be made to."""
        return _Resolver(self, host)

    def socket_factory(self, host: str) -> Any:
        """Makes sockets for one delivery, and none for an address that it may not be made to."""

        def made(told: AddrInfoType) -> socket.socket:
            family, kind, protocol, _, address = told
            if not self.may_reach(host, str(address[0])):
                raise OSError(None, REFUSED)
            return socket.socket(family, kind, protocol)

        return made


REFUSED = "the host leads to an address that is not on the public network"


def host_of(url: str) -> str:
    """The host as a connection is made to it: without case, IDNA encoded."""
    return (URL(url).raw_host or "").lower().rstrip(".")


class _Resolver(AbstractResolver):
    """Each look-up has a thread of its own that ends with the process: a name server that never answers must take none
    of the threads in which the rest of the server works."""

    def __init__(self, targets: Targets, host: str) -> None:
        self._targets = targets
        self._host = host

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = [_result(host, told) for told in await _looked_up(host, port, family)]
        kept = [address for address in found if self._targets.may_reach(self._host, address["host"])]
        if not kept:
            raise OSError(None, REFUSED)
        return kept

    async def close(self) -> None:
        """Nothing is held."""


def _looked_up(host: str, port: int, family: int) -> "asyncio.Future[list[AddrInfoType]]":
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[AddrInfoType]] = loop.create_future()

    def settle(found: list[AddrInfoType], error: Exception | None) -> None:
        if answer.done():  # nobody waits any more
            return
        answer.set_result(found) if error is None else answer.set_exception(error)

    def look_up() -> None:
        found: list[AddrInfoType] = []
        error: Exception | None = None
        try:
            found = list(socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as problem:
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found, error)

    threading.Thread(target=look_up, name="webhook name", daemon=True).start()
    return answer


def _result(hostname: str, told: AddrInfoType) -> ResolveResult:
    family, _, protocol, _, address = told
    return ResolveResult(
        hostname=hostname,
        host=str(address[0]),
        port=int(address[1]),
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
