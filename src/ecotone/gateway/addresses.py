"""Which addresses a backend may have. Administrators may name loopback and private hosts; never a cloud's metadata.

Checked when a backend is added; where a name leads is checked again at each connection (`plane.upstreams.Place`).
"""

import re
from urllib.parse import urlsplit

from yarl import URL

from ecotone.settings.addresses import METADATA_NAMES, is_forbidden, literal_address
from ecotone.vocabulary import Invalid

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = rf"(?:{_LABEL}\.)*[A-Za-z](?:[A-Za-z0-9_-]{{0,61}}[A-Za-z0-9_])?"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"(?!169\.254\.)(?:22[0-3]|2[01][0-9]|1[0-9]{{2}}|[1-9][0-9]?)(?:\.{_OCTET}){{3}}"
_GROUP = "[0-9A-Fa-f]{1,4}"
_REST = "|".join(
    [rf"(?::{_GROUP}){{7}}"]
    + [rf"(?::{_GROUP}){{{n}}}::(?:{_GROUP}(?::{_GROUP}){{0,{5 - n}}})?" for n in range(6)]
    + [rf"(?::{_GROUP}){{6}}::"]
)
_IPV6 = rf"\[(?:::1|(?:[23][0-9A-Fa-f]{{3}}|[Ff][Dd][0-9A-Fa-f]{{2}})(?:{_REST}))\]"
_PORT = "(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
ADDRESS = re.compile(rf"https?://(?:{_NAME}|{_IPV4}|{_IPV6}){_PORT}(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{{0,200}})?")
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
