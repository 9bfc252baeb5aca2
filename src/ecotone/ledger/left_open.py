"""What a part of a chain leaves open, and what it ends of the parts before it.

A chain is read for that from its end. A part needs to be read once: of what it says about requests nothing counts but
the beginnings that nothing in it ends, and the ends of what began before it. Those of neighbours are joined in order.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from ecotone.ledger.records import decoded

LONGEST_SECONDS = 6 * 3600.0
"""No request runs longer; what was opened earlier than this before a chain's end was settled."""
_FORM: Final = re.compile(
    rb'\{"n":\d+,"at":"([^"]*)","kind":"(opened|settled|failed|started)","prev":"[0-9a-f]{64}"'
    rb'(?:,"request_id":"([^"\\]*)")?'
)
"""How a record begins that opens or closes a request: moment, kind and, where that comes first, the request's id."""


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """A record that opened a request: the request's id, the moment, the line."""

    request_id: bytes
    at: bytes
    line: bytes


class LeftOpen(msgspec.Struct, array_like=True):
    """Of a part of a chain, which may be a whole segment.

    `opened`: what nothing in the part ends, newest first. `ended`: by request, how many ends there are of what began
    before the part. `first` and `last`: the moments of its earliest and of its last record that opens or ends; empty
    without any. `started`: nothing before the part matters, as a record in it says that all was settled.
    """

    opened: list[Opened] = []
    ended: dict[bytes, int] = {}
    first: bytes = b""
    last: bytes = b""
    started: bool = False


def left_open(lines: Iterable[bytes]) -> LeftOpen:
    """Of whole lines, newest first. A line is decoded only where the id of its request does not come first."""
    found = LeftOpen()
    opened, ended = found.opened, found.ended
    for line in lines:
        parts = _FORM.match(line)
        if parts is None:
            continue
        at, kind, request_id = parts.groups()
        if kind == b"started":
            found.started = True
            break
        found.last = found.last or at
        if not found.first or at < found.first:
            found.first = at
        if request_id is None:
            request_id = str((decoded(line) or {}).get("request_id", "")).encode("utf-8", "surrogatepass")
        if kind != b"opened":
            ended[request_id] = ended.get(request_id, 0) + 1
        elif not _end(ended, request_id):
            opened.append(Opened(request_id, at, line))
    return found


def joined(parts: Iterable[LeftOpen]) -> list[dict[str, Any]]:
    """The `opened` records that nothing closes, oldest first.

    Args:
        parts: of a chain, its last one first; no more of them are taken than matter.
    """
    ended: dict[bytes, int] = {}
    found: dict[bytes, dict[str, Any]] = {}
    earliest = b""
    for part in parts:
        earliest = earliest or _before(part.last)
        for opened in part.opened:
            if opened.at < earliest or _end(ended, opened.request_id) or opened.request_id in found:
                continue
            if (record := decoded(opened.line)) is not None:
                found[opened.request_id] = record
        if part.started or (part.first and part.first < earliest):
            break
        for request_id, ends in part.ended.items():
            ended[request_id] = ended.get(request_id, 0) + ends
    return list(reversed(found.values()))


def _end(ended: dict[bytes, int], request_id: bytes) -> bool:
    """Take one end of a request away, if there is any."""
    ends = ended.pop(request_id, 0)
    if ends > 1:
        ended[request_id] = ends - 1
    return ends > 0


def _before(at: bytes) -> bytes:
    """A moment as long before another one as no request lasts; empty when it is none."""
    try:
        moment = datetime.fromisoformat(at.decode()) - timedelta(seconds=LONGEST_SECONDS)
    except ValueError:
        return b""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
