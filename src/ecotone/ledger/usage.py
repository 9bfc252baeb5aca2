"""What settled requests add up to: a segment's records as sums by hour and by who used what.

The same records give the same sums, however they are read: at once, or piece by piece while they are written. Money is
in 10^-12 USD, in Python's integers.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ecotone.ledger import records
from ecotone.ledger.reading import Ledger

USD = 10**12
_ERRORS = frozenset({"failed", "upstream_died", "interrupted"})
_MARK = b'"kind":"settled"'
_FAILED, _COST = b'"kind":"failed"', b'"cost":'
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


class Piece(msgspec.Struct, frozen=True):
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


class _Settled(msgspec.Struct):
    """The fields that count, as the gateway writes them."""

    at: str
    kind: str
    project: str | None = None
    key: str | None = None
    user: str | None = None
    tags: list[str] | None = None
    route: str | None = None
    backend: str | None = None
    model: str | None = None
    face: str | None = None
    status: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimate: bool = False
    cost: int | msgspec.UnsetType | None = msgspec.UNSET
    cost_usd: float | None = None


_decoder = msgspec.json.Decoder(_Settled)
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


def summed(lines: Iterable[bytes]) -> dict[Who, Sums]:
    """What the settled records among these lines add up to; fields of earlier versions and odd ones are understood.

    A call that failed and that its backend may take money for counts as well; another backend may have answered then.
    """
    found: dict[Who, Sums] = {}
    known: dict[Any, Sums] = {}
    for line in lines:
        if _MARK not in line and not (_FAILED in line and _COST in line):
            continue
        try:
            settled = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            record = records.decoded(line)
            if record is None:
                continue
            settled = _understood(record)
        if settled.kind == "settled" or (settled.kind == "failed" and settled.cost is not msgspec.UNSET):
            _add(found, known, settled)
    return found


def _add(found: dict[Who, Sums], known: dict[Any, Sums], settled: _Settled) -> None:
    tags = tuple(settled.tags) if settled.tags else None
    named = (
        settled.project,
        settled.key,
        settled.user,
        tags,
        settled.route,
        settled.backend,
        settled.model,
        settled.face,
    )
    key = (settled.at[:13], named)
    sums = known.get(key)
    if sums is None:
        sums = known[key] = found.setdefault(_who(settled), Sums())
    prompt, completion, cost = settled.prompt_tokens, settled.completion_tokens, settled.cost
    if cost is msgspec.UNSET:  # until the prices came
        usd = settled.cost_usd
        cost = round(usd * USD) if usd is not None and abs(usd) < 1e12 else None
    sums.requests += 1
    if not (0 <= prompt < _MOST and 0 <= completion < _MOST):
        prompt, completion = max(0, prompt) % _MOST, max(0, completion) % _MOST
    sums.prompt_tokens += prompt
    sums.completion_tokens += completion
    if settled.cached_tokens > 0:
        sums.cached_tokens += settled.cached_tokens
    if settled.cache_write_tokens > 0:
        sums.cache_write_tokens += settled.cache_write_tokens
    if settled.reasoning_tokens > 0:
        sums.reasoning_tokens += settled.reasoning_tokens
    if cost is None:
        sums.unpriced += 1
    else:
        sums.cost += cost
    if settled.estimate:
        sums.estimates += 1
        sums.estimated_tokens += prompt + completion
        sums.estimated_cost += cost or 0
    if settled.status != "done":
        sums.errors += settled.status in _ERRORS
        sums.cached += settled.status == "cached"


def _who(settled: _Settled) -> Who:
    return Who(
        _text(settled.at, 13),
        _text(settled.project, 96),
        _text(settled.key, 64),
        _text(settled.user, 96),
        tags_text(settled.tags),
        _text(settled.route, 200),
        _text(settled.backend, 96),
        _text(settled.model, 300),
        _text(settled.face, 32),
    )


def _understood(record: Mapping[str, Any]) -> _Settled:
    """A record with fields of other kinds than those that count; what is none counts nothing."""
    texts = ("at", "kind", "project", "key", "user", "route", "backend", "model", "face", "status")
    told: dict[str, Any] = {n: v for n in texts if isinstance(v := record.get(n), str)}
    told |= {
        n: v for n in _TOKENS if isinstance(v := record.get(n), int) and not isinstance(v, bool) and 0 <= v < _MOST
    }
    tags = record.get("tags")
    if isinstance(tags, dict):
        told["tags"] = [f"{name}={value}" for name, value in tags.items()]
    elif isinstance(tags, list | str):
        told["tags"] = [str(tag) for tag in ([tags] if isinstance(tags, str) else tags)]
    if "cost" in record:
        cost = record["cost"]
        told["cost"] = cost if isinstance(cost, int) and not isinstance(cost, bool) else None
    elif isinstance(record.get("cost_usd"), int | float):
        told["cost_usd"] = float(record["cost_usd"])
    return _Settled(**{"at": "", "kind": "", **told, "estimate": bool(record.get("estimate"))})


def tags_text(tags: list[str] | None) -> str:
    """Tags as one text `,a,b,`, sorted and each once; at most 32 of 64 characters."""
    if not tags:
        return ""
    return f",{','.join(sorted({_text(tag, 64).replace(',', ' ') for tag in tags[:32]}))},"


def _text(value: str | None, most: int) -> str:
    """A text that every database takes."""
    return value.replace("\0", "")[:most] if value else ""


def usage(ledger: Ledger) -> list[UsageLine]:
    """Sums over all settled requests, by project and model; the same whenever they are computed anew."""
    found: dict[tuple[str, str], tuple[UsageLine, list[int]]] = {}
    for who, sums in summed(ledger.lines()).items():
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
