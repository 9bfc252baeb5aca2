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
_QUOTE: Final = ord('"')
_NESTED: Final = frozenset({list, dict})
_DATA: Final = re.compile(r"data:", re.IGNORECASE)


def may_hold(request: Request) -> bool:
    """Whether a body may hold an address: there is more than plain texts, and it names one in so many letters or is
    written with escapes."""
    value = request.value
    messages = value.get("messages")
    has_parts = type(messages) is list and _has_parts(messages)
    if not (has_parts or type(value.get("input")) is list or type(value.get("prompt")) is list):
        return False
    return _MARK in request.raw or (not request.canonical and b"\\u" in request.raw)


def _has_parts(messages: list[Any]) -> bool:
    """Whether anything in messages is no text. Most have none, and few are looked at faster than many bytes."""
    for message in messages:
        if type(message) is not dict:
            return True
        for key, told in message.items():
            if type(told) is not str and told is not None and not (type(told) is Raw and memoryview(told)[0] == _QUOTE):
                return True
            if key.endswith("_url"):
                return True
    return False


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
        if type(item) is list:
            todo += [each for each in item if type(each) in _NESTED]
        elif type(item) is dict:
            for key, value in item.items():
                is_link = key.endswith("_url")
                if type(value) is Raw:  # of a long body that was skimmed
                    if not is_link and memoryview(value)[0] == _QUOTE:
                        continue
                    value = decode(value)
                if is_link:
                    url = value.get("url") if type(value) is dict else value
                    if type(url) is str:
                        yield url
                if type(value) in _NESTED:
                    todo.append(value)
