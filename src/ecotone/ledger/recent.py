"""The newest requests of a ledger, read from the ends of its chains; bounded in bytes, whatever the ledger's size."""

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from ecotone.ledger.reading import Ledger

MOST_BYTES = 64 * 1024 * 1024
_BLOCK = 256 * 1024
_MOST_OPEN = 50_000
_HEAD = slice(0, 80)
_OPENED, _SETTLED, _REFUSED = (f'"kind":"{kind}"'.encode() for kind in ("opened", "settled", "refused"))


class RequestLine(msgspec.Struct, kw_only=True):
    """One request as a list shows it. `at` is when it came, or, if that is not found, when it ended.

    `status` is `open` for one that has not ended. `cost` is in 10^-12 USD, None where it is not known.
    """

    request_id: str
    at: datetime
    kind: str = ""
    project: str | None = None
    face: str | None = None
    asked: str | None = None
    route: str | None = None
    model: str | None = None
    backend: str | None = None
    data_class: str | None = None
    status: str | int | None = None
    code: str | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimate: bool | None = None
    cost: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None

    @property
    def failed(self) -> bool:
        return self.status not in ("done", "cached", "client_gone", "open")


_decoder = msgspec.json.Decoder(RequestLine)
_fields = RequestLine.__struct_fields__


def newest(
    ledger: Ledger,
    wanted: Callable[[RequestLine], bool],
    *,
    most: int,
    before: datetime | None = None,
    most_bytes: int = MOST_BYTES,
) -> list[RequestLine]:
    """The newest requests for which `wanted` is true, newest first.

    Args:
        most: how many at most.
        before: only those that came before.
        most_bytes: of all chains together that are looked through, newest first.
    """
    chains = ledger.chains()
    each = most_bytes // max(1, len(chains))
    lines = (_of(chain, before, each) for chain in chains)
    found = heapq.merge(*lines, key=lambda line: line.at, reverse=True)
    return list(islice((f for f in found if wanted(f) and (before is None or f.at < before)), most))


def _of(chain: Path, before: datetime | None, most_bytes: int) -> Iterator[RequestLine]:
    """Requests of one chain, newest first: an end is met before its beginning."""
    ended: dict[str, RequestLine] = {}
    told: set[str] = set()
    for line in _backwards(chain, before, most_bytes):
        head = line[_HEAD]
        if _OPENED in head or _SETTLED in head or _REFUSED in head:
            try:
                record = _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if record.kind == "refused":
                yield record
            elif record.kind == "settled":
                if len(ended) < _MOST_OPEN:
                    ended[record.request_id] = record
            else:
                if record.request_id in told:  # an earlier attempt of a request that was told
                    continue
                if len(told) < _MOST_OPEN:
                    told.add(record.request_id)
                yield _joined(record, ended.pop(record.request_id, None))
    yield from sorted(ended.values(), key=lambda line: line.at, reverse=True)


def _joined(opened: RequestLine, end: RequestLine | None) -> RequestLine:
    known: dict[str, Any] = {"status": "open"}
    if end is not None:
        known = {f: v for f in _fields if (v := getattr(end, f)) is not None}
    return msgspec.structs.replace(opened, **(known | {"at": opened.at}))


def _backwards(chain: Path, before: datetime | None, most_bytes: int) -> Iterator[bytes]:
    """Lines from the end of a chain; segments that begin after `before` are passed over."""
    left = most_bytes
    for _, file in Ledger(chain.parent).opened(chain, newest_first=True):
        if before is not None and _begins_after(file.readline(4096), before):
            continue
        at = file.seek(0, 2)
        rest = b""
        while at > 0 and left > 0:
            step = min(_BLOCK, at)
            at -= step
            left -= step
            file.seek(at)
            first, *whole = (file.read(step) + rest).split(b"\n")
            yield from reversed(whole)
            rest = first
        if at == 0:
            yield rest
        if left <= 0:
            return


def _begins_after(line: bytes, before: datetime) -> bool:
    start = line.find(b'"at":"') + 6
    try:
        return datetime.fromisoformat(line[start : start + 27].decode()) > before
    except ValueError:
        return False
