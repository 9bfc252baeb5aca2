"""Pages of a listing: the cursor, opaque to clients, and the absolute address of the next page in `Link`."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.responses import Response

from ecotone.hub.endpoint import Call, answer
from ecotone.vocabulary import Invalid

T = TypeVar("T")
Key = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""The key of a row as a place in a listing."""


def next_page(call: Call, **changes: str) -> str:
    """The absolute public address of the same listing with other query parameters."""
    url = call.request.url.include_query_params(**changes)
    return f"{call.base}{call.request.scope['path']}?{url.query}"


def pack(place: Any) -> str:
    """A cursor for the place behind which the next page begins."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def unpack(call: Call, kind: type[T]) -> T | None:
    """The place that the request's cursor names; None without one.

    Raises:
        Invalid: for a cursor that was not made here.
    """
    cursor = call.query.get("cursor")
    if not cursor:
        return None
    try:
        packed = cursor.encode("ascii")
        place = base64.urlsafe_b64decode(packed + b"=" * (-len(packed) % 4))
        if b"\\u0000" in place:
            raise ValueError("no text of ours")
        return msgspec.json.decode(place, type=kind)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        raise Invalid("The cursor is not one that this server made; begin again without it.", param="cursor") from None


def page(call: Call, rows: Sequence[Any], *, more: Any = None, headers: dict[str, str] | None = None) -> Response:
    """The rows of a page; `more` is the place behind its last row when there are others."""
    headers = dict(headers or {})
    if more is not None:
        headers["link"] = f'<{next_page(call, cursor=pack(more))}>; rel="next"'
    return answer(rows, headers=headers)
