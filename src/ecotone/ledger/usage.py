"""What settled requests add up to: a segment's records as sums by hour and by who used what.

The same records give the same sums, however they are read: at once, or piece by piece while they are written. Money is
in 10^-12 USD, in Python's integers.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ecotone.ledger import records
from ecotone.ledger.reading import Ledger

USD = 10**12
_ERRORS = frozenset({"failed", "upstream_died", "interrupted"})
_MARK = b'"kind":"settled"'
_LONGEST_LINE = 16 * 1024 * 1024
_MOST = 2**53


class UsageLine(msgspec.Struct, kw_only=True):
    """Usage of one model by one project. `estimates` counts requests whose tokens were estimated."""

    project: str
    model: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    estimates: int = 0


class Who(NamedTuple):
    """Whose usage of what, in which hour of UTC (`2026-11-28T07`). `tags` is `,a,b,` or empty; `user` is a hash."""

    hour: str
    project: str
    key: str
    user: str
    tags: str
    route: str
    backend: str
    model: str
    face: str


class Sums(msgspec.Struct, kw_only=True):
    """What was used. `unpriced` counts requests without a known price, `estimates` those whose tokens were estimated;
    `estimated_tokens` and `estimated_cost` are their part of the whole. `cached` counts answers from the cache."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    unpriced: int = 0
    estimates: int = 0
    estimated_tokens: int = 0
    estimated_cost: int = 0
    errors: int = 0
    cached: int = 0

    def add(self, other: "Sums") -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a segment was read: the byte behind a record, and that record's hash."""

    offset: int = 0
    hash: str = ""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a segment: from where to where, and what its records add up to."""

    begin: Place
    end: Place
    records: int
    sums: dict[Who, Sums]


class Moved(Exception):
    """A segment no longer has the record up to which it was read."""


def piece(segment: Path, begin: Place, most: int = 1024 * 1024) -> Piece | None:
    """What follows a place in a segment; None when no whole record does.

    Args:
        most: bytes to read at once; a longer record is read whole.

    Raises:
        Moved: the record before the place is another than it was.
    """
    with segment.open("rb") as file:
        if begin.offset:
            tail = f'"{begin.hash}"}}\n'.encode()
            file.seek(max(0, begin.offset - len(tail)))
            if file.read(len(tail)) != tail:
                raise Moved(f"{segment.parent.name}/{segment.name} at byte {begin.offset}")
        size, block = most, file.read(most)
        while b"\n" not in block and len(block) == size and size < _LONGEST_LINE:
            block += file.read(size)
            size *= 2
    block = block[: block.rfind(b"\n") + 1]
    if not block:
        return None
    lines = block.splitlines(keepends=True)
    parts = records.split(lines[-1])
    end = Place(
        offset=begin.offset + len(block), hash=parts[1] if parts is not None else lines[-1][-67:-3].decode("latin-1")
    )
    return Piece(begin=begin, end=end, records=len(lines), sums=summed(lines))


def summed(lines: Iterable[bytes]) -> dict[Who, Sums]:
    """What the settled records among these lines add up to."""
    found: dict[Who, Sums] = {}
    for line in lines:
        if _MARK in line and (record := records.decoded(line)) is not None and record["kind"] == "settled":
            add(found, record)
    return found


def add(found: dict[Who, Sums], record: Mapping[str, Any]) -> None:
    """Add one settled record; fields that earlier versions wrote otherwise are understood."""
    who = Who(
        _text(record, "at", 64)[:13],
        _text(record, "project", 96),
        _text(record, "key", 64),
        _text(record, "user", 96),
        tags_text(record.get("tags")),
        _text(record, "route", 200),
        _text(record, "backend", 96),
        _text(record, "model", 300),
        _text(record, "face", 32),
    )
    sums = found.get(who)
    if sums is None:
        sums = found[who] = Sums()
    prompt, completion = _count(record, "prompt_tokens"), _count(record, "completion_tokens")
    cost = cost_of(record)
    sums.requests += 1
    sums.prompt_tokens += prompt
    sums.completion_tokens += completion
    sums.cached_tokens += _count(record, "cached_tokens")
    sums.cache_write_tokens += _count(record, "cache_write_tokens")
    sums.reasoning_tokens += _count(record, "reasoning_tokens")
    sums.cost += cost or 0
    sums.unpriced += cost is None
    if record.get("estimate"):
        sums.estimates += 1
        sums.estimated_tokens += prompt + completion
        sums.estimated_cost += cost or 0
    status = record.get("status")
    sums.errors += status in _ERRORS
    sums.cached += status == "cached"


def cost_of(record: Mapping[str, Any]) -> int | None:
    """What a settled request cost in 10^-12 USD; None when its price is not known."""
    if "cost" in record:
        cost = record["cost"]
        return cost if isinstance(cost, int) and not isinstance(cost, bool) else None
    usd = record.get("cost_usd")  # until the prices came
    return round(usd * USD) if isinstance(usd, int | float) and abs(usd) < 1e12 else None


def tags_text(tags: Any) -> str:
    """Tags as one text `,a,b,`, sorted and each once; at most 32 of 64 characters."""
    if isinstance(tags, str):
        tags = [tags]
    if isinstance(tags, dict):
        tags = [f"{name}={value}" for name, value in tags.items()]
    if not isinstance(tags, list) or not tags:
        return ""
    return f",{','.join(sorted({str(tag).replace(',', ' ')[:64] for tag in tags[:32]}))},"


def _text(record: Mapping[str, Any], name: str, most: int) -> str:
    value = record.get(name)
    return value.replace("\0", "")[:most] if isinstance(value, str) else ""


def _count(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0


def usage(ledger: Ledger) -> list[UsageLine]:
    """Sums over all settled requests, by project and model; the same whenever they are computed anew."""
    found: dict[tuple[str, str], tuple[UsageLine, list[int]]] = {}
    for who, sums in _all(ledger):
        line, cost = found.setdefault((who.project, who.model), (UsageLine(project=who.project, model=who.model), [0]))
        line.requests += sums.requests
        line.prompt_tokens += sums.prompt_tokens
        line.completion_tokens += sums.completion_tokens
        line.estimates += sums.estimates
        line.unpriced += sums.unpriced
        cost[0] += sums.cost
    for line, cost in found.values():
        line.cost_usd = cost[0] / USD
    return [found[key][0] for key in sorted(found)]


def _all(ledger: Ledger) -> Iterator[tuple[Who, Sums]]:
    for record in ledger.records("settled"):
        one: dict[Who, Sums] = {}
        add(one, record)
        yield from one.items()
