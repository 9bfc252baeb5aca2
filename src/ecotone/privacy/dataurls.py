"""Data URLs (RFC 2397): what they hold, as far as it is text. Knows nothing of what is sensitive."""

import base64
import binascii
import re
import urllib.parse
from typing import Final

import msgspec

_HEAD: Final = re.compile(r"data:([^\s,;]{0,100})((?:;[^\s,;]{0,100}){0,5}),", re.IGNORECASE)


class DataUrl(msgspec.Struct, frozen=True):
    """A text that is a data URL.

    Args:
        head: up to and with the comma.
        body: as it stands behind it.
        base64: whether the body is in base64.
        text: the text that it holds; `None` when that is no text, or no base64 to the last character.
    """

    head: str
    body: str
    base64: bool
    text: str | None

    def holding(self, text: str) -> str:
        """The body with another text in it."""
        if self.base64:
            return base64.b64encode(text.encode()).decode()
        return text.replace("%", "%25").replace("#", "%23")


def data_url(text: str) -> DataUrl | None:
    """The text as a data URL; `None` when it does not have the form of one."""
    head = _HEAD.match(text)
    if head is None:
        return None
    kind, parameters, body = head.group(1).lower(), head.group(2).lower().split(";"), text[head.end() :]
    if "base64" not in parameters:
        return DataUrl(head.group(), body, False, urllib.parse.unquote(body))
    told = _decoded(body) if not kind or kind.startswith("text/") or kind.endswith(("json", "xml", "yaml")) else None
    return DataUrl(head.group(), body, True, told)


def _decoded(body: str) -> str | None:
    """The text in strict base64; what has zero bytes is text in another encoding, or none."""
    try:
        told = base64.b64decode(urllib.parse.unquote(body), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return None if "\0" in told else told
