"""A provider's key: read from the environment at the moment of a call, and taken out of whatever comes back."""

import os
import re
from typing import Final

_SHORTEST: Final = 8
_HIDDEN: Final = "[key]"
_BEARER: Final = re.compile(r"\b(bearer\s{1,4})[^\s\"'<>,;{}\[\]]{8,}", re.IGNORECASE)


def provider_key(variable: str | None) -> str:
    """The key that a variable of the server's environment holds; empty when there is none."""
    return os.environ.get(variable, "").strip() if variable else ""


def without_key(text: str, key: str) -> str:
    """An upstream's error text without our key and without any bearer's secret."""
    if len(key) >= _SHORTEST:
        text = text.replace(key, _HIDDEN)
    return _BEARER.sub(rf"\1{_HIDDEN}", text)


def without_key_bytes(data: bytes, key: str) -> bytes:
    """A piece of an answer without our key."""
    return data.replace(key.encode(), _HIDDEN.encode()) if len(key) >= _SHORTEST else data
