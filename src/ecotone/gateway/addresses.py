"""Which addresses a backend may have. Administrators may name loopback and private hosts; never a cloud's metadata.

Checked when a backend is added; where a name leads is checked again at each connection (`plane.upstreams.Place`).
"""

import re
from urllib.parse import urlsplit

from yarl import URL

from ecotone.settings.addresses import METADATA_NAMES, is_forbidden, literal_address
from ecotone.vocabulary import Invalid

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PORT = "(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
ADDRESS = re.compile(
    rf"https?://(?:(?:{_LABEL}\.)*[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?|[1-9][0-9]?(?:\.[0-9]{{1,2}}){{3}}|"
    rf"1[0-9]{{2}}(?:\.[0-9]{{1,2}}){{3}}|\[::1\]){_PORT}(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{{0,200}})?"
)
"""What an address looks like to whoever writes one; each of these is taken, unless it leads astray."""


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
