"""Addresses inside requests: pictures, sounds and films that whoever answers fetches, from where it stands.

A server in the house would fetch for a caller what the caller cannot reach. So such addresses are of the public network
unless the settings allow them. A name is not resolved here, as it is not we who connect; one that is of the house by
its form is refused.
"""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Raw
from msgspec.json import decode

from ecotone.gateway.answers import Refusal
from ecotone.gateway.parsing import Request
from ecotone.gateway.structure import bad_value
from ecotone.settings.addresses import METADATA_NAMES, literal_address
from ecotone.settings.allowed import Allowed

_MARK: Final = b'_url"'
_INSIDE: Final = (".local", ".localhost", ".internal", ".lan", ".intranet", ".corp", ".home.arpa")
_TEXTS: Final = ("messages", "prompt", "input")
_DATA: Final = re.compile(r"data:", re.IGNORECASE)


def may_hold(request: Request) -> bool:
    """Whether a body may hold an address: it names one in so many letters, or is written with escapes."""
    return _MARK in request.raw or (not request.canonical and b"\\u" in request.raw)


class Links:
    """The rule of one installation.

    Args:
        allowed: hosts and networks beside the public ones (`ECOTONE_REQUEST_ALLOW`).

    Raises:
        Invalid: for what is neither a host nor a network.
    """

    def __init__(self, allowed: str) -> None:
        self._allowed = Allowed(allowed, "ECOTONE_REQUEST_ALLOW")

    def check(self, request: Request) -> None:
        """Raises Refusal, 400, for an address that is not on the public network and not allowed."""
        for url in _links([request.value.get(name) for name in _TEXTS]):
            if not _DATA.match(url):
                self._check(url.strip())

    def _check(self, url: str) -> None:
        scheme = url.partition(":")[0].lower()
        if scheme == "file":
            raise _refused("a file of the machine that answers")
        if scheme not in ("http", "https"):
            return  # the data itself, or a store that is asked with its own keys
        try:
            host = (urlsplit(url).hostname or "").rstrip(".")
            if not host.isascii():  # full-width digits are digits
                host = host.encode("idna").decode("ascii").lower()
        except ValueError:
            host = ""
        if not host or "\\" in url or not url.isprintable():
            raise bad_value("An address in the messages cannot be read; send https://HOST/PATH.", "messages")
        if host in self._allowed.names:
            return
        literal = literal_address(host)
        if literal is not None:
            if not self._allowed.may_reach(host, str(literal)):
                raise _refused(host)
        elif host in METADATA_NAMES or "." not in host or host.endswith(_INSIDE):
            raise _refused(host)


def _refused(what: str) -> Refusal:
    return Refusal(
        400,
        "address_not_public",
        f"An address in the messages leads to {what}, which is not on the public network. Send the data itself "
        "(`data:...;base64,...`), or ask an administrator to allow it with ECOTONE_REQUEST_ALLOW.",
        param="messages",
    )


def _links(told: Any) -> Iterator[str]:
    """What stands under a key that ends with `_url`, as text or as its `url`."""
    todo = [told]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += item
        elif isinstance(item, dict):
            for key, value in item.items():
                if isinstance(value, Raw):  # of a long body that was skimmed
                    value = decode(value)
                if key.endswith("_url"):
                    url = value.get("url") if isinstance(value, dict) else value
                    if isinstance(url, str):
                        yield url
                todo.append(value)
