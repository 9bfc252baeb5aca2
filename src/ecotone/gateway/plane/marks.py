"""What marks a request in its records: tags, of its key and those that its caller names in `x-ecotone-tags`,
comma-separated; and the caller's trace."""

import re
from collections.abc import Sequence
from typing import Final

from ecotone.gateway.answers import Refusal

MOST_TAGS: Final = 10
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_TRACE: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(told: bytes | None) -> bytes:
    """The caller's `traceparent`, by which its trace goes on here (W3C Trace Context, section 3.2); empty for what is
    none."""
    return told if told is not None and _TRACE.fullmatch(told) else b""


def tags_of(told: bytes | None, own: Sequence[str]) -> list[str]:
    """All tags of a request, each once.

    Args:
        told: the header's value.
        own: the key's.

    Raises:
        Refusal: 400 for what is no tag, and for too many.
    """
    if told is None:
        return list(own)
    named = [tag.strip() for tag in told.decode("latin-1").split(",") if tag.strip()]
    for tag in named:
        if not _TAG.fullmatch(tag):
            text = f"{tag[:64]!r} is no tag: 1 to 64 letters, digits, '.', '_', ':' or '-'."
            raise Refusal(400, "bad_tag", text, param="x-ecotone-tags")
    found = list(dict.fromkeys([*own, *named]))
    if len(found) > MOST_TAGS:
        raise Refusal(400, "bad_tag", f"A request has at most {MOST_TAGS} tags.", param="x-ecotone-tags")
    return found
