"""The answers that a ledger records, each with what made it: the end of a request joined with its beginning.

Read chain by chain in one pass, with the requests under way in memory and nothing else. A reading can go on where an
earlier one ended. A line that is torn or was changed is left out and counted.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec

from ecotone.ledger import records
from ecotone.ledger.left_open import LONGEST_SECONDS
from ecotone.ledger.reading import Ledger
from ecotone.ledger.segments import segments

COMPLETE: Final = frozenset({"done", "cached"})
_MOST_OPEN: Final = 50_000
_OPENED: Final = b'"kind":"opened"'
_SETTLED: Final = b'"kind":"settled"'


class Place(msgspec.Struct, frozen=True):
    """How far a chain was read: the number of its last record, and when that was written."""

    record: Annotated[int, msgspec.Meta(ge=0)]
    at: Annotated[datetime, msgspec.Meta(tz=True)]


class Answer(msgspec.Struct, kw_only=True):
    """One complete answer. `revision` is of weights, `base` an adapter's base (`NAME@REVISION`), `terms` the entry of
    the knowledge base under which a provider answered. `data_class` is the prompt's, None where it was not looked
    through; `ruling` the id of the decision; `texts` is `kept` where prompt and answer are."""

    request_id: str
    at: datetime
    kind: str = ""
    n: int = 0
    project: str | None = None
    face: str | None = None
    route: str | None = None
    model: str | None = None
    backend: str | None = None
    location: str | None = None
    revision: str | None = None
    base: str | None = None
    terms: str | None = None
    status: str | int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimate: bool | None = None
    ruling: str | None = None
    knowledge_base: str | None = None
    data_class: str | None = None
    pseudonymised: bool | None = None
    texts: str | None = None


_decoder = msgspec.json.Decoder(Answer)
_OF_OPENED: Final = (
    "location",
    "revision",
    "base",
    "terms",
    "ruling",
    "knowledge_base",
    "data_class",
    "pseudonymised",
)


class Answers:
    """One reading. Iterate once; then `places` tells where the next may begin, `damaged` how many lines were left out.

    Args:
        wanted: which to give.
        after: where an earlier reading ended, by chain.
    """

    def __init__(
        self, ledger: Ledger, wanted: Callable[[Answer], bool], *, after: Mapping[str, Place] | None = None
    ) -> None:
        self._ledger = ledger
        self._wanted = wanted
        self._after = after or {}
        self.places: dict[str, Place] = dict(self._after)
        self.damaged = 0

    def __iter__(self) -> Iterator[Answer]:
        for chain in self._ledger.chains():
            yield from self._of(chain)

    def _of(self, chain: Path) -> Iterator[Answer]:
        """Complete answers of a chain in the order in which they ended."""
        after = self._after.get(chain.name)
        known = after.record if after is not None else 0
        under_way: dict[str, Answer] = {}
        last = 0
        for line in self._lines(chain, after):
            found = self._read(line)
            if found is None or found.n <= last:  # what is being moved lies in two places
                continue
            last = found.n
            if found.kind == "opened":
                if len(under_way) >= _MOST_OPEN:
                    del under_way[next(iter(under_way))]
                under_way.pop(found.request_id, None)
                under_way[found.request_id] = found
                continue
            opened = under_way.pop(found.request_id, None)
            if found.n > known:
                self.places[chain.name] = Place(found.n, found.at)
                if found.status in COMPLETE and self._wanted(found):
                    yield _joined(opened, found)

    def _lines(self, chain: Path, after: Place | None) -> Iterator[bytes]:
        first = _since(segments(chain), after.at - timedelta(seconds=LONGEST_SECONDS)) if after is not None else 0
        for path, lines in self._ledger.pieces(chain):
            if path.stem.isdecimal() and int(path.stem) < first:
                continue
            for line in lines:
                head = line[:90]
                if _SETTLED in head or _OPENED in head:
                    yield line

    def _read(self, line: bytes) -> Answer | None:
        parts = records.split(line)
        try:
            if parts is not None and records.digest_of(parts[0]) == parts[1]:
                return _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        self.damaged += 1
        return None


def _joined(opened: Answer | None, end: Answer) -> Answer:
    if opened is not None:
        for name in _OF_OPENED:
            if getattr(end, name) is None:
                setattr(end, name, getattr(opened, name))
    return end


def _since(files: list[Path], moment: datetime) -> int:
    """The number of the last segment that begins before a moment; 0 when none does."""
    for segment in reversed(files):
        try:
            with segment.open("rb") as file:
                found = records.decoded(file.readline(1 << 20)) or {}
            began = datetime.fromisoformat(str(found.get("at")))
        except (FileNotFoundError, ValueError):
            continue
        if began < moment:
            return int(segment.stem)
    return 0
